"""Differentiation through the refinement (paper, section 3.1 and algorithm 2), with one small class per mode.

Let a = ∂ℓ/∂λ and b = ∂ℓ/∂s. The recursion starts from a = ∇_λ ℓ(λ_K) and b = 0 and runs over k = K−1 … 0:

    (λ̄, ḡ, s̄, ᾱ_k) = vjp of the rule at (λ_k, g_k, s_k, α_k), applied to (a, b)
    a ← λ̄ + ∇²_λλ L(λ_k) ḡ                       Hessian-vector product
    θ̄ ← θ̄ + ∂/∂θ ⟨ḡ, ∇_λ L(λ_k, θ)⟩              mixed term, also for every tensor L was conditioned on
    b ← s̄

A tape gives the vjp of the rule, which is cheap. Both second-order terms are one gradient of the scalar
⟨ḡ, ∇_λ L(λ_k)⟩ with ḡ held constant. A step that an example did not take is the identity, for the tape as well.
Where many z of one x are cheap, the sweep takes the product alone and collects ḡ_k; all mixed terms are then one
gradient of Σ_k ⟨ḡ_k, ∇_λ L(λ_k)⟩.
Costs are in U, one forward pass of the decoder; a reverse pass to λ alone costs about 1 U more, to λ and θ 2 U.

With a `compute_dtype`, the decoder computes the second-order products in that dtype; `neg_elbo` then needs a method
`computing_in(dtype)`. λ, ḡ, a, b and the sum θ̄ stay in float32, and so do the trajectory and the loss. Finite
differences cannot be computed in bfloat16, because they are smaller than its spacing.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_savae.ops import xla_gradients  # noqa: F401, registers what a compiled adjoint differentiates
from tf_savae.ops.gradients import dense_gradients
from tf_savae.ops.owned_gradients import custom_gradient
from tf_savae.posterior import Params
from tf_savae.svi import descent, recursion, registries
from tf_savae.svi.derivatives import ExampleLoss, directional_derivative
from tf_savae.svi.descent import Problem, Trace
from tf_savae.svi.registries import ADJOINTS

__all__ = [
  "Adjoint",
  "ExactAdjoint",
  "FiniteDifferenceAdjoint",
  "FirstOrderAdjoint",
  "RecursiveAdjoint",
  "StoredAdjoint",
  "TruncatedAdjoint",
  "UnrolledAdjoint",
]


class Adjoint:
  """How gradients pass through K steps of a rule. A subclass is a frozen dataclass: its fields are its parameters.

  Source: paper, section 3.1.

  Example:
    >>> from tf_savae.svi import ADJOINTS
    >>> ADJOINTS.get("truncated")(steps=3)
    TruncatedAdjoint(steps=3, compute_dtype=None)
  """

  compute_dtype: str | None = None  # dtype of the decoder in second-order products; None: unchanged
  trains_start = True  # whether λ_0 and the step sizes receive a gradient

  def can_keep_first_loss(self, num_steps: int) -> bool:
    """Whether the caller's tape can differentiate L(λ_0; ε_0), a by-product of the first of K steps."""
    del num_steps
    return False

  def run(self, problem: Problem) -> Trace:
    """Takes the steps; how the trace's `params` are differentiable depends on the mode."""
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class UnrolledAdjoint(Adjoint):
  """The definition: the K steps unrolled in Python under the caller's tape.

  The other modes are tested against this one. Graph and memory grow with K, even if fewer steps are taken. The cost is
  about 6K + 3 U.
  Source: paper, section 3.1; Domke (2012), Maclaurin et al. (2015).

  Example:
    λ after two steps of size 0.1 on ½ μ², differentiated with respect to λ_0:

    >>> import tensorflow as tf
    >>> from tf_savae import GaussianParams, SVISettings, refine
    >>> from tf_savae.svi.adjoint import UnrolledAdjoint
    >>> settings, start = SVISettings(num_steps=2, step_size=0.1, momentum=0.0), tf.constant([[1.0]])
    >>> def loss(params, noise):
    ...   return 0.5 * tf.reduce_sum(params.mean**2, axis=-1)
    >>> with tf.GradientTape() as tape:
    ...   tape.watch(start)
    ...   initial, noise = GaussianParams(start, start), tf.zeros([2, 1, 1])
    ...   params, _ = refine(loss, initial, settings, noise=noise, adjoint=UnrolledAdjoint())
    >>> print(f"{tape.gradient(params.mean, start)[0, 0]:.2f}")  # (1 − 0.1)², both steps
    0.81
  """

  def can_keep_first_loss(self, num_steps):
    return num_steps > 0

  def run(self, problem: Problem) -> Trace:
    points, gradients = [descent.start(problem)], []
    for k in range(problem.num_steps):
      point, gradient = descent.step(problem, k, points[-1])
      points.append(point)
      gradients.append(gradient)
    params, states, active, losses = zip(*points, strict=True)
    state = tuple(map(tf.stack, zip(*states[:-1], strict=True)))
    return Trace(tf.stack(params), state, tf.stack(gradients), tf.stack(active[1:]), tf.stack(losses[1:]))


