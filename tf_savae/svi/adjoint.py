"""Differentiating through the refinement (paper, section 3 and algorithm 2): one small class a mode.

With a = ∂ℓ/∂λ and b = ∂ℓ/∂v, going back over k = K−1 … 0 from a = ∇_λ ℓ(λ_K), b = 0:

    b ← b + α_k a
    u ← −(∂clip/∂g at g_k)ᵀ b
    a ← a + ∇²_λλ L(λ_k) u                       Hessian-vector product
    θ̄ ← θ̄ + ∂/∂θ ⟨u, ∇_λ L(λ_k, θ)⟩             mixed term, also for every tensor L was conditioned on
    b ← γ b

and ∂ℓ/∂α_k = ⟨a_{k+1}, v_{k+1}⟩. Both second-order terms are one gradient of the scalar ⟨u, ∇_λ L(λ_k)⟩.
For an example that did not take step k, b ← 0 after the first line: the step is the identity.
Costs are in U, one forward pass of the decoder; a reverse pass to λ alone costs about 1 U more, to λ and θ 2 U.

A `neg_elbo` that has a method `directional_derivative(params, noise, tangent, *context) -> [batch]`, equal to
⟨tangent, ∇_λ L_i⟩, is asked for it; otherwise an inner tape computes the product.

With a `compute_dtype`, the decoder computes the second-order products in it, by the method `computing_in(dtype)` that
`neg_elbo` then needs; λ, u, a, b and the sum θ̄ keep float32, and so do the trajectory and the loss. Finite differences
could not do so: they are smaller than the steps of bfloat16.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_savae.ops import xla_gradients  # noqa: F401, registers what a compiled adjoint differentiates
from tf_savae.posterior import GaussianParams
from tf_savae.svi import descent as svi


@dataclasses.dataclass(frozen=True)
class Problem:
  """One refinement to run and to differentiate.

  Attributes:
    neg_elbo: L_i(λ, θ, x; ε).
    initial: λ_0, `[batch, latent]`.
    step_sizes: α_k, `[K, 1]` or `[K, latent]`.
    noise: ε, `[K, num_samples, batch, latent]`.
    context: arguments of `neg_elbo` after params and noise.
    conditioning: all float tensors, in `context` or closed over, that L depends on and that receive gradients.
    settings: K ≥ 1, momentum, clipping.
    k_now: how many of the K steps are taken, 1 … K, a scalar int32; None: K.
  """

  neg_elbo: svi.NegELBO
  initial: GaussianParams
  step_sizes: tf.Tensor
  noise: tf.Tensor
  context: tuple[Any, ...]
  conditioning: tuple[tf.Tensor, ...]
  settings: svi.SVISettings
  k_now: tf.Tensor | None = None


class Adjoint:
  """How gradients pass through K steps of SVI."""

  compute_dtype: str | None = None  # of the decoder's arithmetic in second-order products; None: its own

  def run(self, problem: Problem) -> svi.Trace:
    """Runs the steps; the trace's `params` are differentiable as the mode says."""
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class UnrolledAdjoint(Adjoint):
  """The definition: the K steps unrolled in Python under the caller's tape.

  Graph and memory grow with K, also where fewer steps are taken; about 6K + 3 U. What the other modes are tested
  against.
  Source: paper, section 3.1; Domke (2012), Maclaurin et al. (2015).
  """

  def run(self, problem: Problem) -> svi.Trace:
    p = problem
    params = p.initial
    velocity = GaussianParams(tf.zeros_like(params.mean), tf.zeros_like(params.log_var))
    active = svi.all_active(params, p.settings, p.k_now)
    visited, velocities, gradients, losses, actives = [params], [], [], [], []
    for k in range(p.settings.num_steps):
      if p.k_now is not None:
        active &= k < p.k_now
      before = active
      params, velocity, gradient, loss, active = svi.step(
        p.neg_elbo, params, velocity, p.step_sizes[k], p.noise[k], p.context, p.settings, active
      )
      if before is not None and losses:
        loss = tf.where(tf.reduce_any(before), loss, losses[-1])
      visited.append(params)
      velocities.append(velocity)
      gradients.append(gradient)
      losses.append(loss)
      actives.append(active)

    def stack(sequence):
      return GaussianParams(*(tf.stack(parts) for parts in zip(*sequence, strict=True)))

    losses, actives = tf.stop_gradient(tf.stack(losses)), None if active is None else tf.stack(actives)
    return svi.Trace(stack(visited), stack(velocities), stack(gradients), losses, actives)


