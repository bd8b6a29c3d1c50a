"""The interface of decoders."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tf_savae import precision
from tf_savae.observations import Support


class Decoder(keras.layers.Layer, abc.ABC):
  """p_θ(x | z) as the refinement uses it; inheriting from this class is optional.

  A refinement evaluates log p_θ(x | z) and its first and second derivatives at K values of z for one x.
  So everything that does not depend on z is computed once, by `precompute`, and passed to `log_prob` as `context`.
  The context also holds the decoder's random masks. `log_prob` is therefore a deterministic function of
  (x, z, context) and of the weights, and the backward sweep through the refinement uses the masks of the forward one.

  A tensor in a context either has the batch as its first dimension or depends on the weights alone.

  Source: paper, section 3. Values of log p are nats.

  Attributes:
    latent_dim: size of z; 0 for a model of p(x) alone, whose z is None everywhere.
    support: which observations have a likelihood, as a `Support` or a pair (low, high); None: not known. Data outside
      of it are an error of `fit` and `evaluate`.

  Args:
    dtype: as of `keras.layers.Layer`.
    **kwargs: `name`, … of `keras.layers.Layer`.

  Example:
    >>> import keras
    >>> import tensorflow as tf
    >>> from tf_savae.networks import Decoder
    >>> class Gaussian(Decoder):
    ...   latent_dim = 2
    ...   def __init__(self):
    ...     super().__init__()
    ...     self.net = keras.layers.Dense(5)
    ...   def precompute(self, x, training=False, seed=None):
    ...     return ()
    ...   def log_prob(self, x, z, context):
    ...     return -0.5 * tf.reduce_sum(tf.square(x - self.net(z)), axis=-1)
    ...   def decode(self, z):
    ...     return self.net(z)
    ...   def sample(self, z, seed, num=None, progress=False):
    ...     return self.net(z) + tf.random.stateless_normal([tf.shape(z)[0], 5], seed)
    >>> decoder = Gaussian()
    >>> decoder.log_prob(tf.zeros([3, 5]), tf.zeros([3, 2]), decoder.precompute(tf.zeros([3, 5]))).shape  # nats
    TensorShape([3])
  """

  latent_dim: int
  support: Support | tuple[float, float] | None = None

  def __init__(self, *, dtype: Any = None, **kwargs: Any):
    super().__init__(dtype=precision.default(dtype), **kwargs)

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
      z: `[batch, latent]`, one sample per row; None if latent_dim is 0.
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
    """A context in which the network computes in `dtype`; its variables, and contexts made before, stay in float32.

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
