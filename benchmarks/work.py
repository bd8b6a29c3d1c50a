"""How much arithmetic a decoder pass is, from its sizes alone."""

from __future__ import annotations

from benchmarks import workloads
from tf_savae.ops import columns
from tf_savae.runs.config import RunConfig


def decoder_pass(config: RunConfig, num_tokens: int, ours: bool = True) -> float:
  """Floating-point operations of one forward pass for a batch (U): two for every multiply-add of a weight.

  What is computed once for all refinement steps, the image's or the tokens' part of the first layer, does not count,
  nor do additions, gates and normalisations.

  Args:
    config: of a workload.
    num_tokens: text: tokens of every document.
    ours: with wide convolutions by spectra where the product computes them so, not directly.
  """
  per_example = _pixelcnn(config, ours) if config.dataset == "omniglot" else _lstm(config, num_tokens)
  return 2.0 * config.batch_size * per_example


def _pixelcnn(config, ours):
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


def _lstm(config, num_tokens):
  """Multiply-adds of a row of tokens."""
  length = num_tokens if config.dataset == "text" else workloads.SYNTHETIC_LENGTH
  hidden = config.hidden_dim
  from_latent = config.latent_dim * 4 * hidden + (config.dataset == "text") * config.latent_dim * hidden
  a_token = hidden * 4 * hidden + hidden * workloads.vocabulary_size(config)
  return from_latent + length * a_token
