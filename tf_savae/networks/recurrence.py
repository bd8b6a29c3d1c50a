"""An LSTM over documents of any length, and its directional derivative, with their gradients written out.

Loops over time are `tf.while_loop`s of few and fat operations: what does not depend on the step before is computed for
all steps at once, before or after the loop, and the recurrent weights' gradient is one product over all steps.
TensorFlow can differentiate these gradients again. No fused recurrent kernel is used: those lack second derivatives.

With gates i, f, o (sigmoid) and j (tanh), cell c, τ = tanh c and c' the cell before, a step is c = f c' + i j and
h = o τ. Its derivative along a direction (dotted) is

    ċ = f ċ' + A_i ġ_i + A_f ġ_f + A_j ġ_j        ḣ = A_o ġ_o + A_c ċ

    A_i = j i(1−i)   A_f = c' f(1−f)   A_j = i(1−j²)   A_o = τ o(1−o)   A_c = o(1−τ²)

and going backward through time takes the same coefficients A; going backward through the dotted equations takes besides
their derivatives, B and D in `_tangent_coefficients`.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class _Steps(NamedTuple):
  """What the steps of an LSTM leave behind, each `[length, batch, hidden]` but `sigmoids`, with 3 hidden."""

  sigmoids: tf.Tensor  # i, f, o
  candidate: tf.Tensor  # j
  cell: tf.Tensor  # c
  state: tf.Tensor  # h


def lstm(inputs: tf.Tensor, constant: tf.Tensor, initial: tf.Tensor, recurrent: tf.Tensor) -> tf.Tensor:
  """Hidden states of an LSTM whose cell starts at 0.

  Args:
    inputs: gate inputs without the recurrent part, `[batch, length, 4 hidden]`, gates in the order i, f, o, j.
    constant: added to them at every step, `[batch, 4 hidden]`.
    initial: hidden state before the first step, `[batch, hidden]`.
    recurrent: weights, `[hidden, 4 hidden]`.

  Returns:
    `[length, batch, hidden]`, differentiable with respect to all arguments, twice.
  """

  @tf.custom_gradient
  def run(inputs, constant, initial, recurrent):
    steps = _run(inputs, constant, initial, recurrent)

    # The gradient's own gradient is written out for what it takes most: TensorFlow's would add up the recurrent
    # weights' gradient step by step. `steps` are what the arguments gave, so every argument has its share.
    @tf.custom_gradient
    def back(by_state, inputs, constant, initial, recurrent):
      del inputs, constant
      by_gates, by_cell, by_total = _back(recurrent, *_coefficients(steps), by_state)

      def gradient_of_back(direction):
        d_gates, d_cell, d_state = _run_along(direction, steps, recurrent)
        by_gates_too = _back_along(by_cell, by_total, steps, d_gates, d_cell, recurrent)
        shares = _distribute(by_gates_too, _before(steps.state, initial), recurrent)
        *_, by_recurrent = _distribute(by_gates, _before(d_state), recurrent)
        return d_state, *shares[:3], shares[3] + by_recurrent

      return by_gates, gradient_of_back

    def gradient(by_state):
      by_gates = back(by_state, inputs, constant, initial, recurrent)
      return _distribute(by_gates, _before(steps.state, initial), recurrent)

    return steps.state, gradient

  return run(inputs, constant, initial, recurrent)


def lstm_tangent(
  inputs: tf.Tensor,
  constant: tf.Tensor,
  d_constant: tf.Tensor,
  initial: tf.Tensor,
  d_initial: tf.Tensor,
  recurrent: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
  """`lstm`, and its derivative along (d_constant, d_initial).

  Returns:
    States and their derivative, each `[length, batch, hidden]`, differentiable with respect to all arguments.
  """

  @tf.custom_gradient
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
    s = tf.sigmoid(gates[:, : 3 * hidden])
    j = tf.tanh(gates[:, 3 * hidden :])
    i, f, o = tf.split(s, 3, axis=-1)
    c = f * c + i * j
    h = o * tf.tanh(c)
    return t + 1, h, c, [a.write(t, v) for a, v in zip(arrays, (s, j, c, h), strict=True)]

  arrays = _arrays(inputs, [3 * hidden, hidden, hidden, hidden])
  *_, arrays = _loop(inputs, body, (initial, tf.zeros_like(initial), arrays))
  return _Steps(*_stacked(arrays, inputs))


def _run_tangent(inputs, constant, d_constant, initial, d_initial, recurrent):
  """`_run` and its derivative in one loop: one product with the recurrent weights serves both."""
  hidden = recurrent.shape[0]

  def body(t, both, c, d_c, arrays):
    from_state, g = tf.split(tf.matmul(both, recurrent), 2)
    gates = tf.gather(inputs, t, axis=1) + constant + from_state
    g += d_constant
    s = tf.sigmoid(gates[:, : 3 * hidden])
    j = tf.tanh(gates[:, 3 * hidden :])
    i, f, o = tf.split(s, 3, axis=-1)
    d_i, d_f, d_o = tf.split(g[:, : 3 * hidden] * s * (1.0 - s), 3, axis=-1)
    d_j = g[:, 3 * hidden :] * (1.0 - j * j)
    d_c = f * d_c + d_f * c + d_i * j + i * d_j
    c = f * c + i * j
    tau = tf.tanh(c)
    h, d_h = o * tau, d_o * tau + o * (1.0 - tau * tau) * d_c
    values = (s, j, c, h, g, d_c, d_h)
    return t + 1, tf.concat([h, d_h], 0), c, d_c, [a.write(t, v) for a, v in zip(arrays, values, strict=True)]

  sizes = [3 * hidden, hidden, hidden, hidden, 4 * hidden, hidden, hidden]
  zero = tf.zeros_like(initial)
  start = (tf.concat([initial, d_initial], 0), zero, zero, _arrays(inputs, sizes))
  *_, arrays = _loop(inputs, body, start)
  *steps, d_gates, d_cell, d_state = _stacked(arrays, inputs)
  return _Steps(*steps), d_gates, d_cell, d_state


def _coefficients(steps):
  """A_i, A_f, A_o, A_j side by side `[length, batch, 4 hidden]`; A_c and f `[length, batch, hidden]`."""
  i, f, o = tf.split(steps.sigmoids, 3, axis=-1)
  j, tau = steps.candidate, tf.tanh(steps.cell)
  inner = steps.sigmoids * (1.0 - steps.sigmoids) * tf.concat([j, _before(steps.cell), tau], -1)
  return tf.concat([inner, i * (1.0 - j * j)], -1), o * (1.0 - tau * tau), f


def _tangent_coefficients(steps, d_gates, d_cell):
  """The derivatives of A_•, A_c and f along the tangent: B `[length, batch, 4 hidden]`; B_c, D `[…, hidden]`.

  B_i = i(1−i) (ġ_i j(1−2i) + ġ_j(1−j²))            B_f = f(1−f) (ċ' + ġ_f c'(1−2f))
  B_o = o(1−o) (ġ_o τ(1−2o) + ċ(1−τ²))              B_j = (1−j²) (ġ_i i(1−i) − 2 i j ġ_j)
  B_c = (1−τ²) (ġ_o o(1−o) − 2 o τ ċ)               D = ġ_f f(1−f)
  """
  s, j, tau = steps.sigmoids, steps.candidate, tf.tanh(steps.cell)
  i, _, o = tf.split(s, 3, axis=-1)
  hidden = j.shape[-1]
  g, g_j = d_gates[..., : 3 * hidden], d_gates[..., 3 * hidden :]
  slope, slope_j, slope_tau = s * (1.0 - s), 1.0 - j * j, 1.0 - tau * tau
  d_i, d, d_o = tf.split(g * slope, 3, axis=-1)
  values = tf.concat([j, _before(steps.cell), tau], -1)
  moved = tf.concat([g_j * slope_j, _before(d_cell), d_cell * slope_tau], -1)
  b = slope * (g * values * (1.0 - 2.0 * s) + moved)
  b_j = slope_j * (d_i - 2.0 * i * j * g_j)
  b_cell = slope_tau * (d_o - 2.0 * o * tau * d_cell)
  return tf.concat([b, b_j], -1), b_cell, d


def _back(recurrent, a, a_cell, forget, by_state=None, by_cell=None, by_gates=None):
  """Back through time from gradients with respect to states, cells and gates' inputs, each None for 0.

  Returns:
    The gradients with all that comes from later steps: of the gates' inputs `[length, batch, 4 hidden]`, of the cells
    and of the states, each `[length, batch, hidden]`.
  """
  length = tf.shape(a)[0]
  given = by_state, by_cell, by_gates

  def body(k, by_h, by_c, arrays):
    t = length - 1 - k
    at_h, at_c, at_gates = (0.0 if part is None else tf.gather(part, t) for part in given)
    by_h += at_h
    by_c += by_h * tf.gather(a_cell, t) + at_c
    by_gates = tf.concat([by_c, by_c, by_h, by_c], -1) * tf.gather(a, t) + at_gates
    arrays = [array.write(t, v) for array, v in zip(arrays, (by_gates, by_c, by_h), strict=True)]
    return k + 1, tf.matmul(by_gates, recurrent, transpose_b=True), by_c * tf.gather(forget, t), arrays

  zero = tf.zeros_like(a_cell[0])
  arrays = [tf.TensorArray(a.dtype, length, element_shape=like.shape[1:]) for like in (a, a_cell, a_cell)]
  *_, arrays = _loop(a, body, (zero, zero, arrays), time_axis=0)
  return tuple(array.stack() for array in arrays)


def _run_along(direction, steps, recurrent):
  """The derivative of `_run` along a direction of the gates' inputs, `[length, batch, 4 hidden]`, where it has run."""
  a, a_cell, forget = _coefficients(steps)

  def body(t, d_h, d_c, arrays):
    g = tf.gather(direction, t) + tf.matmul(d_h, recurrent)
    of_i, of_f, d_o, of_j = tf.split(tf.gather(a, t) * g, 4, axis=-1)
    d_c = tf.gather(forget, t) * d_c + of_i + of_f + of_j
    d_h = d_o + tf.gather(a_cell, t) * d_c
    return t + 1, d_h, d_c, [array.write(t, v) for array, v in zip(arrays, (g, d_c, d_h), strict=True)]

  zero = tf.zeros_like(a_cell[0])
  arrays = [tf.TensorArray(a.dtype, tf.shape(a)[0], element_shape=x.shape[1:]) for x in (a, a_cell, a_cell)]
  *_, arrays = _loop(a, body, (zero, zero, arrays), time_axis=0)
  return tuple(array.stack() for array in arrays)


