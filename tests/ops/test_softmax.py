"""Written-out derivatives of the softmax equal TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf

from tf_savae.ops.softmax import token_nll, token_nll_derivative

ROWS, HIDDEN, VOCAB = 7, 5, 9


def normal(*shape, seed):
  return tf.random.stateless_normal(shape, [seed, 1], dtype=tf.float64)


STATES, DIRECTION = normal(ROWS, HIDDEN, seed=1), normal(ROWS, HIDDEN, seed=2)
KERNEL, BIAS = normal(HIDDEN, VOCAB, seed=3), normal(VOCAB, seed=4)
TARGETS = tf.constant([0, 3, 8, 1, 1, 2, 0])
WEIGHTS = normal(ROWS, seed=5)  # of the rows in a loss, so that their gradients differ

every_way = pytest.mark.parametrize("positions", [None, 3], ids="positions={}".format)
modes = pytest.mark.parametrize("wrap", [lambda f: f, tf.function(autograph=False)], ids=["eager", "graph"])


def by_definition(states, kernel, bias):
  return tf.nn.sparse_softmax_cross_entropy_with_logits(TARGETS, states @ kernel + bias)


def first(function, *arguments):
  with tf.GradientTape() as tape:
    tape.watch(arguments)
    loss = tf.reduce_sum(WEIGHTS * function(*arguments))
  return [loss, *tape.gradient(loss, arguments)]


def second(function, *arguments):
  """Gradients of ⟨DIRECTION, ∂/∂states⟩ of the weighted loss."""
  with tf.GradientTape() as tape:
    tape.watch(arguments)
    gradient = first(function, *arguments)[1]
    product = tf.reduce_sum(gradient * DIRECTION)
  return [product, *tape.gradient(product, arguments)]


def assert_equal(received, expected):
  for a, b in zip(received, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@modes
@every_way
def test_loss_and_both_derivatives(positions, wrap):
  arguments = STATES, KERNEL, BIAS

  def nll(states, kernel, bias):
    return token_nll(states, kernel, bias, TARGETS, positions)

  assert_equal(wrap(lambda: first(nll, *arguments))(), first(by_definition, *arguments))
  assert_equal(wrap(lambda: second(nll, *arguments))(), second(by_definition, *arguments))


@modes
@every_way
def test_derivative_along_a_direction_and_its_gradients(positions, wrap):
  def derivative(states, kernel, bias):
    return token_nll_derivative(states, DIRECTION, kernel, bias, TARGETS, positions)

  arguments = STATES, KERNEL, BIAS
  assert_equal(wrap(lambda: first(derivative, *arguments))(), second(by_definition, *arguments))


def test_gradient_with_respect_to_the_direction_is_the_gradient_of_the_loss():
  def along(direction):
    return token_nll_derivative(STATES, direction, KERNEL, BIAS, TARGETS)

  assert_equal(first(along, DIRECTION)[1:], first(lambda s: by_definition(s, KERNEL, BIAS), STATES)[1:])


def test_leading_dimensions_are_kept():
  states, targets = tf.reshape(STATES[:6], [2, 3, HIDDEN]), tf.reshape(TARGETS[:6], [2, 3])
  expected = tf.reshape(by_definition(STATES, KERNEL, BIAS)[:6], [2, 3])
  np.testing.assert_allclose(token_nll(states, KERNEL, BIAS, targets), expected)


def test_logits_so_large_that_a_probability_is_zero_in_float32_give_a_finite_loss():
  states, kernel = tf.constant([[1.0]]), tf.constant([[0.0, 500.0, -500.0, 0.0]])
  for target, nll in [(1, 0.0), (2, 1000.0)]:
    assert float(token_nll(states, kernel, tf.zeros(4), tf.constant([target]))[0]) == pytest.approx(nll)


def test_chunks_hold_no_more_logits_than_asked_for():
  """Outside the loops no tensor has all rows of logits; all at once, there are such tensors."""

  def tensors(positions):
    def step():
      with tf.GradientTape() as tape:
        tape.watch(STATES)
        nll = token_nll(STATES, KERNEL, BIAS, TARGETS, positions)
        derivative = token_nll_derivative(STATES, DIRECTION, KERNEL, BIAS, TARGETS, positions)
        loss = tf.reduce_sum(nll + derivative)
      return tape.gradient(loss, STATES)

    graph = tf.function(step, autograph=False).get_concrete_function().graph
    shapes = [t.shape.as_list() for op in graph.get_operations() for t in op.outputs if t.shape.rank == 2]
    return [shape for shape in shapes if shape[1] == VOCAB and shape[0] != HIDDEN]

  assert [ROWS, VOCAB] in tensors(None)
  assert not tensors(2)