@dataclasses.dataclass(frozen=True)
class StoredAdjoint(Adjoint):
  """The definition with the steps in one loop under the caller's tape, which keeps what each step computed.

  The graph is constant in K; memory grows with K by what the derivatives of a step need. About 6K + 3 U.
  """

  def run(self, problem: Problem) -> svi.Trace:
    p = problem
    trace = svi.descend(p.neg_elbo, p.initial, p.step_sizes, p.noise, p.context, p.settings, p.k_now)
    return trace._replace(neg_elbo=tf.stop_gradient(trace.neg_elbo))


class RecursiveAdjoint(Adjoint):
  """The recursion above over the last steps; the steps before them count as the identity ∂λ_{k+1}/∂λ_k = I.

  Stores λ_k, v_k and g_k only and recomputes the rest in a `tf.while_loop`: graph size and memory are constant in
  K but for those three.
  """

  def differentiated_steps(self, num_steps: int) -> int:
    """How many of the last steps are differentiated exactly."""
    return num_steps

  def second_order(
    self,
    neg_elbo: svi.NegELBO,
    params: GaussianParams,
    noise: tf.Tensor,
    tangent: GaussianParams,
    context: Sequence[Any],
    targets: Sequence[tf.Tensor | tf.Variable],
  ) -> list[tf.Tensor]:
    """Gradients of ⟨tangent, ∇_λ Σ_i L_i⟩ with respect to μ, log σ² and each of `targets`."""
    dtype = self.compute_dtype
    with neg_elbo.computing_in(dtype) if dtype else contextlib.nullcontext():
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(params)
        tape.watch(targets)
        product = directional_derivative(neg_elbo, params, noise, tangent, context)
      return _dense_gradients(tape, product, [*params, *targets])

  def run(self, problem: Problem) -> svi.Trace:
    outside = {}

    # Gradients reach only what is passed as an argument, so conditioning tensors are arguments, too; inside, the
    # originals are used, because the tapes of the backward sweep have to watch what neg_elbo really reads.
    @tf.custom_gradient
    def refine(mean, log_var, step_sizes, *conditioning):
      del mean, log_var, step_sizes, conditioning
      trace = svi.descend(
        problem.neg_elbo,
        problem.initial,
        problem.step_sizes,
        problem.noise,
        problem.context,
        problem.settings,
        problem.k_now,
      )
      outside["trace"] = trace

      def gradient(d_mean, d_log_var, variables=None):
        variables = list(variables or [])
        inputs, weights = self._backward(problem, trace, GaussianParams(d_mean, d_log_var), variables)
        return (inputs, weights) if variables else inputs

      return tuple(trace.params), gradient

    mean, log_var = refine(*problem.initial, problem.step_sizes, *problem.conditioning)
    trace = outside["trace"]
    return trace._replace(params=GaussianParams(mean, log_var), neg_elbo=tf.stop_gradient(trace.neg_elbo))

  def _backward(self, problem, trace, cotangent, variables):
    """Gradients of ⟨cotangent, λ_0…λ_K⟩: (for λ_0, α, conditioning tensors), (for variables)."""
    settings, num_steps = problem.settings, problem.settings.num_steps
    differentiated = min(self.differentiated_steps(num_steps), num_steps)
    first, last, stops = num_steps - differentiated, num_steps, trace.active is not None
    if problem.k_now is not None:
      first = tf.maximum(problem.k_now - differentiated, 0)
    if stops:
      # From step `last` on nobody moves: no loop for these.
      taken = tf.reduce_sum(tf.cast(tf.reduce_any(trace.active, axis=1), tf.int32))
      last = tf.maximum(taken, first)
    targets = [*problem.conditioning, *variables]
    shape = problem.initial.mean.shape

    def body(k, a, b, totals, history):
      history = [h.write(k, part) for h, part in zip(history, a, strict=True)]
      b = GaussianParams(*(v + problem.step_sizes[k] * p for v, p in zip(b, a, strict=True)))
      if stops:
        b = svi.only(trace.active[k], b)
      u = _clip_transpose(trace.gradient, k, b, settings.clip_norm)
      at = GaussianParams(trace.params.mean[k], trace.params.log_var[k])
      for tensor in (*at, *u):
        tensor.set_shape(shape)
      products = svi.over_samples(
        lambda noise: self.second_order(problem.neg_elbo, at, noise, u, problem.context, targets),
        problem.noise[k],
      )
      a = GaussianParams(*(v + h + c[k] for v, h, c in zip(a, products[:2], cotangent, strict=True)))
      for tensor in a:
        tensor.set_shape(shape)
      b = GaussianParams(*(settings.momentum * v for v in b))
      totals = [_keep_shape(t + g, t) for t, g in zip(totals, products[2:], strict=True)]
      return k - 1, a, b, totals, history

    a = GaussianParams(cotangent.mean[num_steps], cotangent.log_var[num_steps])
    if stops:
      after = tf.reshape(tf.range(num_steps + 1) >= last, [-1, 1, 1])
      a = GaussianParams(*(tf.reduce_sum(tf.where(after, c, tf.zeros_like(c)), axis=0) for c in cotangent))
    for tensor in a:
      tensor.set_shape(shape)
    zero = GaussianParams(tf.zeros_like(a.mean), tf.zeros_like(a.log_var))
    totals = [tf.zeros_like(t) for t in targets]
    history = [tf.TensorArray(a.mean.dtype, num_steps, element_shape=shape) for _ in range(2)]
    if stops or differentiated < num_steps:
      history = [h.unstack(tf.zeros_like(v)) for h, v in zip(history, trace.velocity, strict=True)]
    _, a, _, totals, history = tf.while_loop(
      lambda k, *_: k >= first,
      body,
      (tf.convert_to_tensor(last - 1), a, zero, totals, history),
      parallel_iterations=1,
      maximum_iterations=differentiated,
    )
    history = [h.stack() for h in history]
    if differentiated < num_steps:
      # The steps before `first`, the identity as far as λ goes: a only collects the trajectory's cotangents.
      early = tf.reshape(tf.range(num_steps) < first, [-1, 1, 1])
      passed = [tf.where(early, c[:-1], tf.zeros_like(c[:-1])) for c in cotangent]
      after = [v + tf.cumsum(c, axis=0, exclusive=True, reverse=True) for v, c in zip(a, passed, strict=True)]
      history = [tf.where(early, v, h) for v, h in zip(after, history, strict=True)]
      a = GaussianParams(*(v + tf.reduce_sum(c, axis=0) for v, c in zip(a, passed, strict=True)))
    d_step_sizes = sum(tf.reduce_sum(h * v, axis=1) for h, v in zip(history, trace.velocity, strict=True))
    if problem.step_sizes.shape[-1] == 1:
      d_step_sizes = tf.reduce_sum(d_step_sizes, axis=-1, keepdims=True)
    split = len(problem.conditioning)
    return [*a, d_step_sizes, *totals[:split]], totals[split:]


