"""L_i: the negative ELBO of each example, its parts, and its derivative along a direction."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import tensorflow as tf

from tf_savae.posterior import GaussianParams


class Bound(NamedTuple):
  """The parts of a one-draw negative ELBO, each `[batch]`, nats.

  Attributes:
    nll: −log p_θ(x | z) at z = μ + σ ε.
    kl: KL(q_λ ‖ p), in closed form.
    penalty: the KL term of the training loss: equal to `kl`, or with free bits Σ_j max(KL_j, free bits).
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

  A decoder may offer `log_prob_derivative(x, z, dz, context) -> [batch]`, a differentiable ⟨dz, ∇_z log p(x | z)⟩. The
  adjoint's inner product then uses it instead of a nested tape.

  A decoder may also offer `expected_log_prob(x, params, context) -> [batch]`, E_q[log p(x | z)] without draws, and
  `expected_log_prob_derivative(x, params, tangent, context) -> [batch]`, its derivative along a tangent of λ.

  Args:
    decoder: log p_θ(x | z).
    free_bits: nats of KL that a latent may have without penalty (Kingma et al. 2016). Groups are single latents, and
      there is no mean over the batch, which would make an example's loss depend on the other examples.
    in_closed_form: whether the decoder's `expected_log_prob` replaces the one draw ε.
  """

  def __init__(self, decoder, free_bits: float = 0.0, in_closed_form: bool = False):
    self._decoder, self._free_bits, self._in_closed_form = decoder, free_bits, in_closed_form
    if hasattr(decoder, "expected_log_prob_derivative" if in_closed_form else "log_prob_derivative"):
      self.directional_derivative = self._directional_derivative
    if hasattr(decoder, "computing_in"):
      self.computing_in = decoder.computing_in

  def bound(self, params: GaussianParams | None, noise: tf.Tensor | None, x: Any, context: Any) -> Bound:
    """The parts of the bound; `params` is None for a decoder without a latent."""
    if params is None:
      nll = -self._decoder.log_prob(x, None, context)
      return Bound(nll, tf.zeros_like(nll), tf.zeros_like(nll))
    if self._in_closed_form:
      nll = -self._decoder.expected_log_prob(x, params, context)
    else:
      nll = -self._decoder.log_prob(x, params.sample(noise), context)
    kl = params.kl_to_prior()
    if not self._free_bits:
      return Bound(nll, kl, kl)
    penalised = tf.maximum(params.kl_of_latents(), self._free_bits)
    return Bound(nll, kl, tf.reduce_sum(penalised, axis=-1))

  def __call__(self, params, noise, x, beta, context) -> tf.Tensor:
    return self.bound(params, noise, x, context).weighted(beta)

  def _directional_derivative(self, params, noise, tangent, x, beta, context):
    """⟨tangent, ∇_λ L_i⟩, `[batch]`, with dz = dμ + ½ σ ε d(log σ²) and the KL term in closed form."""
    d_kl = tangent.mean * params.mean + 0.5 * tangent.log_var * tf.math.expm1(params.log_var)
    if self._free_bits:
      d_kl = tf.where(params.kl_of_latents() > self._free_bits, d_kl, tf.zeros_like(d_kl))
    if self._in_closed_form:
      d_log_prob = self._decoder.expected_log_prob_derivative(x, params, tangent, context)
    else:
      dz = tangent.mean + 0.5 * params.stddev * noise * tangent.log_var
      d_log_prob = self._decoder.log_prob_derivative(x, params.sample(noise), dz, context)
    return beta * tf.reduce_sum(d_kl, axis=-1) - d_log_prob


def precompute(decoder, x: Any, training: bool, seed: tf.Tensor) -> Any:
  """The decoder's context, which does not depend on z; None if the decoder has no `precompute`."""
  method = getattr(decoder, "precompute", None)
  if method is None:
    return ()
  accepted = inspect.signature(method).parameters
  options = {"training": training, "seed": seed}
  return method(x, **{name: value for name, value in options.items() if name in accepted})
