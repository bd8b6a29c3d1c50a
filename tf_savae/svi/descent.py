"""Stochastic variational inference: the K gradient steps that refine λ (paper, section 3; DESIGN notation).

    v_0     = 0
    g_k     = ∇_λ L_i(λ_k, θ, x; ε_k)
    v_{k+1} = γ v_k − clip(g_k)
    λ_{k+1} = λ_k + α_k v_{k+1}                      k = 0 … K−1

With a tolerance, an example stops for good at the first step that is expected to gain no more than it, to first order
−⟨g_k, α_k v_{k+1}⟩: from there on its v is 0, and steps that no example takes are not done. Likewise all examples stop
after the first `k_now` steps, where that is given: a tensor, so that one graph serves every number of steps.

Everything is per example: L_i is the negative ELBO of one example, and clip and step never look at another row.
This file runs the steps; `adjoint` differentiates through them.
"""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_savae.posterior import GaussianParams

# (params, noise [batch, latent], *context) -> negative ELBO [batch], nats.
NegELBO = Callable[..., tf.Tensor]


@dataclasses.dataclass(frozen=True)
class SVISettings:
  """How λ is refined.

  Attributes:
    num_steps: K ≥ 0.
    step_size: α on the per-example loss: one number, K numbers (a schedule), or a float tensor or variable of
      shape `[]`, `[K]` or `[K, latent]`, which then receives its gradient.
    momentum: γ in [0, 1).
    clip_norm: bound on the norm of one example's gradient, μ and log σ² separately; None: no clipping.
    num_samples: noise draws whose gradients are averaged in every step.
    tolerance: nats that a step must be expected to gain for an example, or its refinement stops there; 0: all K
      steps are done. Noise keeps the expected gain up: with one draw a step, a tolerance below α tr Cov(g) stops
      little.
    antithetic: whether the draws of a step come in pairs ε, −ε, so that gradient noise odd in ε cancels; then
      num_samples is even.
  """

  num_steps: int = 20
  step_size: float | Sequence[float] | tf.Tensor | tf.Variable = 0.02
  momentum: float = 0.5
  clip_norm: float | None = None
  num_samples: int = 1
  tolerance: float = 0.0
  antithetic: bool = False

  def __post_init__(self):
    if not isinstance(self.num_steps, numbers.Integral) or self.num_steps < 0:
      raise ValueError(f"num_steps is a number of SVI steps, 0 or more. Received: {self.num_steps}")
    if not 0.0 <= self.momentum < 1.0:
      raise ValueError(f"momentum must lie in [0, 1). Received: {self.momentum}")
    if self.clip_norm is not None and not self.clip_norm > 0.0:
      raise ValueError(f"clip_norm must be positive, or None for no clipping. Received: {self.clip_norm}")
    if not isinstance(self.num_samples, numbers.Integral) or self.num_samples < 1:
      raise ValueError(f"num_samples must be 1 or more. Received: {self.num_samples}")
    if self.antithetic and self.num_samples % 2:
      raise ValueError(
        "Antithetic draws come in pairs: num_samples must be even, or antithetic False. "
        f"Received: {self.num_samples}"
      )
    if not 0.0 <= self.tolerance < np.inf:
      raise ValueError(f"tolerance is a number of nats, 0 or more. Received: {self.tolerance}")
    if not _is_tensor(self.step_size):
      sizes = np.asarray(self.step_size, dtype=np.float64)
      if not np.all(np.isfinite(sizes)) or np.any(sizes < 0):
        raise ValueError(f"step_size must be finite and not negative. Received: {self.step_size}")
      shape = tf.TensorShape(sizes.shape)
    else:
      shape = self.step_size.shape
    allowed = ([], [self.num_steps], [self.num_steps, None])
    if not any(shape.is_compatible_with(other) for other in allowed):
      raise ValueError(
        f"step_size must be one number, {self.num_steps} numbers (one a step) or [{self.num_steps}, latent]. "
        f"Received shape: {shape}"
      )

  @property
  def independent_samples(self) -> int:
    """Draws of a step that come from the generator; the others are their negatives."""
    return self.num_samples // 2 if self.antithetic else self.num_samples

  def all_samples(self, independent: tf.Tensor) -> tf.Tensor:
    """ε `[…, num_samples, batch, latent]` of the draws `[…, independent_samples, batch, latent]`."""
    return tf.concat([independent, -independent], axis=-3) if self.antithetic else independent

  def step_sizes(self, dtype: tf.DType) -> tf.Tensor:
    """α_0 … α_{K−1} as `[K, 1]`, or `[K, latent]` where each latent has its own."""
    # Python numbers go straight to `dtype`: by way of float32 they would lose half of a float64's digits.
    sizes = self.step_size if _is_tensor(self.step_size) else np.asarray(self.step_size, np.float64)
    sizes = tf.cast(sizes, dtype)
    if sizes.shape.rank == 2:
      return sizes
    return tf.broadcast_to(tf.reshape(sizes, [-1, 1]), [self.num_steps, 1])


