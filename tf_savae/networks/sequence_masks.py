"""Random masks of sequence decoders: a token's mask does not depend on how far its batch is padded."""

from __future__ import annotations

import tensorflow as tf

from tf_savae import tokens
from tf_savae.networks.decoder import dropout_mask


def drop_words(inputs: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
  """A decoder's inputs `[batch, length]` with a share of their tokens, never START, replaced by UNKNOWN.

  "Word dropout" of Bowman et al. 2016, "word-drop" in the paper's table.

  Args:
    inputs: token ids, int32.
    rate: the share, in [0, 1).
    seed: stateless seed, `[2]` int32.
  """
  # Drawn with the position first, here and below: numbers that come later belong to padding.
  batch, length = tf.unstack(tf.shape(inputs))
  dropped = tf.transpose(tf.random.stateless_uniform([length, batch], seed) < rate)
  return tf.where(dropped & (inputs != tokens.START), tokens.UNKNOWN, inputs)


def sequence_dropout_mask(
  inputs: tf.Tensor, width: int, rate: float, seed: tf.Tensor | None, dtype: str
) -> tf.Tensor:
  """Inverted dropout mask `[batch, length, width]` for inputs `[batch, length]`; see `dropout_mask`."""
  batch, length = tf.unstack(tf.shape(inputs))
  return tf.transpose(dropout_mask([length, batch, width], rate, seed, dtype), [1, 0, 2])
