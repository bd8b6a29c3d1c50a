"""One batch on its way from x to λ_K and its bounds: encode, refine, bound."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_savae import importance, masking, penalties, replicas
from tf_savae.objective import Bound, NegELBO, precompute
from tf_savae.posterior import Params
from tf_savae.posteriors.family import DIAGONAL, PosteriorFamily
from tf_savae.seeds import Purpose, stateless_seed
from tf_savae.svi import SVISettings
from tf_savae.svi import adjoint as adjoint_lib
from tf_savae.svi.adjoint import Adjoint
from tf_savae.svi.derivatives import value_and_gradient
from tf_savae.svi.refine import refine_traced

_RANDOM_START = 0.1  # scale of λ_0 without an encoder (paper, appendix)
_MANY_Z = 10  # importance samples at once, where a decoder takes many z


class Inferred(NamedTuple):
  """The results of inference for a batch; bounds and losses are per example, in nats.

  Attributes:
    start: λ_0; None without a latent.
    params: the λ of the final bound: λ_K, or λ_0 without refinement.
    initial: bound at λ_0; None if λ_0 does not come from an encoder. In training it is a by-product of the first step,
      with the draws of that step, if these estimate it.
    final: bound at `params`.
    initial_loss: weighted L(λ_0), `[batch]`, as a loss of λ_0 alone or of θ as well; None if its weight is 0. It is a
      by-product of the first step, with its draws, if these estimate it, and if the adjoint keeps it for θ. Else it is
      with ε_K.
    step_losses: L(λ_k; ε_k) along the refinement, `[K, batch]`, β-weighted; None without refinement.
    beta: weight of the KL in losses, a scalar.
    penalty: sum of the networks' regularisers and of what their layers gave to `add_loss`, a scalar; None without any.
  """

  start: Params | None
  params: Params | None
  initial: Bound | None
  final: Bound
  initial_loss: tf.Tensor | None
  step_losses: tf.Tensor | None
  beta: tf.Tensor
  penalty: tf.Tensor | None = None

  def penalised(self, loss: tf.Tensor) -> tf.Tensor:
    """`loss` and the penalty, a scalar; of several replicas each has its part of both."""
    return loss if self.penalty is None else loss + replicas.part_of(self.penalty)


class Inference:
  """Posterior inference for one batch: its observation, decoder context, β, and stateless noise.

  Args:
    encoder: Keras layer `x -> (mean, log_var)`; None: λ_0 is random.
    decoder: Keras layer with `latent_dim` (0: no latent) and `log_prob`.
    x: the observation, batched on dimension 0.
    settings: SVI settings; `settings.num_steps` is K here.
    seed: the noise is a function of it, of `step` and of `purpose`.
    step: the training step, or the number of examples already evaluated.
    purpose: what the noise is for.
    beta: weight of the KL.
    free_bits: nats of KL that each latent may have without penalty.
    training: whether batch statistics and dropout are on.
    k_now: how many of the K steps to take, a scalar tensor; default: K.
    objective: the final bound: "elbo", or "iwae" or "buffered" of `tf_savae.importance`.
    iwae_samples: draws of "iwae".
    dtype: of λ and of the noise.
    mask: 1 where x was seen and 0 elsewhere; see `tf_savae.masking`. The bounds are then those of the seen parts.
    family: what q_λ is.
  """

  def __init__(
    self,
    encoder: keras.layers.Layer | None,
    decoder: keras.layers.Layer,
    x: Any,
    settings: SVISettings,
    *,
    seed: int = 0,
    step: int | tf.Tensor = 0,
    purpose: Purpose = Purpose.EVALUATION,
    beta: float | tf.Tensor = 1.0,
    free_bits: float = 0.0,
    training: bool = False,
    k_now: tf.Tensor | None = None,
    objective: str = "elbo",
    iwae_samples: int = 1,
    dtype: str = "float32",
    mask: Any = None,
    family: PosteriorFamily = DIAGONAL,
  ):
    self._likelihood = decoder
    if mask is not None:
      mask = masking.mask_for(decoder, x, mask)
      x, self._likelihood = masking.seen(decoder, x, mask), masking.Masked(decoder, mask)
    self.x, self.settings, self.decoder = x, settings, decoder
    self._encoder, self._training, self._k_now = encoder, training, k_now
    self._seed, self._step, self._purpose = seed, step, purpose
    self._dtype, self.family = dtype, family
    self._bound_name, self._iwae_samples = objective, iwae_samples
    # A Python number would become a float32 on its way through tf.cast.
    beta = beta if tf.is_tensor(beta) else tf.constant(beta, self._dtype)
    self.beta = tf.stop_gradient(tf.cast(beta, self._dtype))
    self._fixed_x = tf.nest.map_structure(tf.stop_gradient, x)
    self.size = tf.shape(tf.nest.flatten(x)[0])[0]
    self.objective = NegELBO(self._likelihood, free_bits, family=family)
    in_closed_form = settings.noise_draws.in_closed_form and bool(decoder.latent_dim)
    self.step_objective = (
      NegELBO(self._likelihood, free_bits, True, family) if in_closed_form else self.objective
    )
    penalties.take_added(decoder)  # of calls before
    self.context = precompute(self._likelihood, x, training, self.seed(Purpose.DROPOUT))
    self._added = penalties.take_added(decoder)
    if not decoder.trainable_variables:
      # The decoder is a constant, such as an oracle, so the backward sweep computes no gradient for it.
      self.context = tf.nest.map_structure(tf.stop_gradient, self.context)

  @property
  def conditions(self) -> tuple[Any, tf.Tensor, Any]:
    """Arguments of `objective` and `step_objective` after λ and noise: x, β and the decoder's context."""
    return self._fixed_x, self.beta, self.context

  def seed(self, purpose: Purpose) -> tf.Tensor:
    """The seed `[2]` of this batch for a purpose."""
    return stateless_seed(self._seed, self._step, purpose)

  @functools.cached_property
  def noise(self) -> tf.Tensor:
    """ε of all K refinement steps and, last, of the final bound: `[K · num_samples + 1, batch, latent]`.

    Noise is drawn with the row as the first axis, so that a row's noise depends on its position and not on the batch
    size. (When compiled by XLA, TensorFlow draws other numbers, which do depend on the batch size.)
    """
    draws, latent_dim = self.settings.noise_draws, self.decoder.latent_dim
    k, independent, row = self.settings.num_steps, draws.num_independent, [self.size, latent_dim]
    shape = [self.size, k * independent + 1, latent_dim]
    noise = self._normal(shape, self.seed(self._purpose))
    noise = tf.transpose(noise, [1, 0, 2])
    of_steps = draws.all_samples(tf.reshape(noise[:-1], [k, independent, *row]))
    return tf.concat([tf.reshape(of_steps, [k * draws.num_samples, *row]), noise[-1:]], axis=0)

  def _normal(self, shape, seed):
    """N(0, I) of a shape whose first dimension is the batch."""
    return replicas.draw_rows(lambda s: tf.random.stateless_normal(s, seed, dtype=self._dtype), shape)

  def start(self) -> Params | None:
    """λ_0, from the encoder or, without one, random; None without a latent."""
    if not self.decoder.latent_dim:
      return None
    return self.encode() if self._encoder is not None else self.random_initial(_RANDOM_START)

  def encode(self) -> Params:
    """λ_0 = enc_φ(x)."""
    start = encode(self._encoder, self.x, self._training, self._dtype, self.family)
    self._added += penalties.take_added(self._encoder)
    return start

  def random_initial(self, scale: float) -> Params:
    """λ_0 for each example, with μ and log σ² ~ scale · N(0, I) and without correlations."""
    shape, seed = [self.size, 2, self.decoder.latent_dim], self.seed(Purpose.INITIAL)
    draw = scale * self._normal(shape, seed)
    return self.family.start((draw[:, 0], draw[:, 1]))

  def refine(self, initial: Params, adjoint: str | Adjoint | None) -> tuple[Params, Params, tf.Tensor]:
    """K SVI steps from λ_0, or the first `k_now` of them.

    Args:
      initial: λ_0.
      adjoint: how gradients pass through, or None: λ_K is a constant.

    Returns:
      λ_K; λ_0 … λ_K `[K + 1, batch, latent]`; L(λ_k; ε_k) for k < K, `[K, batch]`. With an adjoint the first two
      pass gradients on.
    """
    (params, trajectory), trace = self._refine(initial, adjoint)
    return params, trajectory, trace.neg_elbo

  def _refine(self, initial, adjoint, keeps_first_loss=False):
    """The `Refinement` of `refine`, and its `Trace`."""
    shape = [self.settings.num_steps, self.settings.num_samples, self.size, self.decoder.latent_dim]
    if adjoint is None:
      initial = tf.nest.map_structure(tf.stop_gradient, initial)
    refinement, trace = refine_traced(
      self.step_objective,
      initial,
      self.settings,
      noise=tf.reshape(self.noise[:-1], shape),
      context=self.conditions,
      adjoint=adjoint or "exact",
      k_now=self._k_now,
      keeps_first_loss=keeps_first_loss,
    )
    if adjoint is None:
      refinement = tf.nest.map_structure(tf.stop_gradient, refinement)
    return refinement, trace

  def bound(self, params: Params | None) -> Bound:
    """The bound at λ, with the noise draw ε_K of this batch's final loss.

    In training with steps in closed form, the bound is in closed form, too, and does not use that draw.
    """
    noise = None if params is None else self.noise[-1]
    objective = self.step_objective if self._training else self.objective
    return objective.bound(params, noise, self._fixed_x, self.context)

  def infer(
    self,
    *,
    refines: bool,
    adjoint: str | Adjoint | None = None,
    initial_loss: float = 0.0,
    initial_loss_trains: str = "encoder",
  ) -> Inferred:
    """λ_0, λ_K and the bounds at both.

    Args:
      refines: whether λ_K is the posterior; else λ_0 is.
      adjoint: how gradients pass through the refinement, or None: λ_K is a constant.
      initial_loss: weight of L(λ_0).
      initial_loss_trains: "encoder": it is a loss of λ_0 alone; "both": of λ_0 and θ.
    """
    start = params = self.start()
    trajectory = trace = step_losses = None
    trains = initial_loss_trains if initial_loss else None
    keeps = refines and trains == "both" and self._can_keep_first_loss(adjoint)
    if refines:
      (params, trajectory), trace = self._refine(start, adjoint, keeps)  # a method that refines has λ_0
      step_losses = tf.stop_gradient(trace.neg_elbo)
    has_start = self._encoder is not None and start is not None
    # A method that does not differentiate the steps trains its encoder with the draw of the final bound.
    of_steps = trace if adjoint is not None or trains is None else None
    at_start = self._loss_at_start(start, of_steps, "kept" if keeps else trains)
    known = trace.neg_elbo[0] if trace is not None and self._estimates_loss else at_start
    initial = self._initial_bound(start, known) if has_start and params is not start else None
    if params is not start:
      penalties.take_added(self.decoder)  # of the steps, and of the bound at λ_0
    final = self._final_bound(params, trajectory)
    if has_start and params is start:
      initial = final
    penalty = self._penalty()
    of_start = initial_loss * at_start if initial_loss else None
    return Inferred(start, params, initial, final, of_start, step_losses, self.beta, penalty)

  def _final_bound(self, params, trajectory):
    """The bound at λ_K of the objective; of "buffered" with draws from λ_0 … λ_K."""
    if self._bound_name == "elbo" or params is None:
      return self.bound(params)
    number = self._iwae_samples
    if self._bound_name == "buffered":
      proposals, number = trajectory, self.settings.num_steps + 1
    else:
      proposals = tf.nest.map_structure(lambda part: tf.repeat(part[tf.newaxis], number, axis=0), params)
    more = self._normal([self.size, number - 1, self.decoder.latent_dim], self.seed(Purpose.PROPOSALS))
    noise = tf.concat([tf.transpose(more, [1, 0, 2]), self.noise[-1:]], axis=0)
    options = {"noise": noise, "beta": self.beta, "family": self.family}
    return importance.bound(self.decoder, self._fixed_x, self.context, proposals, **options)

  def _penalty(self):
    """What is to be added to the loss, once the final bound was computed."""
    networks = [net for net in (self._encoder, self.decoder) if net is not None]
    added = [*self._added, *penalties.take_added(self.decoder)]
    return penalties.total([*added, *penalties.of_weights(networks)], self._dtype)

  @property
  def _estimates_loss(self):
    """Whether there is a first step whose draws estimate L(λ_0)."""
    return self.settings.num_steps > 0 and self.settings.noise_draws.estimates_loss

  def _can_keep_first_loss(self, adjoint):
    """Whether L(λ_0) for both networks can come from the first step."""
    if adjoint is None or not self._estimates_loss:
      return False
    return adjoint_lib.get(adjoint).can_keep_first_loss(self.settings.num_steps)

  def _loss_at_start(self, start, trace, trains):
    """L(λ_0), `[batch]`; its gradient reaches λ_0 and the encoder, and θ only if `trains` is "both".

    For λ_0 alone it is a by-product of the first step, with its draws, if these estimate it; else with ε_K. It is None
    if it trains nothing (`trains` is None) and is no by-product. With "kept" the trace has it, for both.
    """
    if trains == "kept":
      return trace.neg_elbo[0]
    if trains == "both":
      return self.step_objective(start, self.noise[-1], *self.conditions)
    if trace is not None and self._estimates_loss:
      return _as_loss_of(start, trace.neg_elbo[0], type(start).unpack(trace.gradient[0]))
    if trains is None:
      return None
    constant = tf.nest.map_structure(tf.stop_gradient, start)
    return _as_loss_of(
      start, *value_and_gradient(self.step_objective, constant, self.noise[-1], self.conditions)
    )

  def _initial_bound(self, start, known):
    """The bound at λ_0; in training from L(λ_0) where that is known, which costs no pass of the decoder."""
    if self._training and self.family.kl_in_closed_form and known is not None:
      return self.step_objective.parts(tf.stop_gradient(known), start, self.beta)
    return self.bound(start)

  def log_likelihood(self, params: Params | None, num_samples: int) -> tf.Tensor:
    """Importance-sampled log p_θ(x) `[batch]`, nats: log (1/S) Σ_s p(x, z_s) / q(z_s), z_s ~ q_λ at `params`.

    In expectation this is a lower bound, which tightens with S (Burda et al. 2016). Draws are taken one at a time for
    the whole batch, or ten where the decoder takes many z, so memory does not grow with S. Without a latent, when
    `params` is None, the result is exact.
    """
    if params is None:
      return -self.bound(None).nll
    seed = self.seed(Purpose.IMPORTANCE)
    size = _MANY_Z if getattr(self._likelihood, "takes_many_z", False) else 1
    shape = tf.shape(params.mean)

    def draw(s):
      draw_seed = tf.random.experimental.stateless_fold_in(seed, s)
      noise = replicas.draw_rows(
        lambda shape: tf.random.stateless_normal(shape, draw_seed, dtype=params.mean.dtype), tf.unstack(shape)
      )
      return self.family.draw(params, noise)

    def add(s, total):
      zs, weights = map(tf.stack, zip(*(draw(s + i) for i in range(size)), strict=True))
      if size == 1:
        log_probs = self._likelihood.log_prob(self.x, zs[0], self.context)[tf.newaxis]
      else:
        log_probs = tf.transpose(self._likelihood.log_prob(self.x, tf.transpose(zs, [1, 0, 2]), self.context))
      # The last ones together may be more than are wanted.
      wanted = (s + tf.range(size) < num_samples)[:, tf.newaxis]
      weights = tf.where(wanted, log_probs + weights, tf.constant(-np.inf, weights.dtype))
      total = tf.reduce_logsumexp(tf.concat([total[tf.newaxis], weights], axis=0), axis=0)
      return s + size, tf.ensure_shape(total, nothing.shape)

    nothing = tf.fill(shape[:1], tf.constant(-np.inf, params.mean.dtype))
    nothing.set_shape(params.mean.shape[:1])
    _, total = tf.while_loop(
      lambda s, _: s < num_samples, add, (tf.constant(0), nothing), maximum_iterations=num_samples
    )
    return total - tf.math.log(tf.cast(num_samples, total.dtype))


def _as_loss_of(params, loss, gradient):
  """`loss` `[batch]` with `gradient` for λ, and thus for what λ depends on, and for nothing else."""
  moved = sum(
    tf.reduce_sum(tf.stop_gradient(g) * (p - tf.stop_gradient(p)), axis=-1)
    for g, p in zip(gradient, params, strict=True)
  )
  return tf.stop_gradient(loss) + moved


def encode(
  encoder: keras.layers.Layer, x: Any, training: bool, dtype: str, family: PosteriorFamily = DIAGONAL
) -> Params:
  """λ_0 = enc_φ(x), each `[batch, latent]` with `dtype`, which is float32 under mixed precision."""
  return family.start([tf.cast(part, dtype) for part in encoder(x, training=training)])


class RowByRow(Inference):
  """`Inference` in which each row gets the noise of a first row: its answer is what it would be alone."""

  def _normal(self, shape, seed):
    one = tf.random.stateless_normal([1, *shape[1:]], seed, dtype=self._dtype)
    return tf.tile(one, [self.size, *[1] * (len(shape) - 1)])
