"""`refine`: K steps of SVI on λ as one differentiable function (paper, section 3).

Its result is differentiable with respect to λ_0, float tensors in `context` and the step sizes. It is also
differentiable with respect to every `tf.Variable` that `neg_elbo` or the rule reads, and every float tensor that they
close over. Wrap a tensor that needs no gradient in `tf.stop_gradient`: in a graph, its part of the backward sweep is
then left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tf_savae.ops.closure import closed_over_tensors, needs_gradient
from tf_savae.posterior import Params
from tf_savae.svi import adjoint as adjoint_lib
from tf_savae.svi.derivatives import ExampleLoss
from tf_savae.svi.descent import Problem, Trace
from tf_savae.svi.rules import as_state
from tf_savae.svi.settings import SVISettings


class Refinement(NamedTuple):
  """The result of `refine`.

  Attributes:
    params: λ_K, `[batch, latent]`, of the type of λ_0.
    trajectory: λ_0 … λ_K, `[num_steps + 1, batch, latent]`.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae import GaussianParams, SVISettings, refine
    >>> start = GaussianParams(tf.ones([3, 2]), tf.zeros([3, 2]))
    >>> def neg_elbo(params, noise):
    ...   return params.kl_to_prior()
    >>> result = refine(neg_elbo, start, SVISettings(num_steps=5), noise=tf.zeros([5, 3, 2]))
    >>> result.params.mean.shape, result.trajectory.mean.shape
    (TensorShape([3, 2]), TensorShape([6, 3, 2]))
  """

  params: Params
  trajectory: Params


def refine(
  neg_elbo: ExampleLoss,
  initial: Params,
  settings: SVISettings,
  *,
  noise: tf.Tensor,
  context: Sequence[Any] = (),
  adjoint: str | adjoint_lib.Adjoint = "exact",
  k_now: int | tf.Tensor | None = None,
) -> Refinement:
  """Refines λ_0 by K steps of SVI, differentiably.

  Args:
    neg_elbo: `neg_elbo(params, noise, *context) -> [batch]`, nats. Row i may depend only on row i of the arguments. It
      must be a pure function, so random masks belong in `context`.
    initial: λ_0, `[batch, latent]`; the batch size may be unknown. A `GaussianParams`, or a
      `tf_savae.full_gaussian.FullGaussianParams` for a full covariance.
    settings: K, α, the rule of a step, and its number of noise draws.
    noise: ε ~ N(0, I), `[K, batch, latent]`, or `[K, num_samples, batch, latent]` for several draws. Used as given;
      `settings.noise_draws.all_samples` makes the draws that `settings.draws` names.
    context: further arguments of `neg_elbo`, tensors or nests of tensors.
    adjoint: how gradients pass through the steps: an `Adjoint`, or its name in `tf_savae.svi.ADJOINTS`.
    k_now: how many of the K steps to take, counted from the first. It may be a scalar tensor, so that one graph serves
      all values. Values below 1 count as 1, and values above K as K; default: K. Steps that are not taken cost nothing,
      except with "unrolled".

  Returns:
    `Refinement(params, trajectory)`; after `k_now` steps the trajectory stays where it is.

  Raises:
    ValueError: if `noise` does not have the shape above or `adjoint` is unknown.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae import GaussianParams, SVISettings, refine
    >>> target = tf.Variable([1.0, -2.0])
    >>> def neg_elbo(params, noise):
    ...   z = params.sample(noise)
    ...   return 0.5 * tf.reduce_sum(tf.square(z - target), axis=-1) + params.kl_to_prior()
    >>> start = GaussianParams(tf.zeros([3, 2]), tf.zeros([3, 2]))
    >>> noise = tf.random.stateless_normal([4, 3, 2], seed=[0, 1])  # [K, batch, latent]
    >>> with tf.GradientTape() as tape:
    ...   params, _ = refine(neg_elbo, start, SVISettings(num_steps=4, step_size=0.1), noise=noise)
    ...   loss = tf.reduce_sum(params.mean)
    >>> tape.gradient(loss, target).shape  # through all 4 steps
    TensorShape([2])
  """
  options = {"noise": noise, "context": context, "adjoint": adjoint, "k_now": k_now}
  return refine_traced(neg_elbo, initial, settings, **options)[0]


def refine_traced(
  neg_elbo: ExampleLoss,
  initial: Params,
  settings: SVISettings,
  *,
  noise: tf.Tensor,
  context: Sequence[Any] = (),
  adjoint: str | adjoint_lib.Adjoint = "exact",
  k_now: int | tf.Tensor | None = None,
  keeps_first_loss: bool = False,
) -> tuple[Refinement, Trace]:
  """`refine`, with what the steps computed on their way: λ_k, g_k and L(λ_k; ε_k) for k = 0 … K−1.

  With `keeps_first_loss` L(λ_0; ε_0) keeps its gradient, if the adjoint `can_keep_first_loss`.
  """
  adjoint = adjoint_lib.get(adjoint)
  initial = tf.nest.map_structure(tf.convert_to_tensor, initial)
  noise = _canonical_noise(noise, initial, settings)
  if settings.num_steps == 0:
    trajectory = tf.nest.map_structure(lambda part: part[None], initial)
    path, of_rows = initial.pack()[None], tf.zeros_like(initial.mean[None, :, 0])[:0]
    nothing = Trace(path, (), tf.zeros_like(path)[:0], tf.cast(of_rows, tf.bool), of_rows)
    return Refinement(initial, trajectory), nothing
  context = tuple(tf.nest.map_structure(_as_tensor, item) for item in context)
  problem = _problem(neg_elbo, initial, settings, noise, context, k_now)
  problem = dataclasses.replace(problem, keeps_first_loss=keeps_first_loss)
  trace = adjoint.run(problem)
  trajectory = problem.kind.unpack(trace.params)
  return Refinement(tf.nest.map_structure(lambda part: part[-1], trajectory), trajectory), trace


def _problem(neg_elbo, initial, settings, noise, context, k_now):
  if k_now is not None:
    k_now = tf.clip_by_value(tf.cast(k_now, tf.int32), 1, settings.num_steps)
  packed, kind = initial.pack(), type(initial)
  rule, sizes = settings.step_rule.for_params(kind), settings.sizes_for(initial)
  passed = [t for t in tf.nest.flatten(context) if tf.is_tensor(t) and needs_gradient(t)]
  state = tuple(map(tf.stop_gradient, as_state(rule.init(packed))))
  by_rule = closed_over_tensors(rule.update, 0, packed, packed, state, sizes[0])
  by_rule += closed_over_tensors(rule.init, packed)
  closed_over = closed_over_tensors(neg_elbo, initial, noise[0, 0], *context)
  # Each tensor once, even if it is passed several times: a tape's gradient covers all uses of a tensor.
  conditioning = tuple({id(tensor): tensor for tensor in (*passed, *closed_over, *by_rule)}.values())
  return Problem(neg_elbo, packed, sizes, noise, context, rule, settings.tolerance, k_now, conditioning, kind)


def _as_tensor(item):
  return tf.convert_to_tensor(item) if hasattr(item, "__array__") or tf.is_tensor(item) else item


def _canonical_noise(noise, initial, settings):
  """`[num_steps, num_samples, batch, latent]`."""
  noise = tf.cast(tf.convert_to_tensor(noise), initial.mean.dtype)
  expected = tf.TensorShape([settings.num_steps, settings.num_samples]).concatenate(initial.mean.shape)
  if settings.num_samples == 1 and noise.shape.rank == 3:
    noise = noise[:, None]
  if not noise.shape.is_compatible_with(expected):
    raise ValueError(
      f"noise must have shape {expected} (num_samples may be left out if 1). Received: {noise.shape}"
    )
  return tf.ensure_shape(noise, expected)
