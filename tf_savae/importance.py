"""Importance-weighted bounds in training: several draws from q_λK, or one from each of q_λ0 … q_λK.

With z_s ~ q_λs and S proposals, the loss of an example is

    −log (1/S) Σ_s w_s,        log w_s = log p_θ(x | z_s) + β (log p(z_s) − log q_λs(z_s))

For β = 1 it is an upper bound on −log p_θ(x) in expectation: by Jensen's inequality, since each w_s has the mean
p_θ(x), whatever the earlier draws were.

* All λ_s = λ_K: the importance-weighted autoencoder (Burda et al. 2016, equation 8).
* λ_s = λ_0 … λ_K: the buffered bound with equal weights (Shu et al. 2019). Each draw has the weight of its
  own proposal. The paper reuses the draws of the steps; here they are new, since a step may have draws that are no
  samples from q.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tf_savae import penalties
from tf_savae.objective import Bound
from tf_savae.posterior import Params
from tf_savae.posteriors.family import DIAGONAL, PosteriorFamily


def bound(
  decoder: Any,
  x: Any,
  context: Any,
  params: Params,
  noise: tf.Tensor,
  beta: tf.Tensor,
  family: PosteriorFamily = DIAGONAL,
) -> Bound:
  """The parts of the one-draw bound of the last proposal, with the importance-weighted loss of all of them.

  Args:
    decoder: log p_θ(x | z); one that `takes_many_z` is called once.
    x: the observation.
    context: what the decoder's `precompute` gave.
    params: λ_s of S proposals, each `[S, batch, …]`.
    noise: ε_s, `[S, batch, latent]`.
    beta: weight of log p(z) − log q(z), a scalar.
    family: what q_λ is.

  Returns:
    `nll` and `kl` are those of the last proposal and its draw; `loss` `[batch]`, nats, is that of the training.
  """
  z, ratios = family.draw(params, noise)
  log_probs = _log_probs(decoder, x, context, z)
  weights = log_probs + beta * tf.cast(ratios, log_probs.dtype)
  number = tf.cast(tf.shape(weights)[0], weights.dtype)
  loss = tf.math.log(number) - tf.reduce_logsumexp(weights, axis=0)
  kl = -ratios[-1]
  if family.kl_in_closed_form:
    kl = tf.nest.map_structure(lambda part: part[-1], params).kl_to_prior()
  return Bound(-log_probs[-1], kl, kl, loss)


def _log_probs(decoder, x, context, z):
  """log p_θ(x | z_s), `[S, batch]`."""
  if getattr(decoder, "takes_many_z", False):
    return tf.transpose(decoder.log_prob(x, tf.transpose(z, [1, 0, 2]), context))
  last = z[-1]
  if z.shape[0] == 1:
    return decoder.log_prob(x, last, context)[tf.newaxis]
  others = tf.map_fn(lambda each: decoder.log_prob(x, each, context), z[:-1], fn_output_signature=z.dtype)
  # A layer's own losses count once, and not within a loop.
  penalties.take_added(decoder)
  return tf.concat([others, decoder.log_prob(x, last, context)[tf.newaxis]], axis=0)
