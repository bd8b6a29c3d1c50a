"""The backward recursion over the steps, which `tf_savae.svi.adjoint` states and its modes run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from tf_savae.svi import descent
from tf_savae.svi.derivatives import over_draws
from tf_savae.svi.descent import Problem, Trace

# Gradients of ⟨tangent, ∇_λ Σ_i L_i⟩, as `RecursiveAdjoint.second_order` returns them.
SecondOrder = Callable[..., list[tf.Tensor]]
Targets = Sequence[tf.Tensor | tf.Variable]


class Carried(NamedTuple):
  """The values that the backward sweep carries: ∂ℓ/∂λ, ∂ℓ/∂s, ∂ℓ/∂α_k so far, and the sums for all targets.

  And, where the mixed terms of all steps are taken at once, ḡ_k so far, 0 for the other k; else no array.
  """

  a: tf.Tensor
  b: tuple[tf.Tensor, ...]
  d_sizes: tf.TensorArray
  tangents: list[tf.TensorArray]
  totals: list[tf.Tensor]


def sweep(
  problem: Problem,
  trace: Trace,
  cotangent: tf.Tensor,
  targets: Targets,
  carried: Carried,
  first: int | tf.Tensor,
  last: int | tf.Tensor,
  second_order: SecondOrder | None,
) -> Carried:
  """The recursion over k = last−1 … first.

  Args:
    problem: the refinement.
    trace: what its steps computed.
    cotangent: ∂ℓ/∂λ_k of each λ_k, `[K + 1, batch, 2 · latent]`.
    targets: what the mixed terms are for.
    carried: the values after the steps from `last` on.
    first: the last step of the sweep.
    last: the number of steps before its first.
    second_order: computes the second-order terms of a step; None: the steps count as the identity on λ.
  """

  def body(k, carried):
    params, gradient, state, d_size, added = pull_back_rule(problem, trace, k, carried, targets)
    tangents = carried.tangents
    if second_order is None:
      a, state = carried.a, carried.b
    else:
      at, tangent = problem.kind.unpack(trace.params[k]), problem.kind.unpack(gradient)
      # Where the mixed terms of all steps come at the end, ḡ is all that is needed of this one.
      now = [] if tangents else targets
      found = over_draws(
        problem.neg_elbo,
        lambda noise: second_order(problem.neg_elbo, at, noise, tangent, problem.context, now),
        problem.noise[k],
      )
      parts = len(tf.nest.flatten(at))
      a, mixed = params + tf.concat(found[:parts], axis=-1), found[parts:]
      if tangents:
        tangents = [tangents[0].write(k, gradient)]
      else:
        added = [m if r is None else m + r for m, r in zip(mixed, added, strict=True)]
    totals = [t if g is None else t + g for t, g in zip(carried.totals, added, strict=True)]
    new = Carried(a + cotangent[k], tuple(state), carried.d_sizes.write(k, d_size), tangents, totals)
    arrays = {"d_sizes": (), "tangents": []}
    tf.nest.map_structure(_keep_shape, new._replace(**arrays), carried._replace(**arrays))
    return k - 1, new

  if second_order is None:
    carried = carried._replace(b=tuple(map(tf.zeros_like, carried.b)))
  _, carried = tf.while_loop(
    lambda k, _: k >= first,
    body,
    (tf.convert_to_tensor(last - 1), carried),
    parallel_iterations=1,
    maximum_iterations=problem.num_steps,
  )
  return carried


def pull_back_rule(
  problem: Problem, trace: Trace, k: int | tf.Tensor, carried: Carried, targets: Targets
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor], tf.Tensor, list[tf.Tensor | None]]:
  """The vjp of the rule at step k applied to (a, b): for λ_k, g_k, s_k, α_k and each target (None if unconnected)."""
  params, gradient, size = trace.params[k], trace.gradient[k], problem.step_sizes[k]
  state = tuple(s[k] for s in trace.state)
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch([params, gradient, size, *state, *targets])
    new, new_state = descent.move(problem, k, params, gradient, state, size, trace.active[k])
  sources = [params, gradient, size, *state]
  found = tape.gradient([new, *new_state], [*sources, *targets], output_gradients=[carried.a, *carried.b])
  own = [tf.zeros_like(s) if g is None else g for s, g in zip(sources, found, strict=False)]
  by_rule = [None if g is None else tf.convert_to_tensor(g) for g in found[len(sources) :]]
  return own[0], own[1], own[3:], own[2], by_rule


def pull_back_start(problem: Problem, carried: Carried, targets: Targets) -> Carried:
  """What b = ∂ℓ/∂s_0 says about λ_0 and the targets, which the rule's `init` may have made s_0 from."""
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch([problem.initial, *targets])
    state = problem.rule.init(problem.initial)
  pairs = [(s, b) for s, b in zip(state, carried.b, strict=True) if s.dtype.is_floating]
  if not pairs:
    return carried
  states, cotangents = (list(part) for part in zip(*pairs, strict=True))
  by_initial, *found = tape.gradient(states, [problem.initial, *targets], output_gradients=cotangents)
  a = carried.a if by_initial is None else carried.a + by_initial
  totals = [t if g is None else t + g for t, g in zip(carried.totals, found, strict=True)]
  return carried._replace(a=a, totals=totals)


def zeros_to_write(like: tf.Tensor, size: int | tf.Tensor) -> tf.TensorArray:
  """An array of `size` entries like those of `like`, all 0."""
  return tf.TensorArray(like.dtype, size, element_shape=like.shape[1:]).unstack(tf.zeros_like(like))


def _keep_shape(tensor, like):
  tensor.set_shape(like.shape)
