"""Encoders and decoders. A decoder's contract is `Decoder`; one's own need not inherit from it, see `register`."""

from __future__ import annotations

from tf_savae import lazy
from tf_savae.networks.catalogue import DECODERS, ENCODERS, Network, register

_HOMES = {
  "BatchNormalizedEncoder": "tf_savae.networks.normalized",
  "BagOfWordsEncoder": "tf_savae.networks.bag_of_words",
  "ConditionalDecoder": "tf_savae.networks.conditional",
  "ConditionalEncoder": "tf_savae.networks.conditional",
  "ConvDecoder": "tf_savae.networks.conv",
  "Decoder": "tf_savae.networks.decoder",
  "DilatedConvDecoder": "tf_savae.networks.dilated_conv",
  "FullCovarianceEncoder": "tf_savae.networks.full_covariance",
  "GatedPixelCNN": "tf_savae.networks.pixelcnn",
  "LSTMDecoder": "tf_savae.networks.lstm",
  "LSTMEncoder": "tf_savae.networks.lstm",
  "LatePixelCNN": "tf_savae.networks.late_pixelcnn",
  "LateSoftmaxDecoder": "tf_savae.networks.late_softmax",
  "MLPDecoder": "tf_savae.networks.mlp",
  "ResNetEncoder": "tf_savae.networks.resnet",
  "TextLSTMDecoder": "tf_savae.networks.text_lstm",
  "TextLSTMEncoder": "tf_savae.networks.text_lstm",
}
__all__ = ["DECODERS", "ENCODERS", "Network", "register", *_HOMES]
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
