"""Observations of which some parts were not seen: their likelihood, and their completion."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae import observations
from tf_savae.errors import UserError
from tf_savae.posterior import GaussianParams


class Masked:
  """log p_θ of the seen parts of x given z: the likelihood of a decoder, summed over these parts alone.

  Where the parts are independent given z, as in `ConvDecoder`, this is log p(x_seen | z). An autoregressive decoder
  gives each part the probability after all parts before it. There it is log p(x_seen | z) if no seen part comes after
  an unseen one, such as with the upper rows of an image. Otherwise unseen parts count as 0 where they come before.

  The mask travels in the context, as whatever else depends on the batch and not on z.

  Args:
    decoder: has `log_prob_of_parts(x, z, context) -> [batch, …]`, in the shape of x with the same or one channel.
    mask: 1 where x was seen and 0 elsewhere, in that shape; of `mask_for`.
  """

  def __init__(self, decoder: Any, mask: tf.Tensor):
    self._decoder, self._mask = decoder, mask
    self.latent_dim = decoder.latent_dim
    if hasattr(decoder, "expected_log_prob_of_parts"):
      self.expected_log_prob = self._expected_log_prob
    if hasattr(decoder, "computing_in"):
      self.computing_in = decoder.computing_in

  def precompute(self, x: Any, training: bool = False, seed: tf.Tensor | None = None) -> tuple:
    inner = getattr(self._decoder, "precompute", None)
    return (self._mask, *(() if inner is None else inner(x, training=training, seed=seed)))

  def log_prob(self, x: Any, z: tf.Tensor | None, context: tuple) -> tf.Tensor:
    """log p_θ(x_seen | z), `[batch]`, nats."""
    return _total(context[0], self._decoder.log_prob_of_parts(x, z, context[1:]))

  def _expected_log_prob(self, x: Any, params: GaussianParams, context: tuple) -> tf.Tensor:
    return _total(context[0], self._decoder.expected_log_prob_of_parts(x, params, context[1:]))


def _total(mask: tf.Tensor, parts: tf.Tensor) -> tf.Tensor:
  return tf.reduce_sum(tf.cast(mask, parts.dtype) * parts, axis=list(range(1, parts.shape.rank)))


def mask_for(decoder: Any, x: Any, mask: Any) -> tf.Tensor:
  """A mask in the shape of the observation, with the same or one channel, 1 where it was seen and 0 elsewhere.

  Args:
    decoder: whose observations they are.
    x: observations.
    mask: numbers or truth values in the shape of one observation or of all; the channels may be left out.

  Raises:
    UserError: the decoder gives no log-probabilities of parts, or the mask has another shape or other values.
  """
  if not hasattr(decoder, "log_prob_of_parts"):
    raise UserError(
      f"a mask needs a decoder with a method log_prob_of_parts; {type(decoder).__name__} has none; use one of those"
      " for images"
    )
  observed = observations.observed_of(decoder, x)
  if isinstance(mask, np.ndarray | list | tuple):
    mask = np.asarray(mask)
    if not np.isin(mask, (0, 1)).all():
      raise UserError(f"a mask has 1 where x was seen and 0 elsewhere; received {_range(mask)}; threshold it")
  mask = tf.cast(tf.convert_to_tensor(mask), tf.as_dtype(getattr(decoder, "variable_dtype", "float32")))
  wanted = tuple(observed.shape[1:])
  for shape in (mask.shape, (*mask.shape, 1), (1, *mask.shape), (1, *mask.shape, 1)):
    if _fits(tuple(shape), wanted):
      break
  else:
    raise UserError(
      f"a mask of observations of shape {list(wanted)} has that shape, without channels or with the batch before it;"
      f" received {list(mask.shape)}"
    )
  channels = tuple(shape)[-1]
  if channels > 1 and getattr(decoder, "couples_channels", False):
    raise UserError(
      "the channels of a pixel depend on each other here, so that a mask has one number per pixel; received"
      f" {list(mask.shape)}; leave the channels out"
    )
  batch = tf.shape(observed)[0]
  mask = tf.reshape(mask, [-1, *wanted[:-1], channels])
  return mask if shape[0] != 1 else tf.repeat(mask, tf.where(tf.shape(mask)[0] == 1, batch, 1), axis=0)


def _fits(shape: tuple, wanted: tuple) -> bool:
  return len(shape) == len(wanted) + 1 and shape[1:-1] == wanted[:-1] and shape[-1] in (1, wanted[-1])


def _range(mask: np.ndarray) -> str:
  return (
    f"{mask.dtype} from {mask.min():g} to {mask.max():g}" if mask.dtype.kind in "iuf" else str(mask.dtype)
  )


def seen(decoder: Any, x: Any, mask: tf.Tensor) -> Any:
  """x with 0 in all parts that were not seen, so that their values cannot matter.

  Args:
    decoder: whose observations they are.
    x: observations.
    mask: of `mask_for`.
  """
  observed = observations.observed_of(decoder, x)
  kept = tf.where(mask > 0, observed, tf.zeros_like(observed))
  return observations.with_observed(decoder, x, kept)


def complete(
  decoder: Any, x: Any, mask: tf.Tensor, z: tf.Tensor | None, seed: Any, **given: Any
) -> tf.Tensor:
  """x whose unseen parts are drawn from p_θ(x | z) and, in an autoregressive decoder, from the parts before them.

  Args:
    decoder: has `complete(x, mask, z, seed)` or, if its parts are independent given z, `sample(z, seed)`.
    x: what was seen, `[batch, …]`, or a nest with it.
    mask: of `mask_for`.
    z: `[batch, latent]`, or None.
    seed: stateless seed, `[2]` int32.
    **given: further arguments of `sample`, such as the `condition` of a conditional decoder.

  Returns:
    The observed part of x, completed, `[batch, …]`.
  """
  known = observations.observed_of(decoder, seen(decoder, x, mask))
  if hasattr(decoder, "complete"):
    drawn = decoder.complete(known, mask, z, seed, **given)
  else:
    drawn = decoder.sample(z, seed, num=tf.shape(known)[0], **given)
  return tf.where(mask > 0, known, tf.cast(drawn, known.dtype))
