"""An encoder for full covariances, made of any encoder for diagonal ones."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_savae import precision
from tf_savae.errors import UserError
from tf_savae.full_gaussian import FullGaussianParams


@keras.saving.register_keras_serializable(package="tf_savae")
class FullCovarianceEncoder(keras.layers.Layer):
  """Gives μ, log L_ii² and the entries of L below its diagonal, by the two heads of another encoder.

  The inner encoder has more outputs than there are latents, `inner_dim(latent_dim)` in each of its heads. The first
  ones are μ and log L_ii², and L takes the others. The paper has diagonal Gaussians alone.

  Source: Challis and Barber (2013), for Cholesky factors in variational inference.

  Args:
    encoder: Keras layer `x -> (mean, log_var)`, each `[batch, inner_dim(latent_dim)]`.
    latent_dim: number of latents.

  Raises:
    UserError: `latent_dim` is not positive.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import FullCovarianceEncoder, ResNetEncoder
    >>> inner = ResNetEncoder(latent_dim=FullCovarianceEncoder.inner_dim(4), channels=(4, 4))
    >>> params = FullCovarianceEncoder(inner, latent_dim=4)(tf.zeros([3, 8, 8, 1]))
    >>> params.mean.shape, params.scale_tril.shape
    (TensorShape([3, 4]), TensorShape([3, 4, 4]))
  """

  def __init__(self, encoder: keras.layers.Layer, latent_dim: int, **kwargs: Any):
    super().__init__(dtype=precision.default(kwargs.pop("dtype", encoder.dtype_policy)), **kwargs)
    if latent_dim < 1:
      raise UserError(f"latent_dim must be 1 or more, received {latent_dim}: give the size of z")
    self.encoder, self.latent_dim = encoder, latent_dim
    if hasattr(encoder, "encode_embedded"):  # what saliency of tokens asks for
      self.embed = encoder.embed
      self.encode_embedded = self._encode_embedded

  @staticmethod
  def inner_dim(latent_dim: int) -> int:
    """Outputs that each of the two heads of the inner encoder has."""
    below = latent_dim * (latent_dim - 1) // 2
    return latent_dim + -(-below // 2)

  def call(self, x: Any, training: bool = False) -> FullGaussianParams:
    """Observations to λ_0."""
    return self._parts(*self.encoder(x, training=training))

  def _encode_embedded(self, x, embedded):
    return self._parts(*self.encoder.encode_embedded(x, embedded))

  def _parts(self, mean, log_var):
    latent = self.latent_dim
    below = tf.concat([mean[:, latent:], log_var[:, latent:]], axis=-1)
    return FullGaussianParams(mean[:, :latent], log_var[:, :latent], below[:, : latent * (latent - 1) // 2])

  def build(self, input_shape: Any = None) -> None:
    """The encoder is built when it first sees observations."""
    self.built = True

  def get_config(self):
    encoder = keras.saving.serialize_keras_object(self.encoder)
    return {**super().get_config(), "encoder": encoder, "latent_dim": self.latent_dim}

  @classmethod
  def from_config(cls, config):
    config = dict(config)
    if isinstance(config["encoder"], dict):
      config["encoder"] = keras.saving.deserialize_keras_object(config["encoder"])
    return cls(**config)