def _is_tensor(value):
  return tf.is_tensor(value) or isinstance(value, tf.Variable)


class Trace(NamedTuple):
  """What K steps leave behind: all that the adjoint stores, its size is K times that of λ.

  Attributes:
    params: λ_0 … λ_K, `[K + 1, batch, latent]`.
    velocity: v_1 … v_K, `[K, batch, latent]`.
    gradient: g_0 … g_{K−1} before clipping, `[K, batch, latent]`.
    neg_elbo: L(λ_k; ε_k) for k = 0 … K−1, a by-product, `[K, batch]`, nats. No gradient flows through it.
      Steps that were not done repeat the last one.
    active: whether an example took step k, `[K, batch]`; None without tolerance and `k_now`: all did.
  """

  params: GaussianParams
  velocity: GaussianParams
  gradient: GaussianParams
  neg_elbo: tf.Tensor
  active: tf.Tensor | None = None


def clip(gradient: GaussianParams, clip_norm: float | None) -> GaussianParams:
  """Scales each example's gradient to norm `clip_norm` where it is longer, μ and log σ² separately.

  The squared norm is bounded from below before the square root, so that the derivative at 0 is that of the
  identity and not NaN.
  """
  if clip_norm is None:
    return gradient

  def clip_rows(rows):
    square = tf.reduce_sum(tf.square(rows), axis=-1, keepdims=True)
    norm = tf.sqrt(tf.maximum(square, np.finfo(rows.dtype.as_numpy_dtype).tiny))
    return rows * tf.minimum(tf.ones_like(norm), clip_norm / norm)

  return GaussianParams(*map(clip_rows, gradient))


def value_and_gradient(
  neg_elbo: NegELBO, params: GaussianParams, noise: tf.Tensor, context: Sequence[Any]
) -> tuple[tf.Tensor, GaussianParams]:
  """L_i(λ; ε) `[batch]` and ∇_λ L_i, for one noise draw `[batch, latent]`."""
  # Tensors of their own: λ_0 may also be among what neg_elbo closes over or is conditioned on, and that is constant.
  params = GaussianParams(*map(tf.identity, params))
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(params)
    loss = neg_elbo(params, noise, *context)
  return loss, GaussianParams(*tape.gradient(loss, list(params), unconnected_gradients="zero"))


def over_samples(function: Callable[[tf.Tensor], list[tf.Tensor]], noise: tf.Tensor) -> list[tf.Tensor]:
  """Mean of `function(noise[s])` over the draws s, one at a time: memory does not grow with their number.

  Args:
    function: maps noise `[batch, latent]` to a list of tensors.
    noise: `[num_samples, batch, latent]`, num_samples static.
  """
  num_samples = noise.shape[0]
  if num_samples == 1:
    return function(noise[0])

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


def mean_value_and_gradient(
  neg_elbo: NegELBO, params: GaussianParams, noise: tf.Tensor, context: Sequence[Any]
) -> tuple[tf.Tensor, GaussianParams]:
  """`value_and_gradient` averaged over noise draws `[num_samples, batch, latent]`."""

  def one(draw):
    loss, gradient = value_and_gradient(neg_elbo, params, draw, context)
    return [loss, *gradient]

  loss, mean, log_var = over_samples(one, noise)
  return loss, GaussianParams(mean, log_var)


