"""The negative ELBO of one batch, conditioned on all that does not change during refinement."""

from __future__ import annotations

import functools
import inspect
from typing import Any, NamedTuple

import tensorflow as tf

from tf_savae.posterior import GaussianParams
from tf_savae.seeds import Purpose, stateless_seed
from tf_savae.svi import descent as svi
from tf_savae.svi.adjoint import Adjoint
from tf_savae.svi.refinement import refine_traced


class Bound(NamedTuple):
  """The parts of a one-draw negative ELBO, each `[batch]`, nats.

  Attributes:
    nll: −log p_θ(x | z) at z = μ + σ ε.
    kl: KL(q_λ ‖ p), in closed form.
    penalty: what the training loss has in its place: the same, but with free bits Σ_j max(KL_j, free bits).
  """

  nll: tf.Tensor
  kl: tf.Tensor
  penalty: tf.Tensor

  @property
  def neg_elbo(self) -> tf.Tensor:
    """−ELBO, `[batch]`."""
    return self.nll + self.kl

  def weighted(self, beta: tf.Tensor) -> tf.Tensor:
    """nll + β penalty, `[batch]`."""
    return self.nll + beta * self.penalty


class NegELBO:
  """L_i(λ, θ, x; ε) = −log p_θ(x | z) + β KL(q_λ ‖ p), the function that `refine` descends.

  A decoder may offer `log_prob_derivative(x, z, dz, context) -> [batch]`, equal to ⟨dz, ∇_z log p(x | z)⟩ and
  differentiable; the adjoint's inner product then uses it in place of a nested tape.

  Args:
    decoder: log p_θ(x | z).
    free_bits: nats of KL a latent may have without penalty (Kingma et al. 2016, with groups of one latent and
      without their mean over the batch, which would make an example's loss depend on its batch-mates).
  """

  def __init__(self, decoder, free_bits: float = 0.0):
    self._decoder, self._free_bits = decoder, free_bits
    if hasattr(decoder, "log_prob_derivative"):
      self.directional_derivative = self._directional_derivative
    if hasattr(decoder, "computing_in"):
      self.computing_in = decoder.computing_in

  def bound(self, params: GaussianParams | None, noise: tf.Tensor | None, x: Any, context: Any) -> Bound:
    """The parts; `params` is None for a decoder without latent."""
    if params is None:
      nll = -self._decoder.log_prob(x, None, context)
      return Bound(nll, tf.zeros_like(nll), tf.zeros_like(nll))
    nll, kl = -self._decoder.log_prob(x, params.sample(noise), context), params.kl_to_prior()
    if not self._free_bits:
      return Bound(nll, kl, kl)
    penalised = tf.maximum(params.kl_of_latents(), self._free_bits)
    return Bound(nll, kl, tf.reduce_sum(penalised, axis=-1))

  def __call__(self, params, noise, x, beta, context) -> tf.Tensor:
    return self.bound(params, noise, x, context).weighted(beta)

  def _directional_derivative(self, params, noise, tangent, x, beta, context):
    """⟨tangent, ∇_λ L_i⟩, `[batch]`: dz = dμ + ½ σ ε d(log σ²); the KL's part in closed form."""
    dz = tangent.mean + 0.5 * params.stddev * noise * tangent.log_var
    d_kl = tangent.mean * params.mean + 0.5 * tangent.log_var * tf.math.expm1(params.log_var)
    if self._free_bits:
      d_kl = tf.where(params.kl_of_latents() > self._free_bits, d_kl, tf.zeros_like(d_kl))
    d_log_prob = self._decoder.log_prob_derivative(x, params.sample(noise), dz, context)
    return beta * tf.reduce_sum(d_kl, axis=-1) - d_log_prob


def precompute(decoder, x: Any, training: bool, seed: tf.Tensor) -> Any:
  """The decoder's z-independent work; decoders need not have any, nor care about training and seed."""
  method = getattr(decoder, "precompute", None)
  if method is None:
    return ()
  accepted = inspect.signature(method).parameters
  options = {"training": training, "seed": seed}
  return method(x, **{name: value for name, value in options.items() if name in accepted})


