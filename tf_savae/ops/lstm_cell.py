"""The LSTM's cell, for code that takes one step at a time."""

from __future__ import annotations

import tensorflow as tf


def lstm_cell(gates: tf.Tensor, c: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """One LSTM step from its summed gate inputs.

  Args:
    gates: inputs of the input, forget and output gates and of the candidate, `[batch, 4 hidden]`.
    c: cell state, `[batch, hidden]`.

  Returns:
    The new hidden and cell state, each `[batch, hidden]`.
  """
  hidden = gates.shape[-1] // 4
  # The three sigmoid gates are adjacent, so that one kernel computes them.
  i, f, o = tf.split(tf.sigmoid(gates[:, : 3 * hidden]), 3, axis=-1)
  c = f * c + i * tf.tanh(gates[:, 3 * hidden :])
  return o * tf.tanh(c), c
