"""Encoders and decoders. A decoder's contract is `Decoder`; one's own need not inherit from it."""

from tf_savae.networks.decoder import Decoder
from tf_savae.networks.dilated_conv import DilatedConvDecoder
from tf_savae.networks.lstm import LSTMDecoder, LSTMEncoder
from tf_savae.networks.pixelcnn import GatedPixelCNN
from tf_savae.networks.resnet import ResNetEncoder
from tf_savae.networks.text_lstm import TextLSTMDecoder, TextLSTMEncoder

__all__ = [
  "Decoder",
  "DilatedConvDecoder",
  "GatedPixelCNN",
  "LSTMDecoder",
  "LSTMEncoder",
  "ResNetEncoder",
  "TextLSTMDecoder",
  "TextLSTMEncoder",
]