class Batch:
  """One batch on its way through the model: observation, decoder context, β, and its stateless noise.

  Args:
    model: the `SAVAE` (its encoder, decoder, SVI settings, seed).
    x: the observation, batched on dimension 0.
    step: what the noise is derived from, with the model's seed and the purpose: the training step, or the number of
      examples already evaluated.
    settings: SVI settings; `settings.num_steps` is K here.
    beta: weight of the KL.
    training: whether batch statistics and dropout are on.
    purpose: what the noise is for.
    k_now: how many of the K steps to take, a scalar tensor; default: K.
  """

  def __init__(
    self, model, x, step, settings: svi.SVISettings, beta, training: bool, purpose: Purpose, k_now=None
  ):
    self.model, self.x, self.settings, self.training = model, x, settings, training
    self.k_now = k_now
    # A Python number would become a float32 on its way through tf.cast.
    beta = beta if tf.is_tensor(beta) else tf.constant(beta, model.variable_dtype)
    self.beta = tf.stop_gradient(tf.cast(beta, model.variable_dtype))
    self._step, self._purpose = step, purpose
    self._fixed_x = tf.nest.map_structure(tf.stop_gradient, x)
    self.size = tf.shape(tf.nest.flatten(x)[0])[0]
    self.objective = NegELBO(model.decoder, model.free_bits if training else 0.0)
    self.context = precompute(model.decoder, x, training, self.seed(Purpose.DROPOUT))
    if not model.decoder.trainable_variables:
      # The decoder is a constant, such as an oracle: the sweep backward leaves out what it would say about it.
      self.context = tf.nest.map_structure(tf.stop_gradient, self.context)

  def seed(self, purpose: Purpose) -> tf.Tensor:
    """Seed `[2]` of this batch for a purpose."""
    return stateless_seed(self.model.seed, self._step, purpose)

  @functools.cached_property
  def noise(self) -> tf.Tensor:
    """ε of all K refinement steps and, last, of the final bound: `[K · num_samples + 1, batch, latent]`.

    Drawn with the row first, so that a row's noise depends on its position and not on the batch size.
    (Compiled by XLA, TensorFlow draws other numbers, and they depend on the batch size, too.)
    """
    settings, row = self.settings, [self.size, self.model.latent_dim]
    k, independent = settings.num_steps, settings.independent_samples
    shape = [self.size, k * independent + 1, self.model.latent_dim]
    noise = tf.random.stateless_normal(shape, self.seed(self._purpose), dtype=self.model.variable_dtype)
    noise = tf.transpose(noise, [1, 0, 2])
    of_steps = settings.all_samples(tf.reshape(noise[:-1], [k, independent, *row]))
    return tf.concat([tf.reshape(of_steps, [k * settings.num_samples, *row]), noise[-1:]], axis=0)

  def encode(self) -> GaussianParams:
    """λ_0 = enc_φ(x)."""
    return self.model.encode(self.x, training=self.training)

  def random_initial(self, scale: float) -> GaussianParams:
    """λ_0 ~ scale · N(0, I) for each example."""
    draw = scale * tf.random.stateless_normal(
      [self.size, 2, self.model.latent_dim], self.seed(Purpose.INITIAL), dtype=self.model.variable_dtype
    )
    return GaussianParams(draw[:, 0], draw[:, 1])

  def refine(
    self, initial: GaussianParams, adjoint: str | Adjoint | None
  ) -> tuple[GaussianParams, GaussianParams, tf.Tensor]:
    """K SVI steps from λ_0, or the first `k_now` of them.

    Args:
      initial: λ_0.
      adjoint: how gradients pass through, or None: λ_K is a constant.

    Returns:
      λ_K; λ_0 … λ_K `[K + 1, batch, latent]`; L(λ_k; ε_k) for k < K, `[K, batch]`.
    """
    k, s = self.settings.num_steps, self.settings.num_samples
    noise = tf.reshape(self.noise[:-1], [k, s, self.size, self.model.latent_dim])
    if adjoint is None:
      initial = GaussianParams(*map(tf.stop_gradient, initial))
    (params, trajectory), path = refine_traced(
      self.objective,
      initial,
      self.settings,
      noise=noise,
      context=(self._fixed_x, self.beta, self.context),
      adjoint=adjoint or "exact",
      k_now=self.k_now,
    )
    if adjoint is None:
      params = GaussianParams(*map(tf.stop_gradient, params))
    return params, trajectory, path

  def bound(self, params: GaussianParams | None) -> Bound:
    """The bound at λ, with the noise draw ε_K that belongs to this batch's final loss."""
    noise = None if params is None else self.noise[-1]
    return self.objective.bound(params, noise, self._fixed_x, self.context)

  def loss_of(self, params: GaussianParams) -> tf.Tensor:
    """L(λ; ε_K), `[batch]`, as a loss of λ alone: its gradient reaches what made λ, but not θ."""
    constant = GaussianParams(*map(tf.stop_gradient, params))
    loss, gradient = svi.value_and_gradient(
      self.objective, constant, self.noise[-1], (self._fixed_x, self.beta, self.context)
    )
    moved = sum(
      tf.reduce_sum(tf.stop_gradient(g) * (p - c), axis=-1)
      for g, p, c in zip(gradient, params, constant, strict=True)
    )
    return tf.stop_gradient(loss) + moved