def _back_along(by_d_cell, by_d_state, steps, d_gates, d_cell, recurrent):
  """The gates' inputs' gradient of what `_run_along` gives, from that of the derivative (all of it, as of `_back`)."""
  b, b_cell, d = _tangent_coefficients(steps, d_gates, d_cell)
  from_next = tf.concat([(by_d_cell * d)[1:], tf.zeros_like(d[:1])], 0)
  by_gates = tf.concat([by_d_cell, by_d_cell, by_d_state, by_d_cell], -1) * b
  return _back(recurrent, *_coefficients(steps), by_cell=by_d_state * b_cell + from_next, by_gates=by_gates)[
    0
  ]


def _back_tangent(by_state, by_d_state, steps, d_gates, d_cell, recurrent):
  """Gradients with respect to the gates' inputs and to their derivatives, each `[length, batch, 4 hidden]`."""
  a, a_cell, forget = _coefficients(steps)
  b, b_cell, d = _tangent_coefficients(steps, d_gates, d_cell)
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
  """From the gates `[length, batch, 4 hidden]` to inputs, constant, initial state and recurrent weights."""
  hidden = recurrent.shape[0]
  by_recurrent = tf.matmul(
    tf.reshape(before, [-1, hidden]), tf.reshape(by_gates, [-1, 4 * hidden]), transpose_a=True
  )
  by_initial = tf.matmul(by_gates[0], recurrent, transpose_b=True)
  return tf.transpose(by_gates, [1, 0, 2]), tf.reduce_sum(by_gates, axis=0), by_initial, by_recurrent


def _before(values, first=None):
  """`values` `[length, …]` one step earlier; `first` (default 0) at the first."""
  first = tf.zeros_like(values[:1]) if first is None else first[tf.newaxis]
  return tf.concat([first, values[:-1]], 0)


def _arrays(inputs, sizes):
  length = tf.shape(inputs)[1]
  return [tf.TensorArray(inputs.dtype, length, element_shape=[inputs.shape[0], size]) for size in sizes]


def _stacked(arrays, inputs):
  """What a loop over `inputs` `[batch, length, …]` wrote, of its length where that is known: XLA asks for it."""
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
