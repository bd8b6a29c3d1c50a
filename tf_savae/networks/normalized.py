"""BN-VAE's encoder: the means of posteriors are normalised over the batch, which keeps the KL above a bound."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_savae import precision
from tf_savae.networks.batch_norm import BatchNormalization
from tf_savae.networks.checks import check
from tf_savae.posterior import GaussianParams

# As in the authors' program, for batches whose means hardly differ at first, and for runs of few updates.
_EPSILON, _MOMENTUM = 1e-5, 0.9


@keras.saving.register_keras_serializable(package="tf_savae")
class BatchNormalizedEncoder(keras.layers.Layer):
  """λ_0 of an encoder whose μ becomes γ (μ − mean) / standard deviation + shift, for each latent over the batch.

  γ is a constant and the shift is trained. In training the mean over a batch of KL(q_λ0 ‖ p) is then at least
  latent · γ² / 2 nats, so the posterior cannot collapse. Otherwise the moving moments of the batches are used, so that
  an answer depends on its row alone. Of several devices, the moments are those of the whole batch.

  SVI steps start from this λ_0 and are free to leave it.

  Args:
    encoder: Keras layer `x -> (mean, log_var)`.
    latent_dim: size of z.
    gamma: γ, above 0.
    **kwargs: of `keras.layers.Layer`.

  Source: Zhu et al. (2020), section 3.

  Raises:
    UserError: γ is not above 0, or there is no latent.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import BatchNormalizedEncoder, ResNetEncoder
    >>> encoder = BatchNormalizedEncoder(ResNetEncoder(latent_dim=2, channels=(4, 4)), latent_dim=2)
    >>> x = tf.random.stateless_uniform([100, 8, 8, 1], seed=[0, 1])
    >>> print(f"{tf.math.reduce_std(encoder(x, training=True).mean[:, 0]):.2f}")
    0.50
  """

  def __init__(self, encoder: keras.layers.Layer, latent_dim: int, gamma: float = 0.5, **kwargs: Any):
    super().__init__(dtype=precision.default(kwargs.pop("dtype", encoder.dtype_policy)), **kwargs)
    check(gamma > 0, "gamma must be above 0", gamma, "give the scale of the means, such as 0.5")
    check(latent_dim >= 1, "latent_dim must be at least 1", latent_dim, "give the size of z")
    self.encoder, self.latent_dim, self.gamma = encoder, latent_dim, gamma
    options = {"momentum": _MOMENTUM, "epsilon": _EPSILON, "center": False, "scale": False}
    self.normalization = BatchNormalization(**options, dtype=self.variable_dtype)
    self.normalization.build((None, latent_dim))
    self.shift = self.add_weight(shape=(latent_dim,), initializer="zeros", name="shift")
    if hasattr(encoder, "encode_embedded"):  # of tokens, in two parts
      self.embed, self.encode_embedded = encoder.embed, self._encode_embedded

  def call(self, x: Any, training: bool = False) -> GaussianParams:
    """λ_0, each `[batch, latent]`, of the variables' dtype."""
    return self._normalized(self.encoder(x, training=training), training)

  def _encode_embedded(self, x, embedded):
    return self._normalized(self.encoder.encode_embedded(x, embedded), False)

  def _normalized(self, params, training):
    mean, log_var = (tf.cast(part, self.variable_dtype) for part in params)
    mean = self.gamma * self.normalization(mean, training=training) + tf.convert_to_tensor(self.shift)
    return GaussianParams(mean, log_var)

  def build(self, input_shape: Any = None) -> None:
    """The encoder is built when it first sees x."""
    self.built = True

  def get_config(self):
    return {
      **super().get_config(),
      "encoder": keras.saving.serialize_keras_object(self.encoder),
      "latent_dim": self.latent_dim,
      "gamma": self.gamma,
    }

  @classmethod
  def from_config(cls, config):
    config = dict(config)
    if isinstance(config["encoder"], dict):
      config["encoder"] = keras.saving.deserialize_keras_object(config["encoder"])
    return cls(**config)