@dataclasses.dataclass(frozen=True)
class StoredAdjoint(Adjoint):
  """The definition with the steps in one loop under the caller's tape, which stores what each step computed.

  The size of the graph does not depend on K. Memory grows with K by the values that the derivatives of a step need. The
  cost is about 6K + 3 U.

  Source: paper, section 3.1.

  Example:
    λ after two steps of size 0.1 on ½ μ², differentiated with respect to λ_0:

    >>> import tensorflow as tf
    >>> from tf_savae import GaussianParams, SVISettings, refine
    >>> from tf_savae.svi.adjoint import StoredAdjoint
    >>> settings, start = SVISettings(num_steps=2, step_size=0.1, momentum=0.0), tf.constant([[1.0]])
    >>> def loss(params, noise):
    ...   return 0.5 * tf.reduce_sum(params.mean**2, axis=-1)
    >>> with tf.GradientTape() as tape:
    ...   tape.watch(start)
    ...   initial, noise = GaussianParams(start, start), tf.zeros([2, 1, 1])
    ...   params, _ = refine(loss, initial, settings, noise=noise, adjoint=StoredAdjoint())
    >>> print(f"{tape.gradient(params.mean, start)[0, 0]:.2f}")  # (1 − 0.1)², both steps
    0.81
  """

  def can_keep_first_loss(self, num_steps):
    return num_steps == 1

  def run(self, problem: Problem) -> Trace:
    if problem.num_steps == 1:  # which needs no loop
      return UnrolledAdjoint().run(problem)
    return descent.descend(problem)


