"""What every decoder offers, and the few lines that all networks here share."""

from __future__ import annotations

import abc
import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_savae.errors import UserError


class Decoder(keras.layers.Layer, abc.ABC):
  """p_θ(x | z) as the refinement uses it; inheriting from this class is optional.

  A refinement evaluates log p_θ(x | z) and its first and second derivatives at K values of z for one x.
  So what does not depend on z is computed once, by `precompute`, and handed back to `log_prob` as `context`.
  The decoder's random masks live there too: `log_prob` is a deterministic function of (x, z, context) and of
  the weights, and the sweep backward through the refinement sees the masks of the sweep forward.

  A tensor of a context has the batch as its first dimension, or depends on the weights alone.

  Attributes:
    latent_dim: size of z; 0 for a model of p(x) alone, whose z is None everywhere.
  """

  latent_dim: int

  @abc.abstractmethod
  def precompute(self, x: tf.Tensor, training: bool = False, seed: tf.Tensor | None = None) -> tuple:
    """The part of log p(x | z) that needs no z, and the dropout masks.

    Args:
      x: observations, `[batch, ...]`.
      training: draws dropout masks if true.
      seed: stateless seed, `[2]` int32; needed only when there are masks to draw.

    Returns:
      The context: a tuple of tensors.

    Raises:
      UserError: masks are to be drawn and `seed` is None.
    """

  @abc.abstractmethod
  def log_prob(self, x: tf.Tensor, z: tf.Tensor | None, context: tuple) -> tf.Tensor:
    """log p_θ(x | z) in nats, `[batch]`, of the variables' dtype; twice differentiable."""

  @abc.abstractmethod
  def sample(
    self, z: tf.Tensor | None, seed: tf.Tensor, num: int | None = None, progress: bool = False
  ) -> tf.Tensor:
    """Ancestral samples x ~ p_θ(x | z).

    Args:
      z: `[batch, latent]`, one sample a row; None where latent_dim is 0.
      seed: stateless seed, `[2]` int32.
      num: number of samples, where z is None.
      progress: shows a progress bar.

    Returns:
      x, `[batch, ...]`.
    """

  @abc.abstractmethod
  def decode(self, z: tf.Tensor | None) -> tf.Tensor:
    """Probabilities of the observation's parts along the greedy path; deterministic."""

  def cast(self, tensor: Any) -> tf.Tensor:
    """A variable or tensor in the dtype of the network's arithmetic."""
    return tf.cast(tensor, self.compute_dtype)

  @contextlib.contextmanager
  def computing_in(self, dtype: str) -> Iterator[None]:
    """Within it the network's arithmetic is in `dtype`; its float32 variables, and a context made before, stay.

    A decoder that casts variables, z and context by `cast`, or leaves that to Keras layers, needs nothing more for it.
    """
    layers = self._flatten_layers()
    policies = [layer.dtype_policy for layer in layers]
    try:
      for layer in layers:
        layer.dtype_policy = f"mixed_{dtype}"
      yield
    finally:
      for layer, policy in zip(layers, policies, strict=True):
        layer.dtype_policy = policy


def glorot_stream(seed: int) -> Iterator[keras.initializers.Initializer]:
  """Glorot-uniform initialisers, each with its own seed: a network is a pure function of its config."""
  return (keras.initializers.GlorotUniform(_weight_seed(seed, i)) for i in itertools.count())


def uniform_stream(seed: int, scale: float) -> Iterator[keras.initializers.Initializer]:
  """Initialisers of U(−scale, scale), each with its own seed."""
  return (
    keras.initializers.RandomUniform(-scale, scale, seed=_weight_seed(seed, i)) for i in itertools.count()
  )


def _weight_seed(seed: int, index: int) -> int:
  return (seed * 1_000_003 + index) % 2**31


def gate(x: tf.Tensor) -> tf.Tensor:
  """tanh(a) · σ(b) of the two halves of the channels."""
  # TensorFlow's bfloat16 versions of these functions take two to four times as long as float32's.
  wide = tf.cast(x, tf.float32) if x.dtype == tf.bfloat16 else x
  a, b = tf.split(wide, 2, axis=-1)
  return tf.cast(tf.tanh(a) * tf.sigmoid(b), x.dtype)


def transpose(x: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
  """`tf.transpose`, whose derivatives of any order have constant axes, as XLA asks for of a loop under a tape."""

  @tf.custom_gradient
  def apply(x):
    return tf.transpose(x, axes), lambda upstream: transpose(upstream, np.argsort(axes).tolist())

  return apply(x)


def dropout_mask(shape: Any, rate: float, seed: tf.Tensor | None, dtype: str) -> tf.Tensor:
  """Inverted dropout mask: 0 with probability `rate`, else 1 / (1 − rate).

  Args:
    shape: of the mask.
    rate: in [0, 1).
    seed: stateless seed, `[2]` int32.
    dtype: of the mask.

  Returns:
    The mask, a function of (shape, rate, seed).

  Raises:
    UserError: `seed` is None.
  """
  if seed is None:
    raise UserError(f"dropout {rate} in training mode needs a seed, received None: pass a [2] int32 seed")
  keep = tf.random.stateless_uniform(shape, seed) >= rate
  return tf.cast(keep, dtype) / tf.constant(1.0 - rate, dtype)


def check(condition: bool, what: str, received: Any, remedy: str) -> None:
  """Raises UserError("`what`, received `received`: `remedy`") unless `condition`."""
  if not condition:
    raise UserError(f"{what}, received {received!r}: {remedy}")


def latent_rows(
  z: Any, num: int | tf.Tensor | None, latent_dim: int, dtype: str
) -> tuple[tf.Tensor | None, tf.Tensor]:
  """z as a tensor of `dtype`, or None, and the number of samples asked for, a scalar int32 tensor.

  Raises:
    UserError: z and num do not fit a decoder with this `latent_dim`.
  """
  if latent_dim:
    check(z is not None, f"this decoder samples given z [batch, {latent_dim}]", z, "pass z")
    z = tf.cast(z, dtype)
    fits = z.shape.is_compatible_with([None, latent_dim])
    check(fits, f"z must be [batch, {latent_dim}]", tuple(z.shape), "pass one row a sample")
    return z, tf.shape(z)[0]
  check(z is None, "this decoder has no latent: z must be None", type(z).__name__, "leave z out")
  check(num is not None, "without z the number of samples must be given", num, "pass num")
  return None, tf.convert_to_tensor(num, tf.int32)
