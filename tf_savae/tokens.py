"""Ids of the special tokens, the same in every vocabulary of text.

A document is a row `[length]` of ids: its words, END, then PAD up to the batch's length. START never occurs in it; it
is what a decoder reads before the first word.
"""

from __future__ import annotations

import tensorflow as tf

PAD, START, END, UNKNOWN = range(4)

# How they are written, in the order of their ids.
SPECIAL = ("<pad>", "<s>", "</s>", "_UNK")


def is_token(x: tf.Tensor) -> tf.Tensor:
  """Which of the ids `[batch, length]` count: words and END, not padding."""
  return tf.not_equal(x, PAD)


def total(values: tf.Tensor, ids: tf.Tensor, axis: int) -> tf.Tensor:
  """Sum of the values of tokens along an axis, without those of padding; values and ids have the same shape."""
  return tf.reduce_sum(tf.where(is_token(ids), values, tf.zeros_like(values)), axis=axis)


def lengths(x: tf.Tensor) -> tf.Tensor:
  """Tokens of each row, words and END, `[batch]` int32: what perplexity divides by."""
  return tf.math.count_nonzero(is_token(x), axis=-1, dtype=tf.int32)


def num_unknown(x: tf.Tensor) -> tf.Tensor:
  """Unknown tokens of each row, `[batch]` int32."""
  return tf.math.count_nonzero(tf.equal(x, UNKNOWN), axis=-1, dtype=tf.int32)


def shifted(x: tf.Tensor) -> tf.Tensor:
  """A decoder's inputs `[batch, length]`: START, then every token but the last."""
  return tf.pad(x[:, :-1], [[0, 0], [1, 0]], constant_values=START)


def transposed(ids: tf.Tensor) -> tf.Tensor:
  """Ids `[a, b]` as `[b, a]` int32.

  Not `tf.transpose`, which for integers makes TensorFlow print an error that is none on CPUs without AVX-512.
  """
  a, b = tf.unstack(tf.shape(ids))
  index = tf.range(b)[:, tf.newaxis] + b * tf.range(a)
  return tf.gather(tf.reshape(tf.cast(ids, tf.int32), [-1]), index)
