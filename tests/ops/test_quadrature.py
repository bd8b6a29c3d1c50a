"""Gauss-Hermite quadrature of the softplus is the integral, and its derivatives are its own."""

import numpy as np
import pytest
import tensorflow as tf

from tf_savae.ops.quadrature import expected_softplus, expected_softplus_gradient, gauss_hermite

MEAN = tf.constant(np.linspace(-9.0, 9.0, 13))
VARIANCE = tf.constant(np.geomspace(1e-6, 4.0, 13)[::-1].copy())


def by_hand(mean, variance, num_nodes):
  nodes, weights = np.polynomial.hermite.hermgauss(num_nodes)  # of exp(−t²)
  logits = mean[:, np.newaxis] + np.sqrt(2 * variance)[:, np.newaxis] * nodes
  return np.logaddexp(0.0, logits) @ weights / np.sqrt(np.pi)


@pytest.mark.parametrize("num_nodes", [2, 5, 40])
def test_equals_the_plain_definition(num_nodes):
  ours = expected_softplus(MEAN, VARIANCE, num_nodes)
  np.testing.assert_allclose(ours, by_hand(MEAN.numpy(), VARIANCE.numpy(), num_nodes), rtol=1e-6, atol=1e-8)


def test_five_nodes_are_nearly_exact_for_the_variances_of_a_posterior():
  for variance, error in ((0.1, 1e-7), (0.5, 2e-5), (2.0, 2e-3)):
    variance = tf.fill(MEAN.shape, tf.constant(variance, tf.float64))
    few, many = (expected_softplus(MEAN, variance, n) for n in (5, 100))
    assert np.max(np.abs(few - many)) < error


def test_polynomials_up_to_degree_2h_minus_1_are_exact():
  nodes, weights = gauss_hermite(4)
  moments = [1, 0, 1, 0, 3, 0, 15, 0]
  np.testing.assert_allclose([weights @ nodes**d for d in range(8)], moments, atol=1e-12)


def test_first_derivatives_are_those_of_the_sum():
  with tf.GradientTape() as tape:
    tape.watch([MEAN, VARIANCE])
    total = tf.reduce_sum(tf.cast(tf.range(13), tf.float64) * expected_softplus(MEAN, VARIANCE, 5))
  found = tape.gradient(total, [MEAN, VARIANCE])
  for ours, direct in zip(found, expected_softplus_gradient(MEAN, VARIANCE, 5), strict=True):
    np.testing.assert_allclose(ours, np.arange(13) * direct, rtol=1e-12)
  h, variance = 1e-5, VARIANCE + 0.01
  above, below = (by_hand(MEAN.numpy(), (variance + sign * h).numpy(), 5) for sign in (1, -1))
  by_variance = expected_softplus_gradient(MEAN, variance, 5)[1]
  np.testing.assert_allclose(by_variance, (above - below) / (2 * h), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("order", [1, 2])
def test_higher_derivatives_equal_central_differences(order):
  """∂ of Σ w · derivative, for the derivative of the order before."""

  def lower(mean, variance):
    if order == 1:
      return expected_softplus_gradient(mean, variance, 5)
    with tf.GradientTape() as tape:
      tape.watch([mean, variance])
      by_both = expected_softplus_gradient(mean, variance, 5)
      total = tf.reduce_sum(by_both[0]) + 0.7 * tf.reduce_sum(by_both[1])
    return tape.gradient(total, [mean, variance])

  variance = VARIANCE + 0.05
  with tf.GradientTape() as tape:
    tape.watch([MEAN, variance])
    first, second = lower(MEAN, variance)
    total = tf.reduce_sum(first) + 0.3 * tf.reduce_sum(second)
  exact = tape.gradient(total, [MEAN, variance])
  h = 1e-5
  for part, (d_mean, d_variance) in enumerate([(h, 0.0), (0.0, h)]):
    values = []
    for sign in (1, -1):
      first, second = lower(MEAN + sign * d_mean, variance + sign * d_variance)
      values.append(first + 0.3 * second)
    np.testing.assert_allclose(exact[part], (values[0] - values[1]) / (2 * h), rtol=1e-5, atol=1e-8)
