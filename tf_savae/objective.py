"""L_i: the negative ELBO of each example, its parts, and its derivative along a direction."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import tensorflow as tf

from tf_savae.posterior import Params
from tf_savae.posteriors.family import DIAGONAL, PosteriorFamily


class Bound(NamedTuple):
  """The parts of a one-draw negative ELBO, each `[batch]`, nats.

  Attributes:
    nll: −log p_θ(x | z) at the z of ε, which for a diagonal Gaussian is μ + σ ε.
    kl: KL(q_λ ‖ p), in closed form where the family of q has one, else log q(z) − log p(z).
    penalty: the KL term of the training loss: equal to `kl`, or with free bits Σ_j max(KL_j, free bits).
    loss: the training loss if it is not nll + β penalty, such as an importance-weighted bound; else None.
  """

  nll: tf.Tensor
  kl: tf.Tensor
  penalty: tf.Tensor
  loss: tf.Tensor | None = None

  @property
  def neg_elbo(self) -> tf.Tensor:
    """−ELBO, `[batch]`."""
    return self.nll + self.kl

  def weighted(self, beta: tf.Tensor) -> tf.Tensor:
    """The training loss, `[batch]`: nll + β penalty, unless there is another `loss`."""
    return self.nll + beta * self.penalty if self.loss is None else self.loss


class NegELBO:
  """L_i(λ, θ, x; ε) = −log p_θ(x | z) + β KL(q_λ ‖ p), the function that `refine` descends.

  A decoder may offer `log_prob_derivative(x, z, dz, context) -> [batch]`, a differentiable ⟨dz, ∇_z log p(x | z)⟩. The
  adjoint's inner product then uses it instead of a nested tape.

  A decoder with the attribute `takes_many_z` takes z `[batch, n, latent]` in both, and gives `[batch, n]`. All draws
  of a step are then evaluated in one call, and so are the mixed second-order terms of all steps.

  A decoder may also offer `expected_log_prob(x, params, context) -> [batch]`, E_q[log p(x | z)] without draws, and
  `expected_log_prob_derivative(x, params, tangent, context) -> [batch]`, its derivative along a tangent of λ.

  Args:
    decoder: log p_θ(x | z).
    free_bits: nats of KL that a latent may have without penalty (Kingma et al. 2016). Groups are single latents, and
      there is no mean over the batch, which would make an example's loss depend on the other examples.
    in_closed_form: whether the decoder's `expected_log_prob` replaces the one draw ε.
    family: what q_λ is. Where its KL takes draws, derivatives are those of nested tapes.
  """

  def __init__(
    self,
    decoder,
    free_bits: float = 0.0,
    in_closed_form: bool = False,
    family: PosteriorFamily = DIAGONAL,
  ):
    self._decoder, self._free_bits, self._in_closed_form = decoder, free_bits, in_closed_form
    self._family = family
    has_derivative = family.kl_in_closed_form and hasattr(
      decoder, "expected_log_prob_derivative" if in_closed_form else "log_prob_derivative"
    )
    if has_derivative:
      self.directional_derivative = self._directional_derivative
    self.takes_many_draws = getattr(decoder, "takes_many_z", False) and not in_closed_form
    if self.takes_many_draws and has_derivative:
      self.directional_derivative_of_all = self._directional_derivative_of_all
    if hasattr(decoder, "computing_in"):
      self.computing_in = decoder.computing_in

  def bound(self, params: Params | None, noise: tf.Tensor | None, x: Any, context: Any) -> Bound:
    """The parts of the bound; `params` is None for a decoder without a latent.

    Where `takes_many_draws`, the noise may be `[S, batch, latent]`: the mean over S draws.
    """
    if params is None:
      nll = -self._decoder.log_prob(x, None, context)
      return Bound(nll, tf.zeros_like(nll), tf.zeros_like(nll))
    if not self._family.kl_in_closed_form:
      z, log_weight = self._family.draw(params, noise)
      nll = -self._mean_over_draws(self._decoder.log_prob, context, x, z)
      kl = -log_weight if log_weight.shape.rank == 1 else -tf.reduce_mean(log_weight, axis=0)
      return Bound(nll, kl, kl)
    if self._in_closed_form:
      nll = -self._decoder.expected_log_prob(x, params, context)
    else:
      nll = -self._mean_over_draws(self._decoder.log_prob, context, x, params.sample(noise))
    return Bound(nll, *self._kl_and_penalty(params))

  def parts(self, loss: tf.Tensor, params: Params, beta: tf.Tensor) -> Bound:
    """The parts of a loss L(λ; ε) `[batch]` that was computed at `params`: costs no pass of the decoder.

    The KL must have a closed form.
    """
    kl, penalty = self._kl_and_penalty(params)
    return Bound(loss - beta * penalty, kl, penalty)

  def _kl_and_penalty(self, params):
    kl = params.kl_to_prior()
    if not self._free_bits:
      return kl, kl
    return kl, tf.reduce_sum(tf.maximum(params.kl_of_latents(), self._free_bits), axis=-1)

  def __call__(self, params, noise, x, beta, context) -> tf.Tensor:
    return self.bound(params, noise, x, context).weighted(beta)

  def _directional_derivative(self, params, noise, tangent, x, beta, context):
    """⟨tangent, ∇_λ L_i⟩, `[batch]`: log p's part along dz, and the KL's in closed form."""
    if self._in_closed_form:
      d_log_prob = self._decoder.expected_log_prob_derivative(x, params, tangent, context)
    else:
      dz = params.sample_derivative(noise, tangent)
      derivative = self._decoder.log_prob_derivative
      d_log_prob = self._mean_over_draws(derivative, context, x, params.sample(noise), dz)
    return beta * self._kl_derivative(params, tangent) - d_log_prob

  def _mean_over_draws(self, function, context, x, *at):
    """`function(x, *at, context)` `[batch]`; for z and dz `[S, batch, latent]` the mean over S."""
    if at[0].shape.rank == 2:
      return function(x, *at, context)
    return tf.reduce_mean(function(x, *(tf.transpose(z, [1, 0, 2]) for z in at), context), axis=-1)

  def _directional_derivative_of_all(self, params, noise, tangent, x, beta, context):
    """Σ_k ⟨tangent_k, ∇_λ L_i(λ_k; ε_k)⟩, `[batch]`, in one call of the decoder.

    Args:
      params, tangent: of K points, each `[K, batch, latent]`.
      noise: `[K, S, batch, latent]`; the mean over S draws is taken at each point.
      x, beta, context: as of all others.
    """
    num_steps, batch = tf.shape(noise)[0], tf.shape(noise)[2]
    # As K examples beside each other for what is cheap, and as K · S draws of one for the decoder.
    flat = tf.nest.map_structure(
      lambda part: tf.reshape(part, [num_steps * batch, part.shape[-1]]), (params, tangent)
    )
    d_kl = self._kl_derivative(*flat)
    d_kl = tf.reduce_sum(tf.reshape(d_kl, [num_steps, batch]), axis=0)
    params, tangent = tf.nest.map_structure(lambda part: part[:, tf.newaxis], (params, tangent))
    dz = params.sample_derivative(noise, tangent)
    z, dz = (tf.reshape(t, [-1, batch, noise.shape[-1]]) for t in (params.sample(noise), dz))
    d_log_prob = self._mean_over_draws(self._decoder.log_prob_derivative, context, x, z, dz)
    return beta * d_kl - tf.cast(num_steps, d_kl.dtype) * d_log_prob

  def _kl_derivative(self, params, tangent):
    """The penalty's derivative along the tangent, `[batch]`, in closed form."""
    d_kl = params.kl_of_latents_derivative(tangent)
    if self._free_bits:
      d_kl = tf.where(params.kl_of_latents() > self._free_bits, d_kl, tf.zeros_like(d_kl))
    return tf.reduce_sum(d_kl, axis=-1)


def precompute(decoder, x: Any, training: bool, seed: tf.Tensor) -> Any:
  """The decoder's context, which does not depend on z; None if the decoder has no `precompute`."""
  method = getattr(decoder, "precompute", None)
  if method is None:
    return ()
  accepted = inspect.signature(method).parameters
  options = {"training": training, "seed": seed}
  return method(x, **{name: value for name, value in options.items() if name in accepted})
