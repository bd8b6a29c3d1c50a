"""Which parts of an observation the latent code depends on, and which parts depend on it (paper, section 5).

Input saliency of a part of x, a token or a pixel: the norm of the gradient of ‖μ(λ_K)‖ with respect to what the encoder
reads of that part, through the encoder and all K steps. The same is computed for the entropy of q_λK. x itself, as the
steps see it in L, counts as constant.

Output saliency of token t: ‖∂ log p(x_t | x_<t, z) / ∂z‖, averaged over z ~ q_λK.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae import inference, tokens
from tf_savae.model import SAVAE
from tf_savae.networks.sequence import SequenceDecoder
from tf_savae.seeds import Purpose, stateless_seed
from tf_savae.svi.adjoint import ExactAdjoint


def of_inputs(model: SAVAE, x: Any, seen: int | tf.Tensor = 0) -> dict[str, tf.Tensor]:
  """Input saliency of every token `[batch, length]` or pixel `[batch, height, width]`.

  Args:
    model: a model with an encoder; K is its `eval_k`. An encoder of tokens needs `embed` and `encode_embedded`, as
      `tf_savae.networks.LSTMEncoder` has them. Any other encoder reads x as numbers.
    x: the observation.
    seen: number of examples before x, which varies the noise.

  Returns:
    `mean` and `entropy`: the norms of the gradients of ‖μ(λ_K)‖ and of q's entropy.

  Raises:
    ValueError: the model has no encoder, or its encoder of tokens does not have the two methods.
  """
  if not model.method.has_encoder:
    raise ValueError(f"Input saliency needs a method with an encoder. Received: {model.method_name!r}")
  batch = model.inference(x, step=seen)
  encoder: Any = model.encoder
  of_tokens = hasattr(encoder, "encode_embedded")
  if not of_tokens and not tf.convert_to_tensor(x).dtype.is_floating:
    raise ValueError(
      f"Input saliency of tokens needs an encoder with embed and encode_embedded. Received: {type(encoder).__name__}"
    )
  with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
    read = encoder.embed(x) if of_tokens else tf.identity(x)
    tape.watch(read)
    if of_tokens:
      parts = encoder.encode_embedded(x, read)
      start = model.family.start([tf.cast(part, model.variable_dtype) for part in parts])
    else:
      start = inference.encode(encoder, read, False, model.variable_dtype, model.family)
    params = batch.refine(start, ExactAdjoint())[0] if batch.settings.num_steps else start
    entropy = model.family.entropy(params, batch.noise[-1])
    targets = {"mean": _norm(model.family.center(params)), "entropy": entropy}
  # An example's λ_K depends on no other example, so the gradient of the sum over examples is that of each.
  found = {
    name: tape.gradient(target, read, unconnected_gradients="zero") for name, target in targets.items()
  }
  return {name: _norm(tf.cast(gradient, model.variable_dtype)) for name, gradient in found.items()}


def of_outputs(
  model: SAVAE, x: tf.Tensor, seen: int | tf.Tensor = 0, num_samples: int = 4
) -> dict[str, tf.Tensor]:
  """Output saliency of every token, and what the token costs.

  Args:
    model: a model with a `SequenceDecoder` that has a latent.
    x: documents, `[batch, length]` int32.
    seen: number of examples before x, which varies the noise.
    num_samples: draws of z ~ q_λK that are averaged.

  Returns:
    `output`, and `loss`, the mean of −log p(x_t | x_<t, z) in nats, each `[batch, length]`; 0 at padding.

  Raises:
    ValueError: another decoder.
  """
  decoder = model.decoder
  if not isinstance(decoder, SequenceDecoder) or not model.latent_dim:
    raise ValueError(
      f"Output saliency needs a SequenceDecoder with a latent. Received: {type(decoder).__name__}"
    )
  batch = model.inference(x, step=seen)
  params = model.posterior(batch)[0]
  context = decoder.precompute(x)
  mask = tf.cast(tokens.is_token(x), model.variable_dtype)
  total = {"output": tf.zeros_like(mask), "loss": tf.zeros_like(mask)}
  for s in range(num_samples):
    seed = stateless_seed(model.seed, tf.cast(seen, tf.int64), Purpose.NOISE)
    seed = tf.random.experimental.stateless_fold_in(seed, s)
    noise = tf.random.stateless_normal(tf.shape(params.mean), seed, dtype=params.mean.dtype)
    log_probs, jacobian = _with_jacobian(
      lambda z: _token_log_probs(decoder, x, z, context), model.family.sample(params, noise)
    )
    total["output"] += _norm(jacobian)
    total["loss"] -= log_probs
  return {name: mask * value / num_samples for name, value in total.items()}


def _token_log_probs(decoder, x, z, context):
  log_p = tf.nn.log_softmax(decoder.logits(z, context), axis=-1)
  return tf.gather(log_p, tf.cast(x, tf.int32), batch_dims=2)


def _with_jacobian(function, z):
  """`function(z)` `[batch, length]` and its derivatives by z `[batch, length, latent]`.

  One reverse pass gives ∂⟨u, f⟩/∂z, which is linear in u; its derivative by u along each latent is a column.
  """
  with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
    with tf.GradientTape(watch_accessed_variables=False) as inner:
      inner.watch(z)
      value = function(z)
    u = tf.ones_like(value)
    outer.watch(u)
    by_z = inner.gradient(value, z, output_gradients=u)
    columns = tf.unstack(by_z, axis=-1)
  return value, tf.stack([outer.gradient(column, u) for column in columns], axis=-1)


def _norm(rows):
  """The norm along the last axis, with the derivative 0 at 0."""
  square = tf.reduce_sum(tf.square(rows), axis=-1)
  tiny = np.finfo(rows.dtype.as_numpy_dtype).tiny
  return tf.where(square > 0, tf.sqrt(tf.maximum(square, tiny)), tf.zeros_like(square))
