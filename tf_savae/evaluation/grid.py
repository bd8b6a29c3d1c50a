"""Exact inference for models with two latents, by a grid over z: log p(x), the posterior, the best Gaussian.

Quantities that can otherwise only be estimated are checked here. There are two grids or more: the first covers the
range of the prior to find the posterior of an example, and each later one covers the region found before. The function
summed is smooth and vanishes at the border, so the sum converges faster than any power of the grid's step. A comparison
with every second point costs nothing and shows whether the grid is fine enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tf_savae.full_gaussian import FullGaussianParams
from tf_savae.posterior import GaussianParams, Params
from tf_savae.posteriors.family import DIAGONAL, PosteriorFamily

_NATS = 25.0  # points less probable than the mode by more than this are left out of the next grid


class GridPosterior(NamedTuple):
  """p(z | x) of each example on an even grid of n × n points; float64.

  Attributes:
    axes: the values of z₁ and of z₂, `[batch, 2, n]`.
    log_prob: log p(x | z), `[batch, n, n]`, z₁ first.
    mass: p(z | x) times the area of a cell, `[batch, n, n]`; sums to 1.
    log_likelihood: log p(x), nats, `[batch]`.
    step_error: change of log p(x) when every second point of both axes is left out, nats, `[batch]`. It bounds the
      effect of a finer grid from above, usually very loosely.
    outside: share of the posterior's mass outside the grid, as estimated by the first, wide grid, or on its border,
      `[batch]`.
  """

  axes: tf.Tensor
  log_prob: tf.Tensor
  mass: tf.Tensor
  log_likelihood: tf.Tensor
  step_error: tf.Tensor
  outside: tf.Tensor

  def moments(self) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean `[batch, 2]` and covariance `[batch, 2, 2]` of p(z | x)."""
    first, second = tf.unstack(self.axes, axis=1)
    mean = tf.stack(
      [tf.einsum("bij,bi->b", self.mass, first), tf.einsum("bij,bj->b", self.mass, second)], axis=1
    )
    a, b = first - mean[:, :1], second - mean[:, 1:]
    cross = tf.einsum("bij,bi,bj->b", self.mass, a, b)
    rows = [
      [tf.einsum("bij,bi->b", self.mass, a**2), cross],
      [cross, tf.einsum("bij,bj->b", self.mass, b**2)],
    ]
    return mean, tf.stack([tf.stack(row, axis=1) for row in rows], axis=1)


def posterior(
  decoder: Any, x: Any, context: Any = (), *, radius: float = 6.0, size: int = 41, levels: int = 2
) -> GridPosterior:
  """p(z | x) by `levels` · size² evaluations of the decoder, each for the whole batch.

  Args:
    decoder: log p(x | z) with two latents, as `tf_savae.networks.Decoder`.
    x: observations, batched on dimension 0.
    context: result of `decoder.precompute(x)`.
    radius: the first grid reaches from −radius to radius on both axes; 4e-9 of the prior's mass lies beyond 6.
    size: n, points per axis; odd, at least 5.
    levels: number of grids, 2 or more, each covering what the previous one found. Two suffice for posteriors as narrow
      as a twentieth of the first grid's step, three for posteriors twenty times narrower.

  Raises:
    ValueError: there are not two latents, `size` is even or below 5, or `levels` is below 2.
  """
  if decoder.latent_dim != 2:
    raise ValueError(f"A grid is for two latents. Received: latent_dim={decoder.latent_dim}")
  if size < 5 or size % 2 == 0:
    raise ValueError(f"The grid's size must be odd and at least 5. Received: {size}")
  if levels < 2:
    raise ValueError(f"Exact inference takes two grids or more. Received: levels={levels}")
  batch = tf.shape(tf.nest.flatten(x)[0])[0]
  wide = tf.fill([batch, 2], tf.constant(radius, tf.float64))
  axes, outside = _axes(-wide, wide, size), tf.zeros([batch], tf.float64)
  log_prob = _log_prob(decoder, x, context, axes)
  for _ in range(levels - 1):
    joint = log_prob + _log_prior(axes)
    low, high = _box(axes, joint)
    outside += _mass_outside(axes, joint, low, high)
    axes = _axes(low, high, size)
    log_prob = _log_prob(decoder, x, context, axes)
  joint = log_prob + _log_prior(axes)
  log_area = tf.reduce_sum(tf.math.log(axes[:, :, 1] - axes[:, :, 0]), axis=1)
  total = tf.reduce_logsumexp(joint, axis=[1, 2])
  mass = tf.exp(joint - total[:, tf.newaxis, tf.newaxis])
  border = 1 - tf.reduce_sum(mass[:, 1:-1, 1:-1], axis=[1, 2])
  halved = tf.reduce_logsumexp(joint[:, ::2, ::2], axis=[1, 2]) + np.log(4.0)
  return GridPosterior(axes, log_prob, mass, total + log_area, tf.abs(halved - total), outside + border)


