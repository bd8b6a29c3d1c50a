"""E[softplus(l)] for a Gaussian l, by Gauss-Hermite quadrature, and its derivatives.

With l ~ N(m, v) and nodes t_h of weights w_h (those of N(0, 1)),

    E[softplus(l)] ≈ f(m, v) = Σ_h w_h softplus(m + t_h √v)

H nodes integrate every polynomial of degree 2H − 1 exactly. The nodes come in pairs ±t_h, so f is smooth in v. All
derivatives below are those of f itself, and not separate estimates of the derivatives of the expectation.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from tf_savae.ops.owned_gradients import custom_gradient

# Far below any relevant variance of a logit; it keeps the derivative of the square root finite.
_LEAST_VARIANCE = 1e-8


@functools.lru_cache
def gauss_hermite(num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
  """Nodes and weights `[num_nodes]` of N(0, 1), float64."""
  nodes, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
  return nodes, weights / weights.sum()


def expected_softplus(mean: tf.Tensor, variance: tf.Tensor, num_nodes: int) -> tf.Tensor:
  """E[softplus(l)], l ~ N(mean, variance), with the shape of both; differentiable any number of times.

  Args:
    mean: m.
    variance: v ≥ 0.
    num_nodes: H.
  """
  nodes, weights = gauss_hermite(num_nodes)

  @custom_gradient
  def expected(mean, variance):
    logits = _at_nodes(mean, variance, nodes)[1]
    # softplus(l) = max(l, 0) − log max(σ(l), σ(−l)). A graph computes σ once for this and for the gradient, and a
    # logarithm takes a third of the time of TensorFlow's softplus.
    p = tf.sigmoid(logits)
    values = tf.nn.relu(logits) - tf.math.log(tf.maximum(p, 1.0 - p))

    def gradient(upstream):
      by_mean, by_variance = expected_softplus_gradient(mean, variance, num_nodes)
      return upstream * by_mean, upstream * by_variance

    return _moments(values, weights)[0], gradient

  return expected(mean, variance)


def expected_softplus_gradient(
  mean: tf.Tensor, variance: tf.Tensor, num_nodes: int
) -> tuple[tf.Tensor, tf.Tensor]:
  """∂f/∂m and ∂f/∂v of `expected_softplus`, which are differentiable, too.

  ∂f/∂m = Σ_h w_h σ(l_h),   ∂f/∂v = Σ_h w_h t_h σ(l_h) / (2 √v),   l_h = m + t_h √v
  """
  nodes, weights = gauss_hermite(num_nodes)

  @custom_gradient
  def of_both(mean, variance):
    root, logits = _at_nodes(mean, variance, nodes)
    p = tf.sigmoid(logits)
    first, along = _moments(p, weights, weights * nodes)
    by_variance = along / (2.0 * root)

    def gradient(d_first, d_second):
      slopes = p * (1.0 - p)
      by_both = _moments(slopes, weights, weights * nodes, weights * nodes**2)
      mean_mean, mean_variance = by_both[0], by_both[1] / (2.0 * root)
      variance_variance = (by_both[2] - along / root) / (4.0 * tf.square(root))
      return (
        d_first * mean_mean + d_second * mean_variance,
        d_first * mean_variance + d_second * variance_variance,
      )

    return (first, by_variance), gradient

  return of_both(mean, variance)


def _at_nodes(mean, variance, nodes):
  """√v, and the logits at the nodes, `[nodes, …]`."""
  root = tf.sqrt(variance + tf.constant(_LEAST_VARIANCE, variance.dtype))
  along = tf.reshape(tf.constant(nodes, mean.dtype), [-1] + [1] * mean.shape.rank)
  return root, mean + along * root


def _moments(values, *weights):
  """Σ_h w_h values_h for each set of weights, from values `[nodes, …]`."""
  rows = tf.constant(np.stack(weights), values.dtype)
  sums = tf.matmul(rows, tf.reshape(values, [values.shape[0], -1]))
  return [tf.reshape(total, tf.shape(values)[1:]) for total in tf.unstack(sums)]
