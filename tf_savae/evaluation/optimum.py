"""The gap of an approximate posterior in its two parts, for any model (Cremer et al. 2018).

    log p(x) − ELBO(λ)  =  [log p(x) − ELBO(λ*)]  +  [ELBO(λ*) − ELBO(λ)]
                            approximation gap         amortisation gap

λ* is the best posterior of the model's family for the example, such as the best diagonal Gaussian. The first part is
due to the family, the second to the way λ was found. Here λ* comes from a long optimisation, and log p(x) from
importance sampling with q_λ* as the proposal. Both parts are therefore estimates, and the first is too small by what
importance sampling misses. `annealing` estimates log p(x) without a proposal near the posterior. With two latents,
`grid` computes both parts exactly.

Three numbers tell whether the search converged: what its second half gained, what further searches from random starts
gained, and the gradient that is left at λ*.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import tensorflow as tf

from tf_savae import replicas
from tf_savae.evaluation import importance
from tf_savae.evaluation.importance import Importance
from tf_savae.inference import Inference
from tf_savae.model import SAVAE
from tf_savae.posterior import Params
from tf_savae.seeds import Purpose
from tf_savae.svi.derivatives import mean_value_and_gradient
from tf_savae.svi.rules import Adam


@dataclasses.dataclass(frozen=True)
class Search:
  """How λ* is looked for: Adam on the λ of each example, such as (μ, log σ²).

  Attributes:
    steps: number of steps of Adam, 2 or more.
    draws: noise draws per step, in pairs ε, −ε; even.
    learning_rate: rate at the first step, in posterior parameters; it falls to 0 like a cosine, so that noise averages
      out.
    restarts: further searches, from random λ; the best of all counts.
  """

  steps: int = 1000
  draws: int = 8
  learning_rate: float = 0.1
  restarts: int = 0

  def __post_init__(self):
    is_search = self.steps >= 2 and self.draws >= 2 and self.draws % 2 == 0 and self.learning_rate > 0
    if not is_search or self.restarts < 0:
      raise ValueError(
        f"A search has 2 or more steps, an even number of draws and a rate above 0. Received: {self}"
      )


class Optimum(NamedTuple):
  """The result of a search.

  Attributes:
    params: λ*, `[batch, latent]`.
    halfway: λ after half of the steps, to check convergence.
  """

  params: Params
  halfway: Params


class GradientLeft(NamedTuple):
  """The gradient of −ELBO at a λ in natural units, `[batch]`. It is measured by σ for μ and by √2 for log σ².

  Attributes:
    norm: its norm. The noise of the draws adds to it.
    gain: nats that a natural step to the optimum would gain, ½ gᵀ F⁻¹ g, without that noise: the product of two
      estimates with draws of their own. It may be negative, and vanishes in the mean at an optimum.
  """

  norm: tf.Tensor
  gain: tf.Tensor


class GapParts(NamedTuple):
  """Nats of each example, `[batch]`. ELBOs share their noise, so that their differences are paired.

  Attributes:
    elbo_initial: ELBO at λ_0; None without an encoder.
    elbo: ELBO at λ_K.
    elbo_best: ELBO at λ*.
    elbo_first: ELBO at the end of the first search, the one from λ_K; lower than `elbo_best` if a restart found better.
    elbo_halfway: ELBO after half of that search.
    left: what is left of the gradient at λ*.
    likelihood: log p(x) by importance sampling, and how well it converged.
    params: λ_K.
    best: λ*.
    initial: λ_0; None without an encoder.
  """

  elbo_initial: tf.Tensor | None
  elbo: tf.Tensor
  elbo_best: tf.Tensor
  elbo_first: tf.Tensor
  elbo_halfway: tf.Tensor
  left: GradientLeft
  likelihood: Importance
  params: Params
  best: Params
  initial: Params | None

  @property
  def log_likelihood(self) -> tf.Tensor:
    """log p(x) by importance sampling, `[batch]`, nats."""
    return self.likelihood.log_likelihood


def find_optimum(batch: Inference, initial: Params, search: Search) -> Optimum:
  """λ* of each example of a batch from λ = `initial`, by one loop in the graph.

  Adam treats each coordinate separately, so the search for one example does not depend on the others in its batch.

  Args:
    batch: an evaluation batch, `model.inference(x)`.
    initial: the starting point, such as λ_K.
    search: the length of the search, its draws and its learning rate.
  """
  seed, context, rule = batch.seed(Purpose.OPTIMUM), conditions(batch), Adam(0.9, 0.99, 1e-8)
  kind = type(initial)

  def body(k, packed, state, halfway):
    params = kind.unpack(packed)
    noise = _pairs(tf.random.experimental.stateless_fold_in(seed, k), search.draws, params.mean)
    _, gradient = mean_value_and_gradient(batch.objective, params, noise, context)
    fallen = tf.cos(math.pi * tf.cast(k, packed.dtype) / search.steps)
    rate = 0.5 * search.learning_rate * (1 + fallen)
    packed, state = rule.update(k, packed, gradient.pack(), state, rate)
    halfway = tf.where(k < search.steps // 2, packed, halfway)
    return k + 1, *tf.nest.map_structure(lambda t: tf.ensure_shape(t, start.shape), (packed, state, halfway))

  start = tf.stop_gradient(initial.pack())
  _, packed, _, halfway = tf.while_loop(
    lambda k, *_: k < search.steps,
    body,
    (tf.constant(0), start, rule.init(start), start),
    parallel_iterations=1,
    maximum_iterations=search.steps,
  )
  return Optimum(kind.unpack(packed), kind.unpack(halfway))


def _pairs(seed: tf.Tensor, draws: int, like: tf.Tensor) -> tf.Tensor:
  """ε, then −ε, `[draws, batch, latent]`, with the batch size and dtype of `like` `[batch, latent]`.

  A row's noise depends on its place in the batch, not on how many rows there are.
  """
  batch, latent = tf.unstack(tf.shape(like))
  noise = replicas.draw_rows(
    lambda shape: tf.random.stateless_normal(shape, seed, dtype=like.dtype), [batch, draws // 2, latent]
  )
  noise = tf.transpose(tf.concat([noise, -noise], axis=1), [1, 0, 2])
  return tf.ensure_shape(noise, [draws, *like.shape])


def conditions(batch: Inference) -> tuple[Any, tf.Tensor, Any]:
  """What `batch.objective` takes besides λ and noise, with β = 1."""
  return batch.x, tf.ones_like(batch.beta), batch.context


def mean_elbo(batch: Inference, params: Params, draws: int) -> tf.Tensor:
  """ELBO of λ averaged over `draws` of noise, `[batch]`, nats, with the same noise for every λ of a batch.

  Draws come in pairs ε, −ε and are used one at a time, so that memory does not grow with their number.
  """
  seed, context = batch.seed(Purpose.BOUND), conditions(batch)
  pairs = -(-draws // 2)

  def add(s, total):
    draw_seed = tf.random.experimental.stateless_fold_in(seed, s)
    noise = replicas.draw_rows(
      lambda shape: tf.random.stateless_normal(shape, draw_seed, dtype=params.mean.dtype),
      tf.unstack(tf.shape(params.mean)),
    )
    values = [batch.objective(params, sign * noise, *context) for sign in (1.0, -1.0)]
    return s + 1, total - values[0] - values[1]

  zero = tf.zeros_like(params.mean[:, 0])
  _, total = tf.while_loop(
    lambda s, _: s < pairs, add, (tf.constant(0), zero), parallel_iterations=1, maximum_iterations=pairs
  )
  return total / (2 * pairs)


def mean_kl(batch: Inference, params: Params, draws: int) -> tf.Tensor:
  """KL(q_λ ‖ p), `[batch]`, nats: in closed form, or averaged over `draws` of noise, those of `mean_elbo`."""
  if batch.family.kl_in_closed_form:
    return params.kl_to_prior()
  seed, pairs = batch.seed(Purpose.BOUND), -(-draws // 2)

  def add(s, total):
    draw_seed = tf.random.experimental.stateless_fold_in(seed, s)
    noise = replicas.draw_rows(
      lambda shape: tf.random.stateless_normal(shape, draw_seed, dtype=params.mean.dtype),
      tf.unstack(tf.shape(params.mean)),
    )
    values = [batch.family.draw(params, sign * noise)[1] for sign in (1.0, -1.0)]
    return s + 1, total - values[0] - values[1]

  zero = tf.zeros_like(params.mean[:, 0])
  _, total = tf.while_loop(
    lambda s, _: s < pairs, add, (tf.constant(0), zero), parallel_iterations=1, maximum_iterations=pairs
  )
  return total / (2 * pairs)


def gap_parts(
  model: SAVAE,
  x: Any,
  step: tf.Tensor | int,
  search: Search,
  *,
  bound_draws: int = 200,
  iw_samples: int = 1000,
) -> GapParts:
  """The parts of the gap of a batch.

  Args:
    model: a model with a latent; K is its `eval_k`.
    x: observations.
    step: number of examples before these; the noise is a function of it and of the model's seed.
    search: how λ* is looked for, starting at λ_K.
    bound_draws: noise draws per ELBO.
    iw_samples: draws per example for the importance-sampled likelihood.

  Raises:
    ValueError: the model has no latent.
  """
  if not model.latent_dim:
    raise ValueError(f"The method {model.method_name!r} has no posterior.")
  batch = model.inference(x, step=step)
  params, start, _ = model.posterior(batch)
  found = find_optimum(batch, params, search)
  best, elbo_best = found.params, mean_elbo(batch, found.params, bound_draws)
  elbo_first = elbo_best
  for restart in range(search.restarts):
    other = find_optimum(batch, _random_start(batch, restart), search).params
    best, elbo_best = _better(best, elbo_best, other, mean_elbo(batch, other, bound_draws))
  has_encoder = model.method.has_encoder
  return GapParts(
    elbo_initial=mean_elbo(batch, start, bound_draws) if has_encoder else None,
    elbo=mean_elbo(batch, params, bound_draws),
    elbo_best=elbo_best,
    elbo_first=elbo_first,
    elbo_halfway=mean_elbo(batch, found.halfway, bound_draws),
    left=gradient_left(batch, best, bound_draws),
    likelihood=importance.estimate(batch, best, iw_samples),
    params=params,
    best=best,
    initial=start if has_encoder else None,
  )


def gradient_left(batch: Inference, params: Params, draws: int) -> GradientLeft:
  """The gradient of −ELBO at λ from `draws` draws of noise, rounded up to a multiple of 4."""
  seed, context = batch.seed(Purpose.OPTIMUM), conditions(batch)
  calls = -(-draws // 4)

  def half(index):
    """The mean gradient over pairs ε, −ε, `[batch, 2 · latent]`."""

    def add(call, total):
      # Folds below 0 are no step of a search.
      noise = _pairs(tf.random.experimental.stateless_fold_in(seed, -1 - index - 2 * call), 2, params.mean)
      _, gradient = mean_value_and_gradient(batch.objective, params, noise, context)
      return call + 1, tf.ensure_shape(total + gradient.pack(), zero.shape)

    zero = tf.zeros_like(params.pack())
    total = tf.while_loop(lambda call, _: call < calls, add, (tf.constant(0), zero), parallel_iterations=1)[1]
    return params.in_natural_units(type(params).unpack(total / calls))

  one, other = half(0), half(1)
  norm = tf.norm(0.5 * (one + other), axis=-1)
  return GradientLeft(norm, 0.5 * tf.reduce_sum(one * other, axis=-1))


def _random_start(batch: Inference, index: int) -> Params:
  """μ ~ N(0, I) and σ = 1."""
  seed = tf.random.experimental.stateless_fold_in(batch.seed(Purpose.INITIAL), index)
  mean = replicas.draw_rows(
    lambda shape: tf.random.stateless_normal(shape, seed, dtype=batch.beta.dtype),
    [batch.size, batch.decoder.latent_dim],
  )
  return batch.family.start((mean, tf.zeros_like(mean)))


def _better(best: Params, elbo: tf.Tensor, other: Params, other_elbo: tf.Tensor):
  """For each example the λ with the larger ELBO, and that."""
  is_better = other_elbo > elbo
  chosen = tf.nest.map_structure(lambda b, o: tf.where(is_better[:, tf.newaxis], o, b), best, other)
  return chosen, tf.where(is_better, other_elbo, elbo)