def step(
  neg_elbo: NegELBO,
  params: GaussianParams,
  velocity: GaussianParams,
  step_size: tf.Tensor,
  noise: tf.Tensor,
  context: Sequence[Any],
  settings: SVISettings,
  active: tf.Tensor | None = None,
) -> tuple[GaussianParams, GaussianParams, GaussianParams, tf.Tensor, tf.Tensor | None]:
  """One SVI step: (λ_{k+1}, v_{k+1}, g_k, L(λ_k), who took it) from (λ_k, v_k, who took all steps before)."""
  loss, gradient = mean_value_and_gradient(neg_elbo, params, noise, context)
  # Here, not after the loop, whose derivative would pass a gradient of zeros back through the decoder.
  loss = tf.stop_gradient(loss)
  clipped = clip(gradient, settings.clip_norm)
  velocity = GaussianParams(*(settings.momentum * v - c for v, c in zip(velocity, clipped, strict=True)))
  if settings.tolerance:
    gain = -sum(tf.reduce_sum(g * step_size * v, axis=-1) for g, v in zip(gradient, velocity, strict=True))
    active &= gain > settings.tolerance
  if active is not None:
    velocity = only(active, velocity)
  params = GaussianParams(*(p + step_size * v for p, v in zip(params, velocity, strict=True)))
  return params, velocity, gradient, loss, active


def only(active: tf.Tensor, parts: GaussianParams) -> GaussianParams:
  """`parts` `[batch, latent]` of the examples that are active `[batch]`, 0 for the others."""
  return GaussianParams(*(tf.where(active[:, tf.newaxis], p, tf.zeros_like(p)) for p in parts))


def all_active(params: GaussianParams, settings: SVISettings, k_now: tf.Tensor | None) -> tf.Tensor | None:
  """Who takes part at the beginning: everyone, `[batch]`; None where nobody can stop before the last step."""
  stops = settings.tolerance or k_now is not None
  return tf.ones_like(params.mean[:, 0], tf.bool) if stops else None


def descend(
  neg_elbo: NegELBO,
  initial: GaussianParams,
  step_sizes: tf.Tensor,
  noise: tf.Tensor,
  context: Sequence[Any],
  settings: SVISettings,
  k_now: tf.Tensor | None = None,
) -> Trace:
  """K steps from `initial` in one `tf.while_loop`: a graph of constant size.

  Args:
    neg_elbo: L_i(λ, θ, x; ε), `[batch]`.
    initial: λ_0, `[batch, latent]`.
    step_sizes: α_k, `[K, 1]` or `[K, latent]`.
    noise: ε, `[K, num_samples, batch, latent]`.
    context: further arguments of `neg_elbo`.
    settings: K ≥ 1, momentum, clipping and tolerance.
    k_now: steps to take, 1 … K, a scalar int32; default: K.
  """
  shape, num_steps = initial.mean.shape, settings.num_steps
  zero = GaussianParams(tf.zeros_like(initial.mean), tf.zeros_like(initial.log_var))
  nothing = tf.zeros_like(initial.mean[:, 0])
  active = all_active(initial, settings, k_now)
  stops = active is not None
  active = [active] if stops else []
  limit = num_steps if k_now is None else k_now

  def array(like):
    empty = tf.TensorArray(like.dtype, num_steps, element_shape=like.shape)
    # Where the loop may end early, what it leaves out is 0.
    return empty.unstack(tf.repeat(like[tf.newaxis], num_steps, axis=0)) if stops else empty

  def body(k, params, velocity, active, arrays):
    new, velocity, gradient, loss, *still = step(
      neg_elbo, params, velocity, step_sizes[k], noise[k], context, settings, *active
    )
    for tensor in (*new, *velocity):
      tensor.set_shape(shape)
    still = still if stops else []
    values = (*params, *velocity, *gradient, loss, *still)
    return k + 1, new, velocity, still, [a.write(k, v) for a, v in zip(arrays, values, strict=True)]

  arrays = [array(part) for part in (*zero, *zero, *zero, nothing, *(tf.zeros_like(a) for a in active))]
  end, final, _, _, arrays = tf.while_loop(
    lambda k, _params, _velocity, active, _arrays: (
      (k < limit) & tf.reduce_any(active) if settings.tolerance else k < limit
    ),
    body,
    (tf.constant(0), initial, zero, active, arrays),
    parallel_iterations=1,
    maximum_iterations=num_steps,
  )
  mean, log_var, v_mean, v_log_var, g_mean, g_log_var, loss, *active = (a.stack() for a in arrays)
  if stops:
    done = tf.range(num_steps)[:, tf.newaxis] < end
    mean, log_var = (
      tf.where(done[..., tf.newaxis], part, last) for part, last in zip((mean, log_var), final, strict=True)
    )
    loss = tf.where(done, loss, loss[end - 1])
  params = GaussianParams(
    tf.concat([mean, final.mean[None]], axis=0), tf.concat([log_var, final.log_var[None]], axis=0)
  )
  return Trace(params, GaussianParams(v_mean, v_log_var), GaussianParams(g_mean, g_log_var), loss, *active)