def _axes(low, high, size):
  """Evenly spaced points from `low` to `high` `[batch, 2]`, as `[batch, 2, size]`."""
  return low[..., tf.newaxis] + (high - low)[..., tf.newaxis] * np.linspace(0.0, 1.0, size)


def _log_prob(decoder, x, context, axes):
  """log p(x | z) at all points, `[batch, n, n]`, computed at one point per example at a time."""
  size = axes.shape[-1]
  first, second = (tf.transpose(axes[:, i]) for i in range(2))  # [n, batch]

  def at(point):
    z = tf.stack([first[point // size], second[point % size]], axis=1)
    return decoder.log_prob(x, tf.cast(z, decoder.variable_dtype), context)

  values = tf.map_fn(
    at, tf.range(size * size), fn_output_signature=tf.as_dtype(decoder.variable_dtype), parallel_iterations=1
  )
  return tf.reshape(tf.transpose(tf.cast(values, tf.float64)), [-1, size, size])


def _log_prior(axes):
  """log p(z), `[batch, n, n]`."""
  one = -0.5 * (axes**2 + np.log(2 * np.pi))
  return one[:, 0, :, tf.newaxis] + one[:, 1, tf.newaxis, :]


def _box(axes, joint):
  """The box that holds the posterior, widened by one grid step on all sides: (low, high), each `[batch, 2]`."""
  likely = joint > tf.reduce_max(joint, axis=[1, 2], keepdims=True) - _NATS
  on_axis = tf.stack([tf.reduce_any(likely, axis=2), tf.reduce_any(likely, axis=1)], axis=1)
  step, infinity = axes[:, :, 1] - axes[:, :, 0], tf.constant(np.inf, axes.dtype)
  low = tf.reduce_min(tf.where(on_axis, axes, infinity), axis=2) - step
  high = tf.reduce_max(tf.where(on_axis, axes, -infinity), axis=2) + step
  return low, high


def _mass_outside(axes, joint, low, high):
  """Share of the grid's mass beyond `low` and `high`, `[batch]`."""
  inside = (axes >= low[..., tf.newaxis]) & (axes <= high[..., tf.newaxis])
  inside = inside[:, 0, :, tf.newaxis] & inside[:, 1, tf.newaxis, :]
  beyond = tf.where(inside, tf.constant(-np.inf, joint.dtype), joint)
  return tf.exp(tf.reduce_logsumexp(beyond, axis=[1, 2]) - tf.reduce_logsumexp(joint, axis=[1, 2]))


def best_gaussian(
  grid: GridPosterior,
  starts: Sequence[Params] = (),
  iterations: int = 200,
  kind: type[Params] = GaussianParams,
) -> Params:
  """λ* of each example, the Gaussian with the largest ELBO, `[batch, 2]`, float64.

  Maximises Σ q(z) log p(x | z) / Σ q(z) − KL(q ‖ p) over the grid's points by L-BFGS, without further evaluations of
  the decoder. There are three starting points: the posterior's means and variances; its means, with the variance of
  each latent given the other; and its mode, with a quarter of those variances. Where a posterior has several modes, the
  starting points decide which one is found.

  Args:
    grid: the posteriors.
    starts: further starting points, such as a model's λ, of the type `kind`.
    iterations: largest number of iterations of L-BFGS.
    kind: the type of λ, which says whether the Gaussian is diagonal.
  """
  mean, covariance = grid.moments()
  variance = tf.linalg.diag_part(covariance)
  conditional = 1 / tf.linalg.diag_part(tf.linalg.inv(covariance))
  own = [
    kind.of_diagonal(mean, tf.math.log(variance)),
    kind.of_diagonal(mean, tf.math.log(conditional)),
    kind.of_diagonal(_mode(grid), tf.math.log(conditional / 4)),
  ]
  if kind is FullGaussianParams:
    factor = tf.linalg.cholesky(covariance)
    own.append(kind(mean, 2.0 * tf.math.log(tf.linalg.diag_part(factor)), factor[:, 1, :1]))
  starts = [*own, *starts]
  positions = tf.stack([tf.cast(start.pack(), tf.float64) for start in starts])

  def value_and_gradient(position):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(position)
      value = -grid_elbo(grid, kind.unpack(position))
    return value, tape.gradient(value, position)

  found = tfp.optimizer.lbfgs_minimize(
    value_and_gradient,
    positions,
    tolerance=1e-6,
    max_iterations=iterations,
    stopping_condition=tfp.optimizer.converged_all,
  )
  # A search that fails stops where it is, which may be worse than its starting point.
  candidates = tf.concat([found.position, positions], axis=0)
  values = grid_elbo(grid, kind.unpack(candidates))
  values = tf.where(tf.math.is_finite(values), values, tf.constant(-np.inf, values.dtype))
  best = tf.gather(tf.transpose(candidates, [1, 0, 2]), tf.argmax(values, axis=0), batch_dims=1)
  return kind.unpack(best)


def grid_elbo(grid: GridPosterior, params: Params) -> tf.Tensor:
  """ELBO of λ `[..., batch, 2]` with the expectation taken over the grid's points, `[..., batch]`, nats.

  This is exact if q lies within the grid and is wider than its step. A narrower q counts as its nearest grid points,
  and so never looks better than the best point.
  """
  if isinstance(params, FullGaussianParams):
    return _grid_elbo_full(grid, params)
  z = (grid.axes - params.mean[..., tf.newaxis]) * tf.exp(-0.5 * params.log_var)[..., tf.newaxis]
  q = tf.nn.softmax(-0.5 * z**2)  # [..., batch, 2, n], normalised on each axis separately
  over_second = tf.einsum("bij,...bj->...bi", grid.log_prob, q[..., 1, :])
  return tf.reduce_sum(over_second * q[..., 0, :], axis=-1) - params.kl_to_prior()


def _grid_elbo_full(grid, params):
  """`grid_elbo` of a full covariance, whose q is no product over the axes."""
  away = grid.axes - params.mean[..., tf.newaxis]  # [..., batch, 2, n]
  scale = tf.exp(0.5 * params.log_var)[..., tf.newaxis, tf.newaxis]
  first = away[..., 0, :, tf.newaxis] / scale[..., 0, :, :]
  second = (away[..., 1, tf.newaxis, :] - params.lower[..., tf.newaxis] * first) / scale[..., 1, :, :]
  log_q = -0.5 * (first**2 + second**2)
  q = tf.exp(log_q - tf.reduce_logsumexp(log_q, axis=[-2, -1], keepdims=True))
  return tf.reduce_sum(q * grid.log_prob, axis=[-2, -1]) - params.kl_to_prior()


def _mode(grid):
  batch, size = tf.shape(grid.mass)[0], grid.axes.shape[-1]
  top = tf.argmax(tf.reshape(grid.mass, [batch, -1]), axis=1)
  pairs = ((grid.axes[:, 0], top // size), (grid.axes[:, 1], top % size))
  return tf.stack([tf.gather(axis, index, batch_dims=1) for axis, index in pairs], axis=1)


def elbo(
  decoder: Any,
  x: Any,
  context: Any,
  params: Params,
  nodes: int = 20,
  family: PosteriorFamily = DIAGONAL,
) -> tf.Tensor:
  """ELBO of λ by Gauss–Hermite quadrature with `nodes`² evaluations of the decoder, `[batch]`, nats, float64.

  The result is deterministic, since no noise is drawn.

  Args:
    decoder: log p(x | z) with two latents.
    x: observations.
    context: result of `decoder.precompute(x)`.
    params: λ, `[batch, 2]`.
    family: what q_λ is, where it is no Gaussian. The KL is then by quadrature, too.
    nodes: nodes per axis; exact if log p(x | z) is a polynomial in z of degree up to 2 nodes − 1.
  """
  points, weights = np.polynomial.hermite_e.hermegauss(nodes)
  weights = weights / weights.sum()
  gaussian = family.kl_in_closed_form
  if gaussian:
    params = tf.nest.map_structure(lambda part: tf.cast(part, tf.float64), params)
  noise = tf.constant(np.stack(np.meshgrid(points, points, indexing="ij"), axis=-1).reshape(-1, 2))
  weight = tf.constant(np.outer(weights, weights).reshape(-1))

  def add(i, total):
    if gaussian:
      z, log_weight = params.sample(noise[i]), tf.zeros([], tf.float64)
    else:
      z, log_weight = family.draw(params, tf.cast(noise[i], params.mean.dtype))
    value = decoder.log_prob(x, tf.cast(z, decoder.variable_dtype), context)
    return i + 1, total + weight[i] * (tf.cast(value, tf.float64) + tf.cast(log_weight, tf.float64))

  zero = tf.zeros_like(params.mean[:, 0], tf.float64)
  _, expected = tf.while_loop(
    lambda i, _: i < nodes**2, add, (tf.constant(0), zero), parallel_iterations=1, maximum_iterations=nodes**2
  )
  return expected - params.kl_to_prior() if gaussian else expected
