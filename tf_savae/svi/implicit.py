"""The derivative of an optimum λ* of the ELBO by the implicit function theorem.

At λ* the gradient g(λ*, θ) = ∇_λ L(λ*, θ) is 0. With H = ∇²_λλ L(λ*) and a = ∂ℓ/∂λ* this gives

    u = H⁻¹ a,        θ̄ = −∂/∂θ ⟨u, ∇_λ L(λ*, θ)⟩

and no gradient for λ_0, because an optimum does not depend on where the search began.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from tf_savae.svi.adjoint import RecursiveAdjoint
from tf_savae.svi.derivatives import over_draws

__all__ = ["ImplicitAdjoint"]


@dataclasses.dataclass(frozen=True)
class ImplicitAdjoint(RecursiveAdjoint):
  """Treats λ_K as an optimum: one linear system per example instead of a sweep over the steps.

  Conjugate gradients solve H u = a for each example, with the inverse Fisher information of q_λK as preconditioner. H
  is taken with the noise of the last step. An example stops as soon as it meets a direction without positive curvature,
  which shows that λ_K is no minimum. The result is as wrong as λ_K is far from the optimum, and tends to the exact
  gradient as K grows if all steps see the same noise.

  λ_0 and the step sizes receive no gradient, so an encoder learns from L(λ_0) alone. All of λ_1 … λ_K count as the
  optimum. The cost is about 2K + 4·iterations + 6 U, whatever the rule, and memory does not grow with K.
  Source: Chang et al. (2022), arXiv 2207.00787; Steihaug (1983) for the curvature test.

  Attributes:
    iterations: steps of conjugate gradients, 1 or more.
    compute_dtype: as for `ExactAdjoint`.

  Raises:
    ValueError: `iterations` is not a whole number from 1.

  Example:
    The optimum of ½ (μ − x)² is x, so its derivative with respect to x is 1:

    >>> import tensorflow as tf
    >>> from tf_savae import GaussianParams, SVISettings, refine
    >>> from tf_savae.svi.implicit import ImplicitAdjoint
    >>> settings, x = SVISettings(num_steps=50, step_size=0.5, momentum=0.0), tf.constant([[2.0]])
    >>> def loss(params, noise, x):
    ...   return 0.5 * tf.reduce_sum((params.mean - x) ** 2 + params.log_var**2, axis=-1)
    >>> with tf.GradientTape() as tape:
    ...   tape.watch(x)
    ...   initial, noise = GaussianParams(tf.zeros([1, 1]), tf.zeros([1, 1])), tf.zeros([50, 1, 1])
    ...   params, _ = refine(loss, initial, settings, noise=noise, context=(x,), adjoint=ImplicitAdjoint())
    >>> print(f"{tape.gradient(params.mean, x)[0, 0]:.2f}")
    1.00
  """

  trains_start = False

  iterations: int = 10
  compute_dtype: str | None = None

  def __post_init__(self):
    if isinstance(self.iterations, bool) or not isinstance(self.iterations, int) or self.iterations < 1:
      raise ValueError(
        f"ImplicitAdjoint takes 1 or more steps of conjugate gradients. Received: {self.iterations}"
      )

  def _backward(self, problem, trace, cotangent, variables):
    targets, split = [*problem.conditioning, *variables], len(problem.conditioning)
    optimum = problem.kind.unpack(trace.params[-1])
    parts = len(tf.nest.flatten(optimum))

    def second_order(tangent, targets):
      along = problem.kind.unpack(tangent)
      return over_draws(
        problem.neg_elbo,
        lambda noise: self.second_order(problem.neg_elbo, optimum, noise, along, problem.context, targets),
        problem.noise[-1],
      )

    def product(direction):
      return tf.concat(second_order(direction, []), axis=-1)

    a = tf.reduce_sum(cotangent[1:], axis=0)
    solution = conjugate_gradients(product, a, optimum.inverse_fisher(), self.iterations)
    mixed = [-m for m in second_order(solution, targets)[parts:]]
    return [cotangent[0], tf.zeros_like(problem.step_sizes), *mixed[:split]], mixed[split:]


class _Search(NamedTuple):
  """u, the residual a − H u, the direction, ⟨residual, preconditioned residual⟩ and whether a row goes on."""

  solution: tf.Tensor
  residual: tf.Tensor
  direction: tf.Tensor
  energy: tf.Tensor
  active: tf.Tensor


def conjugate_gradients(product, a: tf.Tensor, preconditioner: tf.Tensor, iterations: int) -> tf.Tensor:
  """u `[batch, n]` with H u ≈ a in every row, by preconditioned conjugate gradients.

  A row stops when its residual has become small, or at a direction d with ⟨d, H d⟩ ≤ 0.

  Args:
    product: maps rows `[batch, n]` to H times each row.
    a: right-hand sides, `[batch, n]`.
    preconditioner: an approximation of the diagonal of H⁻¹, positive, `[batch, n]`.
    iterations: the most products that are taken.
  """
  first = preconditioner * a
  start = _Search(
    tf.zeros_like(a), a, first, _inner(a, first), tf.reduce_any(tf.not_equal(a, 0), -1, keepdims=True)
  )
  enough = tf.cast(_SMALL, a.dtype) * start.energy

  def body(i, at):
    along = product(at.direction)
    curvature = _inner(at.direction, along)
    active = at.active & (curvature > 0)
    step = _ratio(at.energy, curvature, active)
    residual = at.residual - step * along
    preconditioned = preconditioner * residual
    energy = tf.where(active, _inner(residual, preconditioned), at.energy)
    direction = preconditioned + _ratio(energy, at.energy, active) * at.direction
    solution = at.solution + step * at.direction
    return i + 1, _Search(solution, residual, direction, energy, active & (energy > enough))

  _, end = tf.while_loop(
    lambda i, at: (i < iterations) & tf.reduce_any(at.active),
    body,
    (tf.constant(0), start),
    parallel_iterations=1,
    maximum_iterations=iterations,
  )
  return end.solution


# Squared norm of the residual, relative to the first one, at which a row has converged.
_SMALL = 1e-20


def _inner(x, y):
  return tf.reduce_sum(x * y, axis=-1, keepdims=True)


def _ratio(numerator, denominator, active):
  """Their quotient where a row is active, else 0."""
  safe = tf.where(active, denominator, tf.ones_like(denominator))
  return tf.where(active, numerator / safe, tf.zeros_like(numerator))