@dataclasses.dataclass(frozen=True)
class ExactAdjoint(RecursiveAdjoint):
  """The exact total derivative, every second-order term by nested tapes.

  About 8K + 3 U: 2K forward, 6K backward. Source: DESIGN section 4; Pearlmutter (1994) for the product.

  Attributes:
    compute_dtype: of the decoder's arithmetic in second-order products: "bfloat16", or None, its own.
  """

  compute_dtype: str | None = None


@dataclasses.dataclass(frozen=True)
class TruncatedAdjoint(RecursiveAdjoint):
  """Exact over the last `steps` of the K steps, the identity before them; `steps` = K is exact, 0 is first order.

  About 2K + 6·steps + 3 U.

  Attributes:
    steps: 0 or more.
    compute_dtype: as of `ExactAdjoint`.
  """

  steps: int = 5
  compute_dtype: str | None = None

  def __post_init__(self):
    if self.steps < 0:
      raise ValueError(f"TruncatedAdjoint differentiates 0 or more steps. Received: {self.steps}")

  def differentiated_steps(self, num_steps: int) -> int:
    return self.steps


@dataclasses.dataclass(frozen=True)
class FirstOrderAdjoint(RecursiveAdjoint):
  """Treats ∂λ_K/∂λ_0 as I and drops the mixed terms: no second derivative at all. About 2K + 3 U."""

  def differentiated_steps(self, num_steps: int) -> int:
    return 0


