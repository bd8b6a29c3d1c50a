"""The arithmetic of a decoder pass, from its sizes alone."""

from __future__ import annotations

from benchmarks import workloads
from tf_savae.ops import columns
from tf_savae.runs.config import RunConfig


def decoder_pass(config: RunConfig, num_tokens: int, ours: bool = True) -> float:
  """Floating-point operations of one forward pass for a batch (U): two for every multiply-add of a weight.

  The image's or the tokens' part of the first layer is computed once for all refinement steps and does not count, nor
  do additions, gates and normalisations.

  Args:
    config: of a workload.
    num_tokens: text: tokens of every document.
    ours: with wide convolutions by spectra where the product computes them so, not directly.
  """
  return 2.0 * config.batch_size * _PER_EXAMPLE[config.kind](config, num_tokens, ours)


def _pixelcnn(config, _, ours):
  """Multiply-adds of an image."""
  side, c = workloads.IMAGE_SIDE, config.decoder_channels
  pixels, rows_above = side * side, side * (side - 1)  # vertical maps lack a row
  total = config.latent_dim * (rows_above + pixels) * 2 * c  # z's part of the first layer
  for i, k in enumerate(config.decoder_kernels):
    reach = k // 2 + 1
    if i:
      above = _spectral(side, k, c) if ours and columns.by_fourier(k, c) else side * reach * k * c * 2 * c
      total += (side - 1) * above + pixels * reach * c * 2 * c
    total += rows_above * 2 * c * 2 * c + pixels * c * c
  return total + pixels * c


def _spectral(width, k, c):
  """Multiply-adds of a row of a vertical convolution: to spectra, their products, and back."""
  period = width + k // 2 + (width + k // 2) % 2
  return period * width * c + (period // 2) * (k // 2 + 1) * 2 * c * 2 * 2 * c + period * width * 2 * c


def _sequence(config, num_tokens, _):
  """Multiply-adds of a row of synthetic tokens, whose number is fixed."""
  del num_tokens
  return _lstm(config, workloads.SYNTHETIC_LENGTH)


def _document(config, num_tokens, _):
  """Multiply-adds of a document, whose state z starts, too."""
  return _lstm(config, num_tokens) + config.latent_dim * config.hidden_dim


def _lstm(config, length):
  hidden = config.hidden_dim
  a_token = hidden * 4 * hidden + hidden * workloads.vocabulary_size(config)
  return config.latent_dim * 4 * hidden + length * a_token


_PER_EXAMPLE = {"image": _pixelcnn, "tokens": _sequence, "text": _document}
