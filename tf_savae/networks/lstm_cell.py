"""The LSTM's cell, and a few of its steps unrolled, with their derivative along a direction."""

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
  # The three sigmoid gates lie together, so that one kernel computes them.
  i, f, o = tf.split(tf.sigmoid(gates[:, : 3 * hidden]), 3, axis=-1)
  c = f * c + i * tf.tanh(gates[:, 3 * hidden :])
  return o * tf.tanh(c), c


def lstm_scan(inputs: tf.Tensor, h: tf.Tensor, recurrent: tf.Tensor) -> tf.Tensor:
  """Hidden states of an LSTM whose cell starts at 0.

  Plain TensorFlow operations, because a refinement needs second derivatives, which fused recurrent kernels
  lack. Unrolled in Python: `inputs` must have a static, short length.

  Args:
    inputs: gate inputs without the recurrent part, `[batch, length, 4 hidden]`.
    h: initial hidden state, `[batch, hidden]`.
    recurrent: weights, `[hidden, 4 hidden]`.

  Returns:
    `[batch, length, hidden]`.
  """
  c = tf.zeros_like(h)
  states = []
  for x_t in tf.unstack(inputs, axis=1):
    h, c = lstm_cell(x_t + tf.matmul(h, recurrent), c)
    states.append(h)
  return tf.stack(states, axis=1)


def lstm_scan_tangent(
  inputs: tf.Tensor, h: tf.Tensor, d_inputs: tf.Tensor, d_h: tf.Tensor, recurrent: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """`lstm_scan`, and its derivative along (d_inputs, d_h), each `[batch, length, hidden]`.

  One product with the recurrent weights serves both.

  Args:
    inputs, h, recurrent: as for `lstm_scan`.
    d_inputs: direction of the inputs, the same at all steps, `[batch, 4 hidden]`.
    d_h: direction of the initial state, `[batch, hidden]`.
  """
  hidden = recurrent.shape[0]
  c = d_c = tf.zeros_like(h)
  states, d_states = [], []
  for x_t in tf.unstack(inputs, axis=1):
    from_h, from_d_h = tf.split(tf.matmul(tf.concat([h, d_h], 0), recurrent), 2)
    gates, d_gates = x_t + from_h, d_inputs + from_d_h
    s, j = tf.sigmoid(gates[:, : 3 * hidden]), tf.tanh(gates[:, 3 * hidden :])
    i, f, o = tf.split(s, 3, axis=-1)
    d_i, d_f, d_o = tf.split(s * (1.0 - s) * d_gates[:, : 3 * hidden], 3, axis=-1)
    d_j = (1.0 - j * j) * d_gates[:, 3 * hidden :]
    d_c = d_f * c + f * d_c + d_i * j + i * d_j
    c = f * c + i * j
    tau = tf.tanh(c)
    h, d_h = o * tau, d_o * tau + o * (1.0 - tau * tau) * d_c
    states.append(h)
    d_states.append(d_h)
  return tf.stack(states, axis=1), tf.stack(d_states, axis=1)
