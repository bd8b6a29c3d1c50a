"""Encoders and decoders. A decoder's contract is `Decoder`; one's own need not inherit from it."""

from tf_savae.networks.base import Decoder
from tf_savae.networks.lstm import LSTMDecoder, LSTMEncoder
from tf_savae.networks.pixelcnn import GatedPixelCNN
from tf_savae.networks.resnet import ResNetEncoder

__all__ = ["Decoder", "GatedPixelCNN", "LSTMDecoder", "LSTMEncoder", "ResNetEncoder"]
