"""Random numbers of decoders: dropout, dropped words, and draws of tokens.

In sequences, a token's mask does not depend on how far its batch is padded.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tf_savae import replicas, tokens
from tf_savae.errors import UserError


def dropout_mask(
  shape: Any, rate: float, seed: tf.Tensor | None, dtype: str, rows_axis: int = 0
) -> tf.Tensor:
  """Inverted dropout mask: 0 with probability `rate`, else 1 / (1 − rate).

  Args:
    shape: of the mask.
    rate: in [0, 1).
    seed: stateless seed, `[2]` int32.
    dtype: of the mask.
    rows_axis: the dimension of the batch's rows.

  Returns:
    The mask, a function of (shape, rate, seed). A row has that of its place in the batch of all devices.

  Raises:
    UserError: `seed` is None.
  """
  if seed is None:
    raise UserError(f"dropout {rate} in training mode needs a seed, received None: pass a [2] int32 seed")
  uniform = replicas.draw_rows(lambda s: tf.random.stateless_uniform(s, seed), shape, rows_axis)
  keep = uniform >= rate
  return tf.cast(keep, dtype) / tf.constant(1.0 - rate, dtype)


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
  uniform = replicas.draw_rows(lambda s: tf.random.stateless_uniform(s, seed), [length, batch], axis=1)
  dropped = tf.transpose(uniform < rate)
  return tf.where(dropped & (inputs != tokens.START), tokens.UNKNOWN, inputs)


def sequence_dropout_mask(
  inputs: tf.Tensor, width: int, rate: float, seed: tf.Tensor | None, dtype: str
) -> tf.Tensor:
  """Inverted dropout mask `[batch, length, width]` for inputs `[batch, length]`; see `dropout_mask`."""
  batch, length = tf.unstack(tf.shape(inputs))
  return tf.transpose(dropout_mask([length, batch, width], rate, seed, dtype, rows_axis=1), [1, 0, 2])


def gumbel(shape: tf.Tensor, seed: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
  """Standard Gumbel noise: the argmax of logits plus this is a draw from their categorical distribution."""
  uniform = tf.random.stateless_uniform(shape, seed, minval=1e-30)
  return tf.cast(-tf.math.log(-tf.math.log(uniform)), dtype)
