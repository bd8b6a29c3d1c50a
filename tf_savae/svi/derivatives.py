"""First and second derivatives of L_i(λ; ε) with respect to λ: the inner tape of the refinement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_savae.posterior import Params

# (params, noise [batch, latent], *context) -> negative ELBO of each example [batch], nats.
ExampleLoss = Callable[..., tf.Tensor]


def value_and_gradient(
  neg_elbo: ExampleLoss, params: Params, noise: tf.Tensor, context: Sequence[Any]
) -> tuple[tf.Tensor, Params]:
  """L_i(λ; ε) `[batch]` and ∇_λ L_i, for one noise draw `[batch, latent]`."""
  # Tensors of their own: λ_0 may also be among what neg_elbo closes over or is conditioned on, and that is constant.
  params = tf.nest.map_structure(tf.identity, params)
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(params)
    loss = neg_elbo(params, noise, *context)
  gradient = tape.gradient(loss, list(params), unconnected_gradients="zero")
  return loss, tf.nest.pack_sequence_as(params, gradient)


def mean_value_and_gradient(
  neg_elbo: ExampleLoss, params: Params, noise: tf.Tensor, context: Sequence[Any]
) -> tuple[tf.Tensor, Params]:
  """`value_and_gradient` averaged over noise draws `[num_samples, batch, latent]`."""

  def one(draw):
    loss, gradient = value_and_gradient(neg_elbo, params, draw, context)
    return [loss, *gradient]

  loss, *gradient = over_draws(neg_elbo, one, noise)
  return loss, tf.nest.pack_sequence_as(params, gradient)


def directional_derivative(
  neg_elbo: ExampleLoss,
  params: Params,
  noise: tf.Tensor,
  tangent: Params,
  context: Sequence[Any],
) -> tf.Tensor:
  """Σ_i ⟨tangent_i, ∇_λ L_i⟩, differentiable.

  It is computed by `neg_elbo.directional_derivative(params, noise, tangent, *context) -> [batch]` if that exists.
  """
  method = getattr(neg_elbo, "directional_derivative", None)
  if method is not None:
    return tf.reduce_sum(method(params, noise, tangent, *context))
  _, gradient = value_and_gradient(neg_elbo, params, noise, context)
  return sum(tf.reduce_sum(u * g) for u, g in zip(tangent, gradient, strict=True))


def over_draws(
  neg_elbo: ExampleLoss, function: Callable[[tf.Tensor], list[tf.Tensor]], noise: tf.Tensor
) -> list[tf.Tensor]:
  """Mean of `function(noise)`, which calls `neg_elbo`, over draws `[num_samples, batch, latent]`.

  By one call where `neg_elbo.takes_many_draws`: its noise may then be of this shape, too, and it gives the mean.
  """
  if noise.shape[0] > 1 and getattr(neg_elbo, "takes_many_draws", False):
    return function(noise)
  return over_samples(function, noise)


def over_samples(function: Callable[[tf.Tensor], list[tf.Tensor]], noise: tf.Tensor) -> list[tf.Tensor]:
  """Mean of `function(noise[s])` over the draws s: a pair at once, more of them one at a time, for memory's sake.

  Args:
    function: maps noise `[batch, latent]` to a list of tensors.
    noise: `[num_samples, batch, latent]`, where num_samples is static.
  """
  num_samples = noise.shape[0]
  if num_samples == 1:
    return function(noise[0])

  if num_samples == 2:  # a loop around a pair costs a tenth of its time
    return [0.5 * (a + b) for a, b in zip(function(noise[0]), function(noise[1]), strict=True)]

  def add(s, total):
    return s + 1, [t + v for t, v in zip(total, function(noise[s]), strict=True)]

  first = function(noise[0])
  _, total = tf.while_loop(
    lambda s, _: s < num_samples,
    add,
    (tf.constant(1), first),
    shape_invariants=(tf.TensorShape([]), [t.shape for t in first]),
    parallel_iterations=1,
    maximum_iterations=num_samples - 1,
  )
  return [t / num_samples for t in total]
