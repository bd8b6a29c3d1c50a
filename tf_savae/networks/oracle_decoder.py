"""A decoder that is the oracle of the synthetic data, as in the paper's column "Oracle Gen"."""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_savae.data.oracle import LATENT, Oracle
from tf_savae.networks.lstm import LSTMDecoder


def oracle_decoder(oracle: Oracle, **options: Any) -> LSTMDecoder:
  """The network whose p(x | z) is the oracle's, with its weights as constants.

  Args:
    oracle: where the data come from.
    **options: of the layer, such as `dtype`.
  """
  decoder = LSTMDecoder(
    oracle.vocab_size,
    LATENT,
    oracle.embedding.shape[1],
    oracle.recurrent_kernel.shape[0],
    length=oracle.length,
    latent_to_logits=oracle.reading == "output_layer",
    trainable=False,
    **options,
  )
  embedding = oracle.embedding.shape[1]
  if oracle.reading == "output_layer":
    bias, latent_kernel = oracle.output_bias, oracle.latent_output.T
  else:
    bias, latent_kernel = np.zeros(oracle.vocab_size), _reordered(oracle.kernel[embedding:])
  values = {
    "embedding": oracle.embedding,
    "kernel": _reordered(oracle.kernel[:embedding]),
    "recurrent": _reordered(oracle.recurrent_kernel),
    "bias": _reordered(oracle.bias),
    "logit_kernel": oracle.output.T,
    "logit_bias": bias,
    "latent_kernel": latent_kernel,
  }
  for name, value in values.items():
    getattr(decoder, name).assign(value)
  return decoder


def _reordered(weights: np.ndarray) -> np.ndarray:
  """From Keras's order of the gates, input, forget, candidate, output, to input, forget, output, candidate."""
  i, f, candidate, o = np.split(weights, 4, axis=-1)
  return np.concatenate([i, f, o, candidate], axis=-1)


def decoder_for(
  data: Any, latent_dim: int, *, generator: str, oracle: str, seed: int, dtype: str, **options: Any
) -> LSTMDecoder:
  """The decoder for token sequences, learned or the oracle itself; see `tf_savae.networks.Network`.

  A learned one sees z where the oracle sees it.
  """
  if generator == "oracle":
    return oracle_decoder(data.oracle, seed=seed, dtype=dtype)
  return LSTMDecoder(
    data.vocab_size,
    latent_dim,
    latent_to_logits=oracle == "output_layer",
    seed=seed,
    dtype=dtype,
    **options,
  )
