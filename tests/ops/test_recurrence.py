"""The LSTM over time, its derivative along a direction, and their gradients, against a plain unrolled LSTM."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_savae.ops.lstm_cell import lstm_cell
from tf_savae.ops.recurrence import lstm, lstm_tangent

BATCH, LENGTH, HIDDEN = 3, 6, 4


def normal(*shape, seed):
  return 0.7 * tf.random.stateless_normal(shape, [seed, 2], dtype=tf.float64)


INPUTS, CONSTANT = normal(BATCH, LENGTH, 4 * HIDDEN, seed=1), normal(BATCH, 4 * HIDDEN, seed=2)
INITIAL, RECURRENT = normal(BATCH, HIDDEN, seed=3), normal(HIDDEN, 4 * HIDDEN, seed=4)
D_CONSTANT, D_INITIAL = normal(BATCH, 4 * HIDDEN, seed=5), normal(BATCH, HIDDEN, seed=6)
OF_STATE, OF_D_STATE = normal(LENGTH, BATCH, HIDDEN, seed=7), normal(LENGTH, BATCH, HIDDEN, seed=8)
ARGUMENTS = [INPUTS, CONSTANT, INITIAL, RECURRENT]

modes = pytest.mark.parametrize("wrap", [lambda f: f, tf.function(autograph=False)], ids=["eager", "graph"])


def unrolled(inputs, constant, initial, recurrent):
  h, c, states = initial, tf.zeros_like(initial), []
  for x_t in tf.unstack(inputs + constant[:, tf.newaxis], axis=1):
    h, c = lstm_cell(x_t + tf.matmul(h, recurrent), c)
    states.append(h)
  return tf.stack(states)


def first(scan):
  with tf.GradientTape() as tape:
    tape.watch(ARGUMENTS)
    states = scan(*ARGUMENTS)
    loss = tf.reduce_sum(OF_STATE * states)
  return [states, *tape.gradient(loss, ARGUMENTS)]


def second(scan):
  """Gradients of the loss's derivative along (D_CONSTANT, D_INITIAL), by nested tapes."""
  with tf.GradientTape() as tape:
    tape.watch(ARGUMENTS)
    _, _, by_constant, by_initial, _ = first(scan)
    product = tf.reduce_sum(by_constant * D_CONSTANT) + tf.reduce_sum(by_initial * D_INITIAL)
  return [product, *tape.gradient(product, ARGUMENTS)]


def along(tangent):
  """States, their derivative, and the gradients of a loss of both with respect to everything."""
  arguments = [*ARGUMENTS, D_CONSTANT, D_INITIAL]
  with tf.GradientTape() as tape:
    tape.watch(arguments)
    states, d_states = tangent()
    loss = tf.reduce_sum(OF_STATE * states) + tf.reduce_sum(OF_D_STATE * d_states)
  return [states, d_states, *tape.gradient(loss, arguments)]


def tangent_by_tensorflow():
  with tf.autodiff.ForwardAccumulator([CONSTANT, INITIAL], [D_CONSTANT, D_INITIAL]) as accumulator:
    states = unrolled(*ARGUMENTS)
  return states, accumulator.jvp(states)


def assert_equal(received, expected):
  for a, b in zip(received, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_states_are_those_of_the_keras_lstm():
  rng = np.random.default_rng(0)
  inputs, h = rng.normal(size=(2, 6, 3)), rng.normal(size=(2, 4))
  kernel, recurrent, bias = rng.normal(size=(3, 16)), rng.normal(size=(4, 16)), rng.normal(size=16)
  gates, zero = tf.constant(inputs @ kernel + bias), tf.zeros([2, 16], tf.float64)
  ours = lstm(gates, zero, tf.constant(h), tf.constant(recurrent))

  def keras_order(w):  # input, forget, output, candidate → input, forget, candidate, output
    i, f, o, g = np.split(w, 4, axis=-1)
    return np.concatenate([i, f, g, o], axis=-1)

  layer = keras.layers.LSTM(4, return_sequences=True, dtype="float64")
  layer.build(inputs.shape)
  layer.set_weights([keras_order(w) for w in (kernel, recurrent, bias)])
  theirs = layer(inputs, initial_state=[h, np.zeros((2, 4))])
  np.testing.assert_allclose(tf.transpose(ours, [1, 0, 2]), theirs, rtol=1e-10)


@modes
def test_states_and_first_derivatives(wrap):
  assert_equal(wrap(lambda: first(lstm))(), first(unrolled))


@modes
def test_second_derivatives_by_nested_tapes(wrap):
  assert_equal(wrap(lambda: second(lstm))(), second(unrolled))


@modes
def test_derivative_along_a_direction_and_all_its_gradients(wrap):
  received = wrap(
    lambda: along(lambda: lstm_tangent(INPUTS, CONSTANT, D_CONSTANT, INITIAL, D_INITIAL, RECURRENT))
  )()
  assert_equal(received, along(tangent_by_tensorflow))


def test_length_and_batch_may_be_unknown_to_the_graph():
  any_size = [[None, None, 4 * HIDDEN], [None, 4 * HIDDEN], [None, HIDDEN], [HIDDEN, 4 * HIDDEN]]
  traced = tf.function(
    lstm, autograph=False, input_signature=[tf.TensorSpec(s, tf.float64) for s in any_size]
  )
  for batch, length in [(3, 6), (2, 1)]:
    arguments = INPUTS[:batch, :length], CONSTANT[:batch], INITIAL[:batch], RECURRENT
    np.testing.assert_allclose(traced(*arguments), unrolled(*arguments), rtol=1e-12)
