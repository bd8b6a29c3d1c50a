"""The paper's gated PixelCNN decoder: p(x | z) = Π_i p(x_i | x_<i, z), pixels in raster order."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_savae import likelihoods
from tf_savae.likelihoods import likelihood as likelihood_lib
from tf_savae.networks import pixelcnn_sampling
from tf_savae.networks.checks import check, latent_rows
from tf_savae.networks.decoder import Decoder
from tf_savae.networks.factorised import likelihood_for
from tf_savae.networks.initial_weights import glorot_stream
from tf_savae.networks.noise import dropout_mask
from tf_savae.ops import columns
from tf_savae.ops.gate import gate
from tf_savae.ops.transposition import transpose


@keras.saving.register_keras_serializable(package="tf_savae")
class GatedPixelCNN(Decoder):
  """Gated PixelCNN over images, conditioned on z by feature maps beside the image.

  A linear layer turns z into `latent_maps` maps of the image's size, which enter the first layer beside the
  image. Each layer has a vertical and a horizontal stack. At row i the vertical stack sees only the rows above i.
  The horizontal stack sees row i up to its own column (in the first layer: strictly left), and the vertical stack
  through a 1×1 convolution. Both are gated, tanh(a) · σ(b), without batch normalisation; the horizontal stack is
  residual from the second layer on.

  Causality needs no masked weights. Kernels hold only the causal part of a k×k window: k//2 + 1 rows above
  (vertical), k//2 + 1 columns to the left (horizontal). Padding at the top and the left puts them in place,
  and "strictly" is one more row or column of padding, with the last row or column dropped. So every layer's
  vertical map is moved down by a row of zeros, and the first horizontal map right by a column, biases
  included. The code leaves that row of zeros out: row r of a vertical map belongs to row r + 1 of the image.
  Within the network maps lie column by column, as `tf_savae.ops.columns` wants them.

  Position maps are maps beside the image that depend on nothing, so that a pixel knows where it is. The bias of z's
  maps is of that kind: a PixelCNN without z and without them lacks more than z, and a comparison with one that has a z
  then says little about z. The original code has none for its row without z (`train_img.py` sets
  `latent_feature_map = 0`), nor has `--preset=paper`.

  A pixel's likelihood may be any of `tf_savae.likelihoods`, with as many channels as the image has. The network then
  gives its parameters, from the pixels before. With a logistic mixture the channels of a pixel depend on each other as
  in Salimans et al., *PixelCNN++*, 2017. Binary images enter the network as they are, and others as 2x − 1.

  Follows van den Oord et al., *Conditional Image Generation with PixelCNN Decoders*, 2016, with the choices
  of Kim et al., *Semi-Amortized Variational Autoencoders*, 2018.

  Args:
    latent_dim: size of z; 0 makes a plain PixelCNN.
    channels: channels of the stacks.
    kernel_sizes: k of each layer, odd.
    latent_maps: feature maps made of z.
    image_shape: (height, width, channels).
    dropout: rate of dropout on the last features, before the 1×1 convolution to the logits.
    position_maps: number of position maps; 0 for none.
    likelihood: of a pixel: a name or object of `tf_savae.likelihoods`, or its configuration.
    seed: of the initial weights.
    **kwargs: `name`, `dtype`, … of `keras.layers.Layer`.

  Raises:
    UserError: a size that is out of range.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import GatedPixelCNN
    >>> decoder = GatedPixelCNN(latent_dim=2, channels=4, kernel_sizes=(3, 3), image_shape=(8, 8, 1))
    >>> x, z = tf.zeros([3, 8, 8, 1]), tf.zeros([3, 2])
    >>> decoder.log_prob(x, z, decoder.precompute(x)).shape  # nats
    TensorShape([3])
    >>> decoder.sample(z, seed=[0, 1]).shape
    TensorShape([3, 8, 8, 1])
  """

  def __init__(
    self,
    latent_dim: int = 32,
    channels: int = 32,
    kernel_sizes: Sequence[int] = (9, 9, 9, 7, 7, 7, 5, 5, 5, 3, 3, 3),
    latent_maps: int = 4,
    image_shape: Sequence[int] = (28, 28, 1),
    dropout: float = 0.0,
    *,
    position_maps: int = 0,
    likelihood: Any = "bernoulli",
    seed: int = 0,
    **kwargs,
  ):
    super().__init__(**kwargs)
    check(position_maps >= 0, "position_maps must not be negative", position_maps, "give 0 for none")
    check(latent_dim >= 0, "latent_dim must not be negative", latent_dim, "give the size of z, 0 for none")
    check(
      min(channels, latent_maps) >= 1,
      "channels and latent_maps must be positive",
      (channels, latent_maps),
      "give at least 1",
    )
    check(
      len(kernel_sizes) > 0 and all(k >= 1 and k % 2 == 1 for k in kernel_sizes),
      "kernel_sizes must be odd positive numbers",
      tuple(kernel_sizes),
      "give one for each layer, such as (9, 7, 5, 3)",
    )
    if isinstance(likelihood, dict):
      likelihood = likelihood_lib.from_config(likelihood)
    self.likelihood: likelihoods.Likelihood = likelihood_lib.get(likelihood)
    self.support = self.likelihood.support
    self._is_binary = isinstance(self.likelihood, likelihoods.Bernoulli)
    channels_wanted = "1" if self._is_binary else "channels"
    check(
      len(image_shape) == 3 and min(image_shape[:2]) >= 2 and image_shape[2] >= 1,
      f"image_shape must be (height, width, {channels_wanted})",
      tuple(image_shape),
      "give images of at least 2x2 pixels",
    )
    check(
      image_shape[2] == 1 or not self._is_binary,
      f"image_shape must be (height, width, {channels_wanted})",
      tuple(image_shape),
      "give images of one channel, or another likelihood, such as logistic_mixture",
    )
    check(0.0 <= dropout < 1.0, "dropout must be in [0, 1)", dropout, "give a rate such as 0.5")
    self.latent_dim = latent_dim
    self.channels = channels
    self.kernel_sizes = tuple(kernel_sizes)
    self.latent_maps = latent_maps
    self.image_shape = tuple(image_shape)
    self.dropout = dropout
    self.position_maps = position_maps
    self.seed = seed
    self._make_weights()
    self.built = True

  def _make_weights(self) -> None:
    # All sizes are known, and log_prob is called without __call__: so the weights exist from the beginning.
    init = glorot_stream(self.seed)
    c, maps = self.channels, self.latent_maps
    height, width, image_channels = self.image_shape

    def kernel(name, *shape):
      return self.add_weight(shape=shape, initializer=next(init), name=name)

    def bias(name, *shape):
      return self.add_weight(shape=shape, initializer="zeros", name=name)

    if self.latent_dim:
      self.latent_kernel = kernel("latent_kernel", self.latent_dim, height * width * maps)
      self.latent_bias = bias("latent_bias", height * width * maps)
    first = self.kernel_sizes[0]
    reach = first // 2 + 1
    if self.latent_dim:
      self.vertical_latent = kernel("vertical_latent", reach, first, maps, 2 * c)
      self.horizontal_latent = kernel("horizontal_latent", 1, reach, maps, 2 * c)
    self.vertical, self.vertical_bias = [], []
    self.horizontal, self.horizontal_bias = [], []
    self.across, self.across_bias = [], []
    self.out, self.out_bias = [], []
    for i, k in enumerate(self.kernel_sizes):
      reach, width_in = k // 2 + 1, c if i else image_channels
      self.vertical.append(kernel(f"vertical_{i}", reach, k, width_in, 2 * c))
      self.vertical_bias.append(bias(f"vertical_bias_{i}", 2 * c))
      self.horizontal.append(kernel(f"horizontal_{i}", 1, reach, width_in, 2 * c))
      self.horizontal_bias.append(bias(f"horizontal_bias_{i}", 2 * c))
      self.across.append(kernel(f"across_{i}", 1, 1, 2 * c, 2 * c))
      self.across_bias.append(bias(f"across_bias_{i}", 2 * c))
      self.out.append(kernel(f"out_{i}", 1, 1, c, c))
      self.out_bias.append(bias(f"out_bias_{i}", c))
    outputs = self.likelihood.num_parameters(image_channels)
    self.logit_kernel = kernel("logit_kernel", 1, 1, c, outputs)
    self.logit_bias = bias("logit_bias", outputs)
    if self.position_maps:
      # Zeros, as the bias of z's maps.
      self.position_map = bias("position_map", height * width * self.position_maps)
      self.vertical_position = kernel("vertical_position", first // 2 + 1, first, self.position_maps, 2 * c)
      self.horizontal_position = kernel("horizontal_position", 1, first // 2 + 1, self.position_maps, 2 * c)

  def precompute(
    self, x: tf.Tensor, training: bool = False, seed: tf.Tensor | None = None
  ) -> tuple[tf.Tensor, ...]:
    """The image half of the first layer, biases included, what z is multiplied with, and the dropout mask.

    Args:
      x: images `[batch, height, width, channels]`.
      training: whether to draw a dropout mask.
      seed: of the mask, `[2]` int32.

    Returns:
      `(vertical, horizontal, latent weights, mask)`. Their shapes are `[batch, width, height - 1, 2 channels]`,
      `[batch, width, height, 2 channels]`, that of `latent_map`, and `[batch, width, height, channels]`. The third
      exists only with a latent, the fourth only with dropout in training mode.

    Raises:
      UserError: images of another size, or a mask to draw and no seed.
    """
    x = self.cast(x)
    check(
      x.shape.is_compatible_with([None, *self.image_shape]),
      f"this PixelCNN takes images [batch, {', '.join(map(str, self.image_shape))}]",
      tuple(x.shape),
      "set image_shape to that of the data",
    )
    x = self.as_input(tf.ensure_shape(x, [None, *self.image_shape]))
    x = transpose(x, [2, 0, 1, 3])
    vertical = self._first_vertical(x, self.vertical[0]) + self.cast(self.vertical_bias[0])
    horizontal = columns.look_left(columns.without_last(x), self.cast(self.horizontal[0]))
    horizontal = columns.shifted(horizontal + self.cast(self.horizontal_bias[0]))
    horizontal += self.cast(self.across_bias[0])
    context = [_batch_first(vertical), _batch_first(horizontal)]
    if self.position_maps:
      context = _sum(context, self.position_half())
    if self.latent_dim:
      weights, biases = self.latent_map()
      context = [*_sum(context, biases), weights]
    if training and self.dropout:
      height, width, _ = self.image_shape
      shape = [tf.shape(x)[1], width, height, self.channels]
      context.append(dropout_mask(shape, self.dropout, seed, self.compute_dtype))
    return tuple(context)

  def log_prob(self, x: tf.Tensor, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """log p_θ(x | z) in nats, `[batch]`. See `Decoder.log_prob`."""
    return tf.reduce_sum(self.log_prob_of_parts(x, z, context), axis=[1, 2, 3])

  def log_prob_of_parts(self, x: tf.Tensor, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """log p_θ of each pixel given z and the pixels before it, `[batch, height, width, …]`.

    The last axis has size 1, or that of the channels if these do not depend on each other.
    """
    return self.likelihood.log_prob_of_parts(x, self.logits(z, context))

  @property
  def couples_channels(self) -> bool:
    """Whether the channels of a pixel depend on each other."""
    return self.likelihood.couples_channels

  def as_input(self, x: tf.Tensor) -> tf.Tensor:
    """Images as the first layer sees them."""
    return x if self._is_binary else 2.0 * x - 1.0

  def logits(self, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """The likelihood's parameters of all pixels, `[batch, height, width, n]`, of the variables' dtype.

    For binary images these are logits, and n is 1.

    Args:
      z: `[batch, latent]`; None for a plain PixelCNN.
      context: what `precompute` returned; it holds the image.
    """
    logits = self._plus(
      columns.each(self.features(z, context), self.cast(self.logit_kernel)), self.logit_bias
    )
    logits = transpose(logits, [1, 2, 0, 3])
    return tf.cast(logits, self.variable_dtype)

  def features(self, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """The last features, of which the logits are made, `[width, batch, height, channels]`, of `compute_dtype`."""
    vertical, horizontal, *rest = map(self.cast, context)
    if self.latent_dim:
      weights, *rest = rest
      from_latent = self._latent_half(z, weights)
      vertical += from_latent[0]
      horizontal += from_latent[1]
    vertical, horizontal, *rest = map(_width_first, (vertical, horizontal, *rest))
    h = v = None
    for i in range(len(self.kernel_sizes)):
      if i:
        vertical = columns.look_above(v, self.cast(self.vertical[i])) + self.cast(self.vertical_bias[i])
        horizontal = columns.look_left(h, self.cast(self.horizontal[i]))
      # The bias comes after this sum: TensorFlow 2.21's graph optimiser crashes on BiasAdd(Conv2D) + Pad.
      horizontal += _down(columns.each(vertical, self.cast(self.across[i])))
      if i:
        horizontal += self.cast(self.horizontal_bias[i]) + self.cast(self.across_bias[i])
      v = gate(vertical)
      o = self._plus(columns.each(gate(horizontal), self.cast(self.out[i])), self.out_bias[i])
      h = o if i == 0 else h + o
    if rest:  # the dropout mask
      h *= rest[0]
    return h

  def latent_map(self) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    """The contribution of z to the first layer, as one linear map.

    z enters through a linear layer and a convolution with nothing in between. Their product depends on weights only,
    so it is made once for all refinement steps, by convolving the maps of each unit vector; z then costs one matrix
    product. Done as a convolution instead, the derivative with respect to the few maps is oneDNN's slowest.

    Returns:
      Weights `[latent, width · (2 height - 1) · 2 channels]`, vertical before horizontal. The part of the biases is
      `[1, width, height - 1, 2 channels]` and `[1, width, height, 2 channels]`.
    """
    maps = tf.concat([self.cast(self.latent_kernel), self.cast(self.latent_bias)[None]], axis=0)
    halves = self._of_maps(maps, self.vertical_latent, self.horizontal_latent)
    weights, biases = zip(*(tf.split(half, [self.latent_dim, 1]) for half in halves), strict=True)
    return tf.concat([tf.reshape(half, [self.latent_dim, -1]) for half in weights], axis=1), biases

  def position_half(self) -> tuple[tf.Tensor, tf.Tensor]:
    """The contribution of the position maps to the first layer's `(vertical, horizontal)` map, for a batch of 1."""
    maps = self.cast(self.position_map)[None]
    return self._of_maps(maps, self.vertical_position, self.horizontal_position)

  def _of_maps(self, maps: tf.Tensor, vertical, horizontal) -> tuple[tf.Tensor, tf.Tensor]:
    """What flat maps `[n, height · width · maps]` beside the image add to the first layer, by these kernels."""
    maps = tf.reshape(maps, [-1, *self.image_shape[:2], vertical.shape[2]])
    maps = transpose(maps, [2, 0, 1, 3])
    above = self._first_vertical(maps, vertical)
    left = columns.look_left(columns.without_last(maps), self.cast(horizontal))
    return _batch_first(above), _batch_first(columns.shifted(left))

  def _first_vertical(self, x: tf.Tensor, kernel) -> tf.Tensor:
    """What row 1 and those below it see above them, `[width, batch, height - 1, 2 channels]`."""
    # tf.slice, because the gradient kernel of […, 1:] is slow.
    return tf.slice(columns.look_above(x, self.cast(kernel)), [0, 0, 1, 0], [-1] * 4)

  def _latent_half(self, z: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What z adds to the first layer's `(vertical, horizontal)` map, but for the biases."""
    height, width, _ = self.image_shape
    flat = tf.matmul(self.cast(z), weights)
    column = width * 2 * self.channels
    vertical = tf.slice(flat, [0, 0], [-1, (height - 1) * column])
    horizontal = tf.slice(flat, [0, (height - 1) * column], [-1, height * column])
    return (
      tf.reshape(vertical, [-1, width, height - 1, 2 * self.channels]),
      tf.reshape(horizontal, [-1, width, height, 2 * self.channels]),
    )

  def beside_image(self, z: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor] | None:
    """What z's and the position maps add to the first layer's `(vertical, horizontal)` map; None without any.

    The batch is that of z, or 1.
    """
    halves = []
    if self.latent_dim:
      weights, biases = self.latent_map()
      halves += [self._latent_half(z, weights), biases]
    if self.position_maps:
      halves.append(self.position_half())
    return functools.reduce(_sum, halves) if halves else None

  def sample(
    self, z: tf.Tensor | None, seed: tf.Tensor, num: int | None = None, progress: bool = False
  ) -> tf.Tensor:
    """Ancestral samples x ~ p_θ(x | z), `[batch, height, width, channels]`. See `Decoder.sample`."""
    return self._draw(z, num, seed, progress)[0]

  def decode(self, z: tf.Tensor | None) -> tf.Tensor:
    """Each pixel's expected value, `[batch, height, width, channels]`.

    Of binary images it is the probability of a 1, where the pixels before have their likelier values. Of others the
    pixels before have their expected values.
    """
    return self._expected(self._draw(z, 1, None, False)[1])

  def complete(
    self, x: tf.Tensor, mask: tf.Tensor, z: tf.Tensor | None, seed: tf.Tensor, progress: bool = False
  ) -> tf.Tensor:
    """x whose pixels with mask 0 are drawn in raster order, each given z and all pixels before it.

    Args:
      x: images `[batch, height, width, channels]`; where the mask is 0 they may have any values.
      mask: 1 where x is kept, `[batch, height, width, 1]`, or for each channel.
      z, seed, progress: as for `sample`.
    """
    known = pixelcnn_sampling.Known(tf.cast(x, self.variable_dtype), tf.cast(mask, self.variable_dtype))
    return self._draw(z, tf.shape(x)[0], seed, progress, known)[0]

  def _draw(self, z, num, seed, progress, known=None):
    z, num = latent_rows(z, num, self.latent_dim, self.variable_dtype)
    seed = None if seed is None else tf.convert_to_tensor(seed, tf.int32)
    return pixelcnn_sampling.draw(self, z, num, seed, progress, known=known)

  def _expected(self, parameters):
    return self.likelihood.mean(parameters, self.image_shape[-1])

  def row_noise(self, seed: tf.Tensor, num: tf.Tensor) -> tf.Tensor:
    """What the pixels of a row are drawn with, `[width, …]`. See `pixelcnn_sampling.Network`."""
    width = self.image_shape[1]
    if not self._is_binary:
      return tf.stack([tf.random.experimental.stateless_fold_in(seed, i) for i in range(width)])
    return tf.cast(tf.random.stateless_uniform([width, num], seed), self.variable_dtype)

  def pixel_value(self, parameters: tf.Tensor, noise: tf.Tensor | None) -> tf.Tensor:
    """A pixel `[batch, channels]` of its parameters `[batch, n]`. See `pixelcnn_sampling.Network`."""
    if not self._is_binary:
      channels = self.image_shape[-1]
      if noise is None:
        return self.likelihood.mean(parameters, channels)
      return self.likelihood.sample(parameters, channels, noise)
    drawn = parameters > 0.0 if noise is None else noise[:, tf.newaxis] < tf.sigmoid(parameters)
    return tf.cast(drawn, self.variable_dtype)

  def call(self, x: tf.Tensor, z: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
    """The likelihood's parameters of p(x_i | x_<i, z), `[batch, height, width, n]`; without dropout."""
    return self.logits(z, self.precompute(x))

  def _plus(self, x: tf.Tensor, bias) -> tf.Tensor:
    # Use this only after a convolution, so that TensorFlow fuses the two gradients. By itself, the gradient is summed
    # in bfloat16, where a sum stops growing at 256 times its terms.
    return tf.nn.bias_add(x, self.cast(bias))

  def get_config(self):
    return {
      **super().get_config(),
      "latent_dim": self.latent_dim,
      "channels": self.channels,
      "kernel_sizes": list(self.kernel_sizes),
      "latent_maps": self.latent_maps,
      "image_shape": list(self.image_shape),
      "dropout": self.dropout,
      "position_maps": self.position_maps,
      "likelihood": likelihood_lib.to_config(self.likelihood),
      "seed": self.seed,
    }


def _width_first(x: tf.Tensor) -> tf.Tensor:
  return transpose(x, [1, 0, 2, 3])


_batch_first = _width_first  # the same exchange


def _sum(halves: Sequence[tf.Tensor], others: Sequence[tf.Tensor]) -> list[tf.Tensor]:
  return [half + other for half, other in zip(halves, others, strict=True)]


def _down(x: tf.Tensor) -> tf.Tensor:
  """A row of zeros at the top."""
  return tf.pad(x, [[0, 0], [0, 0], [1, 0], [0, 0]])


def for_data(
  data: Any,
  latent_dim: int,
  *,
  decoder_channels: int,
  decoder_kernels: Sequence[int],
  latent_maps: int,
  position_maps: int,
  dropout: float,
  likelihood: str,
  likelihood_scale: float | None,
  mixture_components: int,
  **common: Any,
) -> GatedPixelCNN:
  """The decoder for images; see `tf_savae.networks.Network`."""
  return GatedPixelCNN(
    latent_dim,
    channels=decoder_channels,
    kernel_sizes=decoder_kernels,
    latent_maps=latent_maps,
    image_shape=data.image_shape,
    dropout=dropout,
    position_maps=position_maps,
    likelihood=likelihood_for(data, likelihood, likelihood_scale, mixture_components),
    **common,
  )
