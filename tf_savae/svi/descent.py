"""K steps of a rule on λ, in one loop of constant size (paper, section 3).

    g_k              = ∇_λ L_i(λ_k, θ, x; ε_k), the mean over the draws of the step
    λ_{k+1}, s_{k+1} = rule.update(k, λ_k, g_k, s_k, α_k)            k = 0 … K−1

Everything is per example: L_i is the negative ELBO of one example, and no rule looks at another row. An example may
stop before step K for two reasons. The expected gain of a step, to first order ⟨g_k, λ_k − λ_{k+1}⟩, is no more than
the tolerance; or only the first `k_now` steps are wanted. `k_now` may be a tensor, so that one graph serves every
number of steps. One mask, `active`, handles both: a step that an example does not take is the identity.

This file takes the steps; `adjoint` differentiates through them.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from tf_savae.posterior import GaussianParams, Params
from tf_savae.svi.derivatives import ExampleLoss, mean_value_and_gradient
from tf_savae.svi.rules import Rule, State, as_state


@dataclasses.dataclass(frozen=True)
class Problem:
  """One refinement to run and to differentiate.

  Attributes:
    neg_elbo: L_i(λ, θ, x; ε).
    initial: λ_0, packed `[batch, size]`; of a diagonal Gaussian μ, then log σ², so that size = 2 · latent.
    step_sizes: α_k, `[K, 1]` or `[K, size]`, K ≥ 1.
    noise: ε, `[K, num_samples, batch, latent]`.
    context: arguments of `neg_elbo` after params and noise.
    rule: what a step does with the gradient.
    tolerance: nats that a step must be expected to gain, per example; 0: no such condition.
    k_now: how many of the K steps are taken, 1 … K, a scalar int32; None: K.
    conditioning: all float tensors, in `context` or closed over, that L or the rule depends on and that receive
      gradients.
    kind: the type of λ, which unpacks it.
    keeps_first_loss: whether L(λ_0; ε_0) keeps its gradient, where the steps are under the caller's tape and not in a
      loop.
  """

  neg_elbo: ExampleLoss
  initial: tf.Tensor
  step_sizes: tf.Tensor
  noise: tf.Tensor
  context: tuple[Any, ...]
  rule: Rule
  tolerance: float = 0.0
  k_now: tf.Tensor | None = None
  conditioning: tuple[tf.Tensor, ...] = ()
  kind: type[Params] = GaussianParams
  keeps_first_loss: bool = False

  @property
  def num_steps(self) -> int:
    """K."""
    return self.step_sizes.shape[0]

  @property
  def may_stop(self) -> bool:
    """Whether an example can stop before step K."""
    return bool(self.tolerance) or self.k_now is not None


class Point(NamedTuple):
  """Where a refinement stands before step k.

  Attributes:
    params: λ_k, `[batch, size]`.
    state: s_k of the rule.
    active: whether an example took all earlier steps, `[batch]`.
    neg_elbo: L(λ; ε) at the last step that was taken, `[batch]`, nats, without gradient; 0 at the beginning.
  """

  params: tf.Tensor
  state: State
  active: tf.Tensor
  neg_elbo: tf.Tensor


class Trace(NamedTuple):
  """The record of K steps, which is all that the adjoint stores: a few times the size of λ per step.

  Attributes:
    params: λ_0 … λ_K, `[K + 1, batch, size]`.
    state: s_0 … s_{K−1} of the rule, each `[K, batch, …]`.
    gradient: g_0 … g_{K−1}, `[K, batch, size]`.
    active: whether an example took step k, `[K, batch]`.
    neg_elbo: L(λ_k; ε_k) for k = 0 … K−1, a by-product, `[K, batch]`, nats. No gradient flows through it, except
      through the first if the problem `keeps_first_loss`. Steps that were not taken repeat the last value.
  """

  params: tf.Tensor
  state: State
  gradient: tf.Tensor
  active: tf.Tensor
  neg_elbo: tf.Tensor


def start(problem: Problem) -> Point:
  """The point before step 0."""
  first = problem.initial[:, 0]
  state = as_state(problem.rule.init(problem.initial))
  return Point(problem.initial, state, tf.ones_like(first, tf.bool), tf.zeros_like(first))


def step(problem: Problem, k: tf.Tensor | int, at: Point) -> tuple[Point, tf.Tensor]:
  """The point after step k, and g_k `[batch, size]`."""
  loss, gradient = mean_value_and_gradient(
    problem.neg_elbo, problem.kind.unpack(at.params), problem.noise[k], problem.context
  )
  # Here, not after the loop, whose derivative would pass a gradient of zeros back through the decoder.
  is_kept = problem.keeps_first_loss and isinstance(k, int) and k == 0
  loss, gradient, active = loss if is_kept else tf.stop_gradient(loss), gradient.pack(), at.active
  if problem.k_now is not None:
    active &= k < problem.k_now
  if problem.may_stop:
    loss = tf.where(tf.reduce_any(active), loss, at.neg_elbo)
  if problem.tolerance:
    new, _ = problem.rule.update(k, at.params, gradient, at.state, problem.step_sizes[k])
    active &= tf.reduce_sum(gradient * (at.params - new), axis=-1) > problem.tolerance
  params, state = move(problem, k, at.params, gradient, at.state, problem.step_sizes[k], active)
  return Point(params, state, active, loss), gradient


def move(
  problem: Problem,
  k: tf.Tensor | int,
  params: tf.Tensor,
  gradient: tf.Tensor,
  state: State,
  step_size: tf.Tensor,
  active: tf.Tensor,
) -> tuple[tf.Tensor, State]:
  """λ_{k+1} and s_{k+1}: from the rule for examples that are `active` `[batch]`, unchanged for the others."""
  new, new_state = problem.rule.update(k, params, gradient, state, step_size)
  new_state = as_state(new_state)
  if not problem.may_stop:
    return new, new_state

  def chosen(moved, stayed):
    mask = tf.reshape(active, tf.concat([tf.shape(active), tf.ones([moved.shape.rank - 1], tf.int32)], 0))
    return tf.where(mask, moved, stayed)

  return chosen(new, params), tuple(map(chosen, new_state, state))


def descend(problem: Problem) -> Trace:
  """Takes K steps from λ_0 in one `tf.while_loop`, whose graph has constant size."""
  at, num_steps = start(problem), problem.num_steps
  limit = num_steps if problem.k_now is None else problem.k_now

  def goes_on(k, at, _):
    return (k < limit) & tf.reduce_any(at.active) if problem.tolerance else k < limit

  def body(k, at, arrays):
    new, gradient = step(problem, k, at)
    tf.nest.map_structure(lambda after, before: after.set_shape(before.shape), new, at)
    values = (at.params, *at.state, gradient, new.active, new.neg_elbo)
    return k + 1, new, [a.write(k, v) for a, v in zip(arrays, values, strict=True)]

  likes = (at.params, *at.state, at.params, tf.zeros_like(at.active), at.neg_elbo)
  end, final, arrays = tf.while_loop(
    goes_on,
    body,
    (tf.constant(0), at, [_array(like, num_steps, problem.may_stop) for like in likes]),
    parallel_iterations=1,
    maximum_iterations=num_steps,
  )
  params, *state, gradient, active, loss = (a.stack() for a in arrays)
  if problem.may_stop:
    done = tf.range(num_steps)[:, tf.newaxis] < end
    params = tf.where(done[..., tf.newaxis], params, final.params)
    loss = tf.where(done, loss, final.neg_elbo)
  params = tf.concat([params, final.params[tf.newaxis]], axis=0)
  return Trace(params, tuple(state), gradient, active, loss)


def _array(like, size, may_end_early):
  empty = tf.TensorArray(like.dtype, size, element_shape=like.shape)
  if not may_end_early:
    return empty
  # What the loop leaves out is 0.
  return empty.unstack(tf.repeat(tf.zeros_like(like)[tf.newaxis], size, axis=0))
