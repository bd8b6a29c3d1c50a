"""An LSTM over sequences of any length, and its directional derivative, with their gradients written out.

Loops over time are `tf.while_loop`s of a few large operations. Whatever does not depend on the previous step is
computed for all steps at once, before or after the loop. The gradient of the recurrent weights is one product over all
steps. TensorFlow can differentiate these gradients again. Fused recurrent kernels are not used because they have no
second derivatives.

The gates are i, f, o (sigmoid) and j (tanh), c is the cell, c' the previous cell, and τ = tanh c. A step is
c = f c' + i j and h = o τ, and its derivative along a direction (dotted) is

    ċ = f ċ' + A_i ġ_i + A_f ġ_f + A_j ġ_j        ḣ = A_o ġ_o + A_c ċ

    A_i = j i(1−i)   A_f = c' f(1−f)   A_j = i(1−j²)   A_o = τ o(1−o)   A_c = o(1−τ²)

The pass backward through time uses the same coefficients A. The pass backward through the dotted equations also uses
their derivatives, B and D in `_tangent_coefficients`.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tf_savae.ops.owned_gradients import custom_gradient


class _Steps(NamedTuple):
  """Values of all steps of an LSTM, kept for its gradient."""

  gates: tf.Tensor  # the gates' inputs, [length, batch, 4 hidden]
  cell: tf.Tensor  # c, [length, batch, hidden]
  state: tf.Tensor  # h, [length, batch, hidden]


def lstm(inputs: tf.Tensor, constant: tf.Tensor, initial: tf.Tensor, recurrent: tf.Tensor) -> tf.Tensor:
  """Hidden states of an LSTM whose cell starts at 0.

  Args:
    inputs: gate inputs without the recurrent part, `[batch, length, 4 hidden]`, with gates in the order i, f, o, j.
    constant: added to the gate inputs at every step, `[batch, 4 hidden]`.
    initial: hidden state before the first step, `[batch, hidden]`.
    recurrent: weights, `[hidden, 4 hidden]`.

  Returns:
    `[length, batch, hidden]`, twice differentiable with respect to all arguments.
  """
  made = []

  # Gates and cells are results, too, because the gradient is a function of them. The gradient's own gradient therefore
  # arrives here together with that of the states, and one pass takes both back through time.
  @custom_gradient
  def run(inputs, constant, initial, recurrent):
    def gradient(by_gates, by_cell, by_state):
      gates, cell, state = made
      by_gates = _back(by_gates, by_cell, by_state, gates, cell, recurrent)
      return _distribute(by_gates, _before(state, initial), recurrent)

    return tuple(_run(inputs, constant, initial, recurrent)), gradient

  made.extend(run(inputs, constant, initial, recurrent))
  return made[-1]


def lstm_tangent(
  inputs: tf.Tensor,
  constant: tf.Tensor,
  d_constant: tf.Tensor,
  initial: tf.Tensor,
  d_initial: tf.Tensor,
  recurrent: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
  """`lstm` and its derivative along (d_constant, d_initial).

  Returns:
    States and their derivatives, each `[length, batch, hidden]`, differentiable with respect to all arguments.
  """

  @custom_gradient
  def run(inputs, constant, d_constant, initial, d_initial, recurrent):
    steps, d_gates, d_cell, d_state = _run_tangent(
      inputs, constant, d_constant, initial, d_initial, recurrent
    )

    def gradient(by_state, by_d_state):
      by_gates, by_d_gates = _back_tangent(by_state, by_d_state, steps, d_gates, d_cell, recurrent)
      by_inputs, by_constant, by_initial, by_recurrent = _distribute(
        by_gates, _before(steps.state, initial), recurrent
      )
      _, by_d_constant, by_d_initial, by_recurrent_too = _distribute(
        by_d_gates, _before(d_state, d_initial), recurrent
      )
      return by_inputs, by_constant, by_d_constant, by_initial, by_d_initial, by_recurrent + by_recurrent_too

    return (steps.state, d_state), gradient

  return run(inputs, constant, d_constant, initial, d_initial, recurrent)


def _run(inputs, constant, initial, recurrent):
  hidden = recurrent.shape[0]

  def body(t, h, c, arrays):
    gates = tf.gather(inputs, t, axis=1) + constant + tf.matmul(h, recurrent)
    s, j = _activations(gates)
    i, f, o = tf.split(s, 3, axis=-1)
    c = f * c + i * j
    h = o * tf.tanh(c)
    return t + 1, h, c, [a.write(t, v) for a, v in zip(arrays, (gates, c, h), strict=True)]

  arrays = _arrays(inputs, [4 * hidden, hidden, hidden])
  *_, arrays = _loop(inputs, body, (initial, tf.zeros_like(initial), arrays))
  return _Steps(*_stacked(arrays, inputs))


def _run_tangent(inputs, constant, d_constant, initial, d_initial, recurrent):
  """`_run` and its derivative in one loop: one product with the recurrent weights serves both."""
  hidden = recurrent.shape[0]

  def body(t, both, c, d_c, arrays):
    from_state, g = tf.split(tf.matmul(both, recurrent), 2)
    gates = tf.gather(inputs, t, axis=1) + constant + from_state
    g += d_constant
    s, j = _activations(gates)
    i, f, o = tf.split(s, 3, axis=-1)
    d_i, d_f, d_o = tf.split(g[:, : 3 * hidden] * s * (1.0 - s), 3, axis=-1)
    d_j = g[:, 3 * hidden :] * (1.0 - j * j)
    d_c = f * d_c + d_f * c + d_i * j + i * d_j
    c = f * c + i * j
    tau = tf.tanh(c)
    h, d_h = o * tau, d_o * tau + o * (1.0 - tau * tau) * d_c
    values = (gates, c, h, g, d_c, d_h)
    return t + 1, tf.concat([h, d_h], 0), c, d_c, [a.write(t, v) for a, v in zip(arrays, values, strict=True)]

  sizes = 2 * [4 * hidden, hidden, hidden]
  zero = tf.zeros_like(initial)
  start = (tf.concat([initial, d_initial], 0), zero, zero, _arrays(inputs, sizes))
  *_, arrays = _loop(inputs, body, start)
  *steps, d_gates, d_cell, d_state = _stacked(arrays, inputs)
  return _Steps(*steps), d_gates, d_cell, d_state


def _activations(gates):
  """The sigmoids i, f, o side by side, `[…, 3 hidden]`, and the candidate j, `[…, hidden]`."""
  hidden = gates.shape[-1] // 4
  return tf.sigmoid(gates[..., : 3 * hidden]), tf.tanh(gates[..., 3 * hidden :])


def _coefficients(gates, cell):
  """A_i, A_f, A_o, A_j side by side `[length, batch, 4 hidden]`; A_c and f `[length, batch, hidden]`."""
  s, j = _activations(gates)
  i, f, o = tf.split(s, 3, axis=-1)
  tau = tf.tanh(cell)
  inner = s * (1.0 - s) * tf.concat([j, _before(cell), tau], -1)
  return tf.concat([inner, i * (1.0 - j * j)], -1), o * (1.0 - tau * tau), f


def _tangent_coefficients(gates, cell, d_gates, d_cell):
  """The derivatives of A, A_c and f along the tangent: B `[length, batch, 4 hidden]`, and B_c, D `[…, hidden]`.

  B_i = i(1−i) (ġ_i j(1−2i) + ġ_j(1−j²))            B_f = f(1−f) (ċ' + ġ_f c'(1−2f))
  B_o = o(1−o) (ġ_o τ(1−2o) + ċ(1−τ²))              B_j = (1−j²) (ġ_i i(1−i) − 2 i j ġ_j)
  B_c = (1−τ²) (ġ_o o(1−o) − 2 o τ ċ)               D = ġ_f f(1−f)
  """
  (s, j), tau = _activations(gates), tf.tanh(cell)
  i, _, o = tf.split(s, 3, axis=-1)
  hidden = j.shape[-1]
  g, g_j = d_gates[..., : 3 * hidden], d_gates[..., 3 * hidden :]
  slope, slope_j, slope_tau = s * (1.0 - s), 1.0 - j * j, 1.0 - tau * tau
  d_i, d, d_o = tf.split(g * slope, 3, axis=-1)
  values = tf.concat([j, _before(cell), tau], -1)
  moved = tf.concat([g_j * slope_j, _before(d_cell), d_cell * slope_tau], -1)
  b = slope * (g * values * (1.0 - 2.0 * s) + moved)
  b_j = slope_j * (d_i - 2.0 * i * j * g_j)
  b_cell = slope_tau * (d_o - 2.0 * o * tau * d_cell)
  return tf.concat([b, b_j], -1), b_cell, d


@custom_gradient
def _back(by_gates, by_cell, by_state, gates, cell, recurrent):
  """The gradient of the gate inputs, `[length, batch, 4 hidden]`, including contributions from later time steps.

  Args:
    by_gates, by_cell, by_state: gradients of the results of `_run`, without those contributions.
    gates, cell: results of `_run`.
    recurrent: recurrent weights, `[hidden, 4 hidden]`.
  """
  a, a_cell, forget = _coefficients(gates, cell)
  length = tf.shape(gates)[0]

  def body(k, by_h, by_c, arrays):
    t = length - 1 - k
    by_h += tf.gather(by_state, t)
    by_c += tf.gather(by_cell, t) + by_h * tf.gather(a_cell, t)
    by_g = tf.gather(by_gates, t) + tf.concat([by_c, by_c, by_h, by_c], -1) * tf.gather(a, t)
    arrays = [array.write(t, v) for array, v in zip(arrays, (by_g, by_c, by_h), strict=True)]
    return k + 1, tf.matmul(by_g, recurrent, transpose_b=True), by_c * tf.gather(forget, t), arrays

  all_gates, all_cell, all_state = _along_time(body, gates, cell)

  def gradient(direction):
    # ⟨direction, result⟩ is linear in the given gradients; the factors are the derivatives along the direction.
    d_gates, d_cell, d_state = _run_along(direction, gates, cell, recurrent)
    b, b_cell, d = _tangent_coefficients(gates, cell, d_gates, d_cell)
    to_gates = tf.concat([all_cell, all_cell, all_state, all_cell], -1) * b
    to_cell = all_state * b_cell + tf.concat([(all_cell * d)[1:], tf.zeros_like(d[:1])], 0)
    return d_gates, d_cell, d_state, to_gates, to_cell, _by_recurrent(all_gates, _before(d_state))

  return all_gates, gradient


def _run_along(direction, gates, cell, recurrent):
  """The derivatives of the results of `_run` along a direction of the gate inputs, `[length, batch, 4 hidden]`."""
  a, a_cell, forget = _coefficients(gates, cell)

  def body(t, d_h, d_c, arrays):
    g = tf.gather(direction, t) + tf.matmul(d_h, recurrent)
    of_i, of_f, d_o, of_j = tf.split(tf.gather(a, t) * g, 4, axis=-1)
    d_c = tf.gather(forget, t) * d_c + of_i + of_f + of_j
    d_h = d_o + tf.gather(a_cell, t) * d_c
    return t + 1, d_h, d_c, [array.write(t, v) for array, v in zip(arrays, (g, d_c, d_h), strict=True)]

  return _along_time(body, gates, cell)


def _along_time(body, gates, cell):
  """The arrays that a loop over time writes, with the sizes of gates, cell and state; the loop carries two states."""
  zero = tf.zeros_like(cell[0])
  arrays = [
    tf.TensorArray(gates.dtype, tf.shape(gates)[0], element_shape=like.shape[1:])
    for like in (gates, cell, cell)
  ]
  *_, arrays = _loop(gates, body, (zero, zero, arrays), time_axis=0)
  return _Steps(*(array.stack() for array in arrays))


def _back_tangent(by_state, by_d_state, steps, d_gates, d_cell, recurrent):
  """Gradients with respect to the gate inputs and to their derivatives, each `[length, batch, 4 hidden]`."""
  a, a_cell, forget = _coefficients(steps.gates, steps.cell)
  b, b_cell, d = _tangent_coefficients(steps.gates, steps.cell, d_gates, d_cell)
  length = tf.shape(by_state)[0]
  upstream = tf.concat([by_state, by_d_state], 1)

  def body(k, from_next, by_c, by_d_c, array):
    t = length - 1 - k
    by_h, by_d_h = tf.split(tf.gather(upstream, t) + from_next, 2)
    a_t, a_cell_t, forget_t = tf.gather(a, t), tf.gather(a_cell, t), tf.gather(forget, t)
    by_d_c += by_d_h * a_cell_t
    by_c += by_h * a_cell_t + by_d_h * tf.gather(b_cell, t)
    outer = tf.concat([by_d_c, by_d_c, by_d_h, by_d_c], -1)
    by_d_gates = outer * a_t
    by_gates = tf.concat([by_c, by_c, by_h, by_c], -1) * a_t + outer * tf.gather(b, t)
    both = tf.concat([by_gates, by_d_gates], 0)
    by_c = by_c * forget_t + by_d_c * tf.gather(d, t)
    by_d_c *= forget_t
    return k + 1, tf.matmul(both, recurrent, transpose_b=True), by_c, by_d_c, array.write(t, both)

  zero = tf.zeros_like(steps.state[0])
  array = tf.TensorArray(a.dtype, length, element_shape=[None, a.shape[-1]])
  *_, array = _loop(a, body, (tf.zeros_like(upstream[0]), zero, zero, array), time_axis=0)
  return tf.split(array.stack(), 2, axis=1)


def _distribute(by_gates, before, recurrent):
  """Gradients of inputs, constant, initial state and recurrent weights from those of the gates, `by_gates`."""
  by_initial = tf.matmul(by_gates[0], recurrent, transpose_b=True)
  by_inputs, by_constant = tf.transpose(by_gates, [1, 0, 2]), tf.reduce_sum(by_gates, axis=0)
  return by_inputs, by_constant, by_initial, _by_recurrent(by_gates, before)


def _by_recurrent(by_gates, before):
  """The gradient of the recurrent weights, as one product over all steps."""
  rows = tf.reshape(before, [-1, before.shape[-1]])
  return tf.matmul(rows, tf.reshape(by_gates, [-1, by_gates.shape[-1]]), transpose_a=True)


def _before(values, first=None):
  """`values` `[length, …]` of the previous step; `first` (default 0) at the first step."""
  first = tf.zeros_like(values[:1]) if first is None else first[tf.newaxis]
  return tf.concat([first, values[:-1]], 0)


def _arrays(inputs, sizes):
  length = tf.shape(inputs)[1]
  return [tf.TensorArray(inputs.dtype, length, element_shape=[inputs.shape[0], size]) for size in sizes]


def _stacked(arrays, inputs):
  """The arrays of a loop over `inputs` `[batch, length, …]`, with a static length if it is known, as XLA requires."""
  stacked = [array.stack() for array in arrays]
  for values in stacked:
    values.set_shape([inputs.shape[1], inputs.shape[0], None])
  return stacked


def _loop(sequence, body, start, time_axis=1):
  length = tf.shape(sequence)[time_axis]
  return tf.while_loop(
    lambda t, *_: t < length,
    body,
    (tf.constant(0), *start),
    parallel_iterations=1,
    maximum_iterations=length,
  )
