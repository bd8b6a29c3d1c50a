"""A gated PixelCNN that z enters late: the convolutions see the image alone and are done once for all z."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_savae.networks import pixelcnn_sampling
from tf_savae.networks.checks import check, check_binary, latent_rows
from tf_savae.networks.decoder import Decoder
from tf_savae.networks.initial_weights import glorot_stream, uniform_stream
from tf_savae.networks.pixelcnn import GatedPixelCNN
from tf_savae.observations import BINARY
from tf_savae.ops.owned_gradients import custom_gradient
from tf_savae.ops.quadrature import expected_softplus, expected_softplus_gradient
from tf_savae.ops.transposition import transpose
from tf_savae.posterior import GaussianParams

# What z ~ N(0, I) adds to a logit at first has a standard deviation of about a third, whatever the sizes.
_HEAD_SCALE = 0.6


@keras.saving.register_keras_serializable(package="tf_savae")
class LatePixelCNN(Decoder):
  """PixelCNN over binary images whose logits are linear in z.

      logit_i = a_i(x_<i) + B_i(x_<i) · z,    B_il = Σ_c [1, tanh(F U + u)]_ic W_icl

  F are the last features of a `GatedPixelCNN` that has no z, and a its logits. U and u are a 1×1 convolution. W has
  weights of its own for each pixel i, feature c and latent l. a and B are made once per batch; each z then costs one
  product. −log p(x | z) is convex in z, so refinement has one optimum.

  Under q = N(μ, diag σ²) the logit of a pixel is Gaussian, with mean a_i + B_i · μ and variance Σ_l B_il² σ_l². So
  E_q[log p(x | z)] is a sum of one-dimensional integrals, which Gauss-Hermite quadrature gives without draws:
  `expected_log_prob`.

  The head computes in the variables' precision, also where the convolutions do not.

  Source: van den Oord et al. (2016), for the convolutions. Values of log p(x | z) are nats.

  Args:
    latent_dim: size of z; 0 makes the plain PixelCNN.
    channels, kernel_sizes, image_shape, dropout, position_maps: as of `GatedPixelCNN`.
    head_channels: features of the head; default: `channels`.
    quadrature_nodes: of `expected_log_prob`.
    seed: of the initial weights.
    **kwargs: `name`, `dtype`, … of `keras.layers.Layer`.

  Raises:
    UserError: a size that is out of range.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import LatePixelCNN
    >>> decoder = LatePixelCNN(latent_dim=2, channels=4, kernel_sizes=(3, 3), image_shape=(8, 8, 1))
    >>> x, z = tf.zeros([3, 8, 8, 1]), tf.zeros([3, 2])
    >>> decoder.log_prob(x, z, decoder.precompute(x)).shape  # nats
    TensorShape([3])
  """

  support = BINARY

  def __init__(
    self,
    latent_dim: int = 32,
    channels: int = 32,
    kernel_sizes: Sequence[int] = (9, 9, 9, 7, 7, 7, 5, 5, 5, 3, 3, 3),
    image_shape: Sequence[int] = (28, 28, 1),
    dropout: float = 0.0,
    *,
    position_maps: int = 4,
    head_channels: int | None = None,
    quadrature_nodes: int = 5,
    seed: int = 0,
    **kwargs: Any,
  ):
    super().__init__(**kwargs)
    check(latent_dim >= 0, "latent_dim must not be negative", latent_dim, "give the size of z, 0 for none")
    check(quadrature_nodes >= 2, "quadrature_nodes must be at least 2", quadrature_nodes, "such as 5")
    head_channels = channels if head_channels is None else head_channels
    check(head_channels >= 1, "head_channels must be positive", head_channels, "give at least 1")
    self.latent_dim, self.head_channels, self.quadrature_nodes = latent_dim, head_channels, quadrature_nodes
    self.seed, self.image_shape = seed, tuple(image_shape)
    self.trunk = GatedPixelCNN(
      0,
      channels,
      kernel_sizes,
      image_shape=image_shape,
      dropout=dropout,
      position_maps=position_maps,
      seed=seed,
      dtype=self.dtype_policy,
      name="trunk",
    )
    if latent_dim:
      self._make_head(channels)
    self.built = True

  def _make_head(self, channels: int) -> None:
    inputs = self.head_channels + 1
    scale = _HEAD_SCALE / (inputs * self.latent_dim) ** 0.5
    height, width, _ = self.image_shape
    self.head_kernel = self.add_weight(
      shape=(channels, self.head_channels), initializer=next(glorot_stream(self.seed + 1)), name="head_kernel"
    )
    self.head_bias = self.add_weight(shape=(self.head_channels,), initializer="zeros", name="head_bias")
    self.head_latent = self.add_weight(
      shape=(height * width, inputs, self.latent_dim),
      initializer=next(uniform_stream(self.seed + 2, scale)),
      name="head_latent",
    )

  def precompute(
    self, x: tf.Tensor, training: bool = False, seed: tf.Tensor | None = None
  ) -> tuple[tf.Tensor, ...]:
    """All but z's part, of the variables' dtype, pixels in raster order.

    Args:
      x: images in {0, 1}, `[batch, height, width, 1]`.
      training: whether to draw a dropout mask.
      seed: of the mask, `[2]` int32.

    Returns:
      a `[batch, pixels]`; with a latent also B and B², each `[batch, latent, pixels]`.

    Raises:
      UserError: images of another size, or a mask to draw and no seed.
    """
    trunk = self.trunk
    features = trunk.features(None, trunk.precompute(x, training, seed))
    rows = transpose(tf.cast(features, self.variable_dtype), [2, 0, 1, 3])  # [height, width, batch, channels]
    rows = tf.reshape(rows, [self._num_pixels, -1, trunk.channels])
    logits = _affine(rows, trunk.logit_kernel[0, 0], trunk.logit_bias)[..., 0]
    logits = transpose(logits, [1, 0])
    if not self.latent_dim:
      return (logits,)
    slopes = transpose(tf.matmul(self._head_features(rows), self.head_latent), [1, 2, 0])
    return logits, slopes, tf.square(slopes)

  @property
  def _num_pixels(self) -> int:
    return self.image_shape[0] * self.image_shape[1]

  def _head_features(self, features: tf.Tensor) -> tf.Tensor:
    """[1, tanh(F U + u)], `[…, batch, head channels + 1]`, of features `[…, batch, channels]`."""
    hidden = tf.tanh(_affine(features, self.head_kernel, self.head_bias))
    return tf.concat([tf.ones_like(hidden[..., :1]), hidden], axis=-1)

  def _flat(self, x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tf.cast(x, self.variable_dtype), [-1, self._num_pixels])

  def log_prob(self, x: tf.Tensor, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """log p_θ(x | z) in nats, `[batch]`: one Bernoulli per pixel. See `Decoder.log_prob`."""
    return tf.reduce_sum(self._flat_log_prob(x, z, context), axis=-1)

  def log_prob_of_parts(self, x: tf.Tensor, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """log p_θ of each pixel given z and the pixels before it, `[batch, height, width, 1]`."""
    return tf.reshape(self._flat_log_prob(x, z, context), [-1, *self.image_shape])

  def _flat_log_prob(self, x, z, context):
    logits = self._flat_logits(z, context)
    return self._flat(x) * logits - tf.nn.softplus(logits)

  def log_prob_derivative(
    self, x: tf.Tensor, z: tf.Tensor, dz: tf.Tensor, context: tuple[tf.Tensor, ...]
  ) -> tf.Tensor:
    """⟨dz, ∇_z log p_θ(x | z)⟩ = Σ_i (x_i − σ(logit_i)) B_i · dz, `[batch]`."""
    along_z, along_dz = _products(z, dz, context[1])
    return tf.reduce_sum((self._flat(x) - tf.sigmoid(context[0] + along_z)) * along_dz, axis=-1)

  def expected_log_prob(
    self, x: tf.Tensor, params: GaussianParams, context: tuple[tf.Tensor, ...]
  ) -> tf.Tensor:
    """E_q[log p_θ(x | z)], z ~ N(μ, diag σ²), `[batch]`, nats, by quadrature over each pixel's logit."""
    return tf.reduce_sum(self._flat_expected(x, params, context), axis=-1)

  def expected_log_prob_of_parts(
    self, x: tf.Tensor, params: GaussianParams, context: tuple[tf.Tensor, ...]
  ) -> tf.Tensor:
    """The same of each pixel given the pixels before it, `[batch, height, width, 1]`."""
    return tf.reshape(self._flat_expected(x, params, context), [-1, *self.image_shape])

  def _flat_expected(self, x, params, context):
    mean, variance = self._moments(params, context)
    return self._flat(x) * mean - expected_softplus(mean, variance, self.quadrature_nodes)

  def expected_log_prob_derivative(
    self, x: tf.Tensor, params: GaussianParams, tangent: GaussianParams, context: tuple[tf.Tensor, ...]
  ) -> tf.Tensor:
    """The derivative of `expected_log_prob` along `tangent` in λ = (μ, log σ²), `[batch]`."""
    logits, slopes, squares = context
    variance_of_z = tf.exp(params.log_var)
    mean, d_mean = _products(params.mean, tangent.mean, slopes)
    variance, d_variance = _products(variance_of_z, variance_of_z * tangent.log_var, squares)
    by_mean, by_variance = expected_softplus_gradient(logits + mean, variance, self.quadrature_nodes)
    return tf.reduce_sum((self._flat(x) - by_mean) * d_mean - by_variance * d_variance, axis=-1)

  def _moments(self, params, context):
    """Mean and variance of each pixel's logit under q, `[batch, pixels]`."""
    logits, slopes, squares = context
    return logits + _product(params.mean, slopes), _product(tf.exp(params.log_var), squares)

  def _flat_logits(self, z, context):
    return context[0] + _product(z, context[1]) if self.latent_dim else context[0]

  def logits(self, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """Logits of all pixels, `[batch, height, width, 1]`, of the variables' dtype."""
    if z is not None:
      z = tf.cast(z, self.variable_dtype)
    return tf.reshape(self._flat_logits(z, context), [-1, *self.image_shape])

  def sample(
    self, z: tf.Tensor | None, seed: tf.Tensor, num: int | None = None, progress: bool = False
  ) -> tf.Tensor:
    """Ancestral samples x ~ p_θ(x | z), `[batch, height, width, 1]` in {0, 1}. See `Decoder.sample`."""
    return self._draw(z, num, seed, progress)[0]

  def decode(self, z: tf.Tensor | None) -> tf.Tensor:
    """Pixel probabilities `[batch, height, width, 1]`, the pixels before each at their likelier value."""
    return tf.sigmoid(self._draw(z, 1, None, False)[1])

  def complete(
    self, x: tf.Tensor, mask: tf.Tensor, z: tf.Tensor | None, seed: tf.Tensor, progress: bool = False
  ) -> tf.Tensor:
    """x whose pixels with mask 0 are drawn in raster order; see `GatedPixelCNN.complete`."""
    known = pixelcnn_sampling.Known(tf.cast(x, self.variable_dtype), tf.cast(mask, self.variable_dtype))
    return self._draw(z, tf.shape(x)[0], seed, progress, known)[0]

  def _draw(self, z, num, seed, progress, known=None):
    z, num = latent_rows(z, num, self.latent_dim, self.variable_dtype)
    seed = None if seed is None else tf.convert_to_tensor(seed, tf.int32)
    head = self if self.latent_dim else None
    return pixelcnn_sampling.draw(self.trunk, z, num, seed, progress, head, known)

  def pixel_weights(self, z: tf.Tensor) -> tf.Tensor:
    """Σ_l W_icl z_l, `[height, width, batch, head channels + 1]`. See `pixelcnn_sampling.Head`."""
    weights = tf.einsum("icl,bl->ibc", tf.convert_to_tensor(self.head_latent), z)
    return tf.reshape(weights, [*self.image_shape[:2], -1, self.head_channels + 1])

  def pixel_logit(self, features: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """B_i · z of one pixel, `[batch]`. See `pixelcnn_sampling.Head`."""
    return tf.reduce_sum(self._head_features(tf.cast(features, self.variable_dtype)) * weights, axis=-1)

  def call(self, x: tf.Tensor, z: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
    """Logits of p(x_i | x_<i, z), `[batch, height, width, 1]`; without dropout."""
    return self.logits(z, self.precompute(x))

  def get_config(self):
    trunk = self.trunk
    return {
      **super().get_config(),
      "latent_dim": self.latent_dim,
      "channels": trunk.channels,
      "kernel_sizes": list(trunk.kernel_sizes),
      "image_shape": list(self.image_shape),
      "dropout": trunk.dropout,
      "position_maps": trunk.position_maps,
      "head_channels": self.head_channels,
      "quadrature_nodes": self.quadrature_nodes,
      "seed": self.seed,
    }


def _affine(x, kernel, bias):
  return tf.matmul(x, tf.convert_to_tensor(kernel)) + tf.convert_to_tensor(bias)


def _product(z: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
  """z `[batch, latent]` times `matrix` `[batch, latent, pixels]`: `[batch, pixels]`."""
  return tf.matmul(z[:, tf.newaxis], matrix)[:, 0]


@custom_gradient
def _products(z: tf.Tensor, dz: tf.Tensor, matrix: tf.Tensor):
  """`_product` of z and of dz. The gradient for the matrix is one product of two rows, not a sum of two of one."""

  def gradient(*upstream):
    of_z, of_dz = (tf.matmul(u[:, tf.newaxis], matrix, transpose_b=True)[:, 0] for u in upstream)
    rows, columns = tf.stack([z, dz], axis=1), tf.stack(upstream, axis=1)
    return of_z, of_dz, tf.matmul(rows, columns, transpose_a=True)

  return (_product(z, matrix), _product(dz, matrix)), gradient


def for_data(
  data: Any,
  latent_dim: int,
  *,
  decoder_channels: int,
  decoder_kernels: Sequence[int],
  position_maps: int,
  quadrature_nodes: int,
  dropout: float,
  **common: Any,
) -> LatePixelCNN:
  """The decoder for binary images; see `tf_savae.networks.Network`."""
  check_binary(data, "late_pixelcnn")
  return LatePixelCNN(
    latent_dim,
    decoder_channels,
    decoder_kernels,
    data.image_shape,
    dropout,
    position_maps=position_maps,
    quadrature_nodes=quadrature_nodes,
    **common,
  )