class RecursiveAdjoint(Adjoint):
  """The recursion above over the last steps; earlier steps count as the identity ∂λ_{k+1}/∂λ_k = I.

  Only λ_k, s_k and g_k are stored, and the rest is recomputed in a `tf.while_loop`. Apart from those three, graph size
  and memory do not depend on K.

  Source: paper, section 3.1 and algorithm 2.

  Example:
    An adjoint of one's own, which is exact over the second half of the steps:

    >>> import dataclasses
    >>> from tf_savae.svi.adjoint import RecursiveAdjoint
    >>> @dataclasses.dataclass(frozen=True)
    ... class SecondHalf(RecursiveAdjoint):
    ...   def differentiated_steps(self, num_steps):
    ...     return num_steps // 2
    >>> SecondHalf().differentiated_steps(20)
    10
  """

  def differentiated_steps(self, num_steps: int) -> int:
    """How many of the last steps are differentiated exactly."""
    return num_steps

  def second_order(
    self,
    neg_elbo: ExampleLoss,
    params: Params,
    noise: tf.Tensor,
    tangent: Params,
    context: Sequence[Any],
    targets: Sequence[tf.Tensor | tf.Variable],
  ) -> list[tf.Tensor]:
    """Gradients of ⟨tangent, ∇_λ Σ_i L_i⟩ with respect to each part of λ and each of `targets`."""
    dtype = self.compute_dtype
    with neg_elbo.computing_in(dtype) if dtype else contextlib.nullcontext():  # type: ignore[attr-defined]
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(params)
        tape.watch(targets)
        product = directional_derivative(neg_elbo, params, noise, tangent, context)
      return dense_gradients(tape, product, [*params, *targets])

  def _stacks(self, neg_elbo: ExampleLoss) -> bool:
    """Whether the mixed terms of all steps are taken at once."""
    return hasattr(neg_elbo, "directional_derivative_of_all")

  def mixed_terms(
    self,
    problem: Problem,
    trace: Trace,
    tangents: tf.Tensor,
    targets: Sequence[tf.Tensor | tf.Variable],
  ) -> list[tf.Tensor]:
    """Gradients of Σ_k ⟨ḡ_k, ∇_λ Σ_i L_i(λ_k)⟩ with respect to the targets, for ḡ `[K, batch, size]`.

    In one pass, by `neg_elbo.directional_derivative_of_all(params, noise, tangents, *context) -> [batch]`, whose
    arguments have K in front.
    """
    dtype = self.compute_dtype
    neg_elbo: Any = problem.neg_elbo  # which has these methods, or `_stacks` would be false
    with neg_elbo.computing_in(dtype) if dtype else contextlib.nullcontext():
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(targets)
        points, along = (problem.kind.unpack(t) for t in (trace.params[:-1], tangents))
        products = neg_elbo.directional_derivative_of_all(points, problem.noise, along, *problem.context)
        total = tf.reduce_sum(products)
      return dense_gradients(tape, total, targets)

  def run(self, problem: Problem) -> Trace:
    outside = {}

    # Gradients reach only arguments, so conditioning tensors are arguments, too. Inside, the originals are used,
    # because the tapes of the backward sweep have to watch the tensors that neg_elbo reads.
    @custom_gradient
    def refine(initial, step_sizes, *conditioning):
      del initial, step_sizes, conditioning
      trace = outside["trace"] = descent.descend(problem)

      def gradient(cotangent, variables=None):
        inputs, weights = self._backward(problem, trace, cotangent, list(variables or []))
        return (inputs, weights) if variables else inputs

      return trace.params, gradient

    params = refine(problem.initial, problem.step_sizes, *problem.conditioning)
    return outside["trace"]._replace(params=params)

  def _backward(self, problem, trace, cotangent, variables):
    """Gradients of ⟨cotangent, λ_0…λ_K⟩: (for λ_0, α, conditioning tensors), (for variables)."""
    num_steps, targets = problem.num_steps, [*problem.conditioning, *variables]
    differentiated = min(self.differentiated_steps(num_steps), num_steps)
    first, last = num_steps - differentiated, num_steps
    a = cotangent[num_steps]
    if problem.may_stop:
      # From step `last` on no example moves, so these steps need no loop.
      taken = tf.reduce_sum(tf.cast(tf.reduce_any(trace.active, axis=1), tf.int32))
      first = first if problem.k_now is None else tf.maximum(problem.k_now - differentiated, 0)
      last = tf.maximum(taken, first)
      after = tf.reshape(tf.range(num_steps + 1) >= last, [-1, 1, 1])
      a = tf.reduce_sum(tf.where(after, cotangent, tf.zeros_like(cotangent)), axis=0)
    a.set_shape(problem.initial.shape)
    size = problem.step_sizes
    carried = recursion.Carried(
      a,
      tuple(tf.zeros_like(s[0]) for s in trace.state),
      recursion.zeros_to_write(size, num_steps),
      [recursion.zeros_to_write(trace.gradient, num_steps)]
      if differentiated and self._stacks(problem.neg_elbo)
      else [],
      [tf.zeros_like(target) for target in targets],
    )
    if differentiated:
      carried = recursion.sweep(problem, trace, cotangent, targets, carried, first, last, self.second_order)
    if carried.tangents:
      mixed = self.mixed_terms(problem, trace, carried.tangents[0].stack(), targets)
      carried = carried._replace(
        tangents=[], totals=[t + m for t, m in zip(carried.totals, mixed, strict=True)]
      )
    if differentiated < num_steps:
      carried = recursion.sweep(problem, trace, cotangent, targets, carried, 0, first, None)
    carried = recursion.pull_back_start(problem, carried, targets)
    split = len(problem.conditioning)
    return [carried.a, carried.d_sizes.stack(), *carried.totals[:split]], carried.totals[split:]


