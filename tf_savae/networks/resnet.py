"""The paper's residual encoder for images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_savae import precision
from tf_savae.networks.batch_norm import BatchNormalization
from tf_savae.networks.checks import check
from tf_savae.networks.initial_weights import glorot_stream
from tf_savae.posterior import GaussianParams


@keras.saving.register_keras_serializable(package="tf_savae")
class ResNetEncoder(keras.layers.Layer):
  """λ_0 = enc_φ(x): residual blocks, each halved by a strided convolution, then two linear heads.

  For each entry of `channels`: a residual block, then a 2×2 convolution of stride 2 without activation. The
  heads read the flattened last map. Follows Kim et al., *Semi-Amortized Variational Autoencoders*, 2018.

  Args:
    latent_dim: size of z.
    channels: channels of each stage.
    seed: of the initial weights.
    **kwargs: `name`, `dtype`, … of `keras.layers.Layer`.

  Raises:
    UserError: a size that is not positive, or images too small to be halved once a stage.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import ResNetEncoder
    >>> encoder = ResNetEncoder(latent_dim=2, channels=(4, 4))
    >>> encoder(tf.zeros([3, 8, 8, 1])).mean.shape
    TensorShape([3, 2])
  """

  def __init__(
    self, latent_dim: int = 32, channels: Sequence[int] = (64, 64, 64), *, seed: int = 0, **kwargs
  ):
    super().__init__(dtype=precision.default(kwargs.pop("dtype", None)), **kwargs)
    check(latent_dim >= 1, "latent_dim must be at least 1", latent_dim, "give the size of z")
    check(
      len(channels) > 0 and min(channels) >= 1,
      "channels must be positive numbers",
      channels,
      "give one for each stage, such as (64, 64, 64)",
    )
    self.latent_dim = latent_dim
    self.channels = tuple(channels)
    self.seed = seed
    init = glorot_stream(seed)
    self.stages = []
    for width in self.channels:
      block = ResidualBlock(width, initializers=[next(init) for _ in range(3)], dtype=self.dtype_policy)
      half = keras.layers.Conv2D(
        width,
        2,
        strides=2,
        data_format="channels_last",
        kernel_initializer=next(init),
        dtype=self.dtype_policy,
      )
      self.stages += [block, half]
    self.flatten = keras.layers.Flatten("channels_last", dtype=self.dtype_policy)
    self.mean_head = keras.layers.Dense(latent_dim, kernel_initializer=next(init), dtype=self.dtype_policy)
    self.log_var_head = keras.layers.Dense(latent_dim, kernel_initializer=next(init), dtype=self.dtype_policy)

  def build(self, input_shape):
    """Creates the layers for images of this shape, `[batch, height, width, channels]`."""
    smallest = 2 ** len(self.channels)
    check(
      len(input_shape) == 4 and min(input_shape[1:3]) >= smallest,
      f"ResNetEncoder halves its images {len(self.channels)} times and needs [batch, height, width, channels]"
      f" of at least {smallest}x{smallest}",
      tuple(input_shape),
      "give larger images or fewer stages",
    )
    shape = tuple(input_shape)
    for layer in [*self.stages, self.flatten]:
      layer.build(shape)
      shape = layer.compute_output_shape(shape)
    self.mean_head.build(shape)
    self.log_var_head.build(shape)
    self.built = True

  def call(self, x: tf.Tensor, training: bool = False) -> GaussianParams:
    """Images `[batch, height, width, channels]` to λ_0, each `[batch, latent]`, of the variables' dtype."""
    h = tf.cast(x, self.compute_dtype)
    for layer in self.stages:
      h = layer(h, training=training) if isinstance(layer, ResidualBlock) else layer(h)
    h = self.flatten(h)
    # λ keeps full precision whatever the convolutions compute in.
    return GaussianParams(
      tf.cast(self.mean_head(h), self.variable_dtype), tf.cast(self.log_var_head(h), self.variable_dtype)
    )

  def get_config(self):
    return {
      **super().get_config(),
      "latent_dim": self.latent_dim,
      "channels": list(self.channels),
      "seed": self.seed,
    }


class ResidualBlock(keras.layers.Layer):
  """relu(BN(conv(relu(BN(conv(x))))) + shortcut(x)), 3×3 convolutions.

  The shortcut is the identity, or a 1×1 convolution where the number of channels changes.
  """

  def __init__(self, channels: int, *, initializers: Sequence[keras.initializers.Initializer], **kwargs):
    super().__init__(**kwargs)

    def conv(size, initializer):
      return keras.layers.Conv2D(
        channels,
        size,
        padding="same",
        data_format="channels_last",
        kernel_initializer=initializer,
        dtype=self.dtype_policy,
      )

    def norm():
      return BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=self.dtype_policy)

    self.channels = channels
    self.conv1, self.norm1 = conv(3, initializers[0]), norm()
    self.conv2, self.norm2 = conv(3, initializers[1]), norm()
    self.shortcut = conv(1, initializers[2])

  def build(self, input_shape):
    self.conv1.build(input_shape)
    inner = self.conv1.compute_output_shape(input_shape)
    self.norm1.build(inner)
    self.conv2.build(inner)
    self.norm2.build(inner)
    if input_shape[-1] == self.channels:
      self.shortcut = None
    else:
      self.shortcut.build(input_shape)
    self.built = True

  def compute_output_shape(self, input_shape):
    return (*input_shape[:-1], self.channels)

  def call(self, x, training=False):
    h = tf.nn.relu(self.norm1(self.conv1(x), training=training))
    h = self.norm2(self.conv2(h), training=training)
    return tf.nn.relu(h + (x if self.shortcut is None else self.shortcut(x)))


def for_data(data: Any, latent_dim: int, *, encoder_channels: Sequence[int], **common: Any) -> ResNetEncoder:
  """The encoder for images; see `tf_savae.networks.Network`."""
  del data  # the size of the images shows when the layer is built
  return ResNetEncoder(latent_dim, encoder_channels, **common)