@dataclasses.dataclass(frozen=True)
class FiniteDifferenceAdjoint(RecursiveAdjoint):
  """The paper's: (∇L(λ_k + r u) − ∇L(λ_k)) / r for both second-order terms.

  About 8K + 3 U. In float32 the paper's r = 1e-5 gives little more than rounding noise on real-size models; r = 1e-2
  is accurate to about 1 %. Source: paper, section 3.2; LeCun et al. (1993).

  Attributes:
    radius: r.
  """

  radius: float = 1e-5

  def __post_init__(self):
    if not self.radius > 0:
      raise ValueError(f"FiniteDifferenceAdjoint needs a positive radius. Received: {self.radius}")

  def second_order(self, neg_elbo, params, noise, tangent, context, targets):
    def gradients(at):
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(at)
        tape.watch(targets)
        loss = tf.reduce_sum(neg_elbo(at, noise, *context))
      return _dense_gradients(tape, loss, [*at, *targets])

    moved = GaussianParams(*(p + self.radius * u for p, u in zip(params, tangent, strict=True)))
    return [(p - q) / self.radius for p, q in zip(gradients(moved), gradients(params), strict=True)]


ADJOINTS: dict[str, type[Adjoint]] = {
  "exact": ExactAdjoint,
  "stored": StoredAdjoint,
  "unrolled": UnrolledAdjoint,
  "finite_difference": FiniteDifferenceAdjoint,
  "truncated": TruncatedAdjoint,
  "first_order": FirstOrderAdjoint,
}


def get(adjoint: str | Adjoint) -> Adjoint:
  """The adjoint object for a name of `ADJOINTS`, or the object itself."""
  if isinstance(adjoint, Adjoint):
    return adjoint
  if adjoint not in ADJOINTS:
    raise ValueError(f"Unknown adjoint; the names are {', '.join(ADJOINTS)}. Received: {adjoint!r}")
  return ADJOINTS[adjoint]()


def to_config(adjoint: Adjoint) -> dict[str, Any]:
  """Name and parameters of one of `ADJOINTS`, as plain values."""
  names = {cls: name for name, cls in ADJOINTS.items()}
  return {"name": names[type(adjoint)], **vars(adjoint)}


def from_config(config: dict[str, Any]) -> Adjoint:
  """The inverse of `to_config`."""
  return ADJOINTS[config["name"]](**{k: v for k, v in config.items() if k != "name"})


def directional_derivative(
  neg_elbo: svi.NegELBO,
  params: GaussianParams,
  noise: tf.Tensor,
  tangent: GaussianParams,
  context: Sequence[Any],
) -> tf.Tensor:
  """Σ_i ⟨tangent_i, ∇_λ L_i⟩, differentiable; by `neg_elbo.directional_derivative` where there is one."""
  method = getattr(neg_elbo, "directional_derivative", None)
  if method is not None:
    return tf.reduce_sum(method(params, noise, tangent, *context))
  _, gradient = svi.value_and_gradient(neg_elbo, params, noise, context)
  return sum(tf.reduce_sum(u * g) for u, g in zip(tangent, gradient, strict=True))


def _clip_transpose(gradients, k, b, clip_norm):
  """u = −(∂clip/∂g at g_k)ᵀ b."""
  if clip_norm is None:
    return GaussianParams(*(-v for v in b))
  at = GaussianParams(*(g[k] for g in gradients))
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(at)
    clipped = svi.clip(at, clip_norm)
  return GaussianParams(*tape.gradient(list(clipped), list(at), output_gradients=[-v for v in b]))


def _dense_gradients(tape, value, sources):
  gradients = tape.gradient(value, sources, unconnected_gradients="zero")
  return [tf.convert_to_tensor(g) for g in gradients]  # embeddings give tf.IndexedSlices


def _keep_shape(tensor, like):
  tensor.set_shape(like.shape)
  return tensor