@dataclasses.dataclass(frozen=True)
class ExactAdjoint(RecursiveAdjoint):
  """The exact total derivative, with every second-order term computed by nested tapes.

  The cost is about 8K + 3 U: 2K forward and 6K backward.
  Source: paper, section 3.1; Pearlmutter (1994) for the Hessian-vector product.

  Attributes:
    compute_dtype: dtype of the decoder in second-order products: "bfloat16", or None to leave it unchanged.

  Example:
    λ after two steps of size 0.1 on ½ μ², differentiated with respect to λ_0:

    >>> import tensorflow as tf
    >>> from tf_savae import GaussianParams, SVISettings, refine
    >>> from tf_savae.svi.adjoint import ExactAdjoint
    >>> settings, start = SVISettings(num_steps=2, step_size=0.1, momentum=0.0), tf.constant([[1.0]])
    >>> def loss(params, noise):
    ...   return 0.5 * tf.reduce_sum(params.mean**2, axis=-1)
    >>> with tf.GradientTape() as tape:
    ...   tape.watch(start)
    ...   initial, noise = GaussianParams(start, start), tf.zeros([2, 1, 1])
    ...   params, _ = refine(loss, initial, settings, noise=noise, adjoint=ExactAdjoint())
    >>> print(f"{tape.gradient(params.mean, start)[0, 0]:.2f}")  # (1 − 0.1)², both steps
    0.81
  """

  compute_dtype: str | None = None


@dataclasses.dataclass(frozen=True)
class TruncatedAdjoint(RecursiveAdjoint):
  """Exact over the last `steps` of the K steps, and the identity before them.

  `steps` = K is exact, and 0 is first order. The cost is about 2K + 6·steps + 3 U.

  Source: Shaban et al. (2019).

  Attributes:
    steps: number of steps that are differentiated, 0 or more.
    compute_dtype: as for `ExactAdjoint`.

  Raises:
    ValueError: `steps` is negative, or no whole number.

  Example:
    λ after two steps of size 0.1 on ½ μ², differentiated with respect to λ_0:

    >>> import tensorflow as tf
    >>> from tf_savae import GaussianParams, SVISettings, refine
    >>> from tf_savae.svi.adjoint import TruncatedAdjoint
    >>> settings, start = SVISettings(num_steps=2, step_size=0.1, momentum=0.0), tf.constant([[1.0]])
    >>> def loss(params, noise):
    ...   return 0.5 * tf.reduce_sum(params.mean**2, axis=-1)
    >>> with tf.GradientTape() as tape:
    ...   tape.watch(start)
    ...   initial, noise = GaussianParams(start, start), tf.zeros([2, 1, 1])
    ...   params, _ = refine(loss, initial, settings, noise=noise, adjoint=TruncatedAdjoint(steps=1))
    >>> print(f"{tape.gradient(params.mean, start)[0, 0]:.2f}")  # 1 − 0.1, the last step
    0.90
  """

  steps: int = 5
  compute_dtype: str | None = None

  def __post_init__(self):
    if not registries.is_whole(self.steps) or self.steps < 0:
      raise ValueError(f"TruncatedAdjoint differentiates 0 or more whole steps. Received: {self.steps}")

  def differentiated_steps(self, num_steps: int) -> int:
    return self.steps


@dataclasses.dataclass(frozen=True)
class FirstOrderAdjoint(RecursiveAdjoint):
  """Treats ∂λ_K/∂λ_0 as I and drops the mixed terms, so there are no second derivatives. About 2K + 3 U.

  Source: Finn et al. (2017), for the same approximation in meta-learning.

  Example:
    λ after two steps of size 0.1 on ½ μ², differentiated with respect to λ_0:

    >>> import tensorflow as tf
    >>> from tf_savae import GaussianParams, SVISettings, refine
    >>> from tf_savae.svi.adjoint import FirstOrderAdjoint
    >>> settings, start = SVISettings(num_steps=2, step_size=0.1, momentum=0.0), tf.constant([[1.0]])
    >>> def loss(params, noise):
    ...   return 0.5 * tf.reduce_sum(params.mean**2, axis=-1)
    >>> with tf.GradientTape() as tape:
    ...   tape.watch(start)
    ...   initial, noise = GaussianParams(start, start), tf.zeros([2, 1, 1])
    ...   params, _ = refine(loss, initial, settings, noise=noise, adjoint=FirstOrderAdjoint())
    >>> print(f"{tape.gradient(params.mean, start)[0, 0]:.2f}")  # no step
    1.00
  """

  def differentiated_steps(self, num_steps: int) -> int:
    return 0


@dataclasses.dataclass(frozen=True)
class FiniteDifferenceAdjoint(RecursiveAdjoint):
  """The paper's finite differences, (∇L(λ_k + r u) − ∇L(λ_k)) / r, for both second-order terms.

  The cost is about 8K + 3 U. In float32 the paper's r = 1e-5 gives little more than rounding noise on models of real
  size; r = 1e-2 is accurate to about 1 %.
  Source: paper, section 3.2; LeCun et al. (1993).

  Attributes:
    radius: r, the length by which λ is moved along u.

  Raises:
    ValueError: the radius is not positive.

  Example:
    λ after two steps of size 0.1 on ½ μ², differentiated with respect to λ_0:

    >>> import tensorflow as tf
    >>> from tf_savae import GaussianParams, SVISettings, refine
    >>> from tf_savae.svi.adjoint import FiniteDifferenceAdjoint
    >>> settings, start = SVISettings(num_steps=2, step_size=0.1, momentum=0.0), tf.constant([[1.0]])
    >>> def loss(params, noise):
    ...   return 0.5 * tf.reduce_sum(params.mean**2, axis=-1)
    >>> with tf.GradientTape() as tape:
    ...   tape.watch(start)
    ...   initial, noise = GaussianParams(start, start), tf.zeros([2, 1, 1])
    ...   params, _ = refine(loss, initial, settings, noise=noise, adjoint=FiniteDifferenceAdjoint(radius=0.01))
    >>> print(f"{tape.gradient(params.mean, start)[0, 0]:.2f}")  # (1 − 0.1)², up to rounding
    0.81
  """

  radius: float = 1e-5

  def __post_init__(self):
    if not self.radius > 0:
      raise ValueError(f"FiniteDifferenceAdjoint needs a positive radius. Received: {self.radius}")

  def _stacks(self, neg_elbo):
    return False

  def second_order(self, neg_elbo, params, noise, tangent, context, targets):
    def gradients(at):
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(at)
        tape.watch(targets)
        loss = tf.reduce_sum(neg_elbo(at, noise, *context))
      return dense_gradients(tape, loss, [*at, *targets])

    moved = tf.nest.map_structure(lambda p, u: p + self.radius * u, params, tangent)
    return [(p - q) / self.radius for p, q in zip(gradients(moved), gradients(params), strict=True)]


def get(adjoint: str | Adjoint) -> Adjoint:
  """The adjoint object for a name in `ADJOINTS`, or the object itself.

  Raises:
    ValueError: the name is unknown.
  """
  return adjoint if isinstance(adjoint, Adjoint) else ADJOINTS.get(adjoint)()


def to_config(adjoint: Adjoint) -> dict[str, Any]:
  """Name and parameters of an adjoint in `ADJOINTS`, as plain values."""
  return registries.to_config(ADJOINTS, adjoint)


def from_config(config: Mapping[str, Any]) -> Adjoint:
  """The inverse of `to_config`."""
  return registries.from_config(ADJOINTS, config)
