"""A plain convolutional decoder of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_savae.networks.checks import check, check_sizes
from tf_savae.networks.factorised import FactorisedDecoder, build_chain, likelihood_for
from tf_savae.networks.initial_weights import glorot_stream
from tf_savae.ops.owned_gradients import swish

_SMALLEST_SIDE = 8  # of the maps that a dense layer makes of z


@keras.saving.register_keras_serializable(package="tf_savae")
class ConvDecoder(FactorisedDecoder):
  """From z by a dense layer to small maps, which transposed convolutions double until they have the image's size.

  Maps of 8×8 or less become `channels` maps of the image's size; with each doubling the number of maps is halved.
  Activations are swish, x σ(x), whose second derivatives the refinement uses.

  Args:
    latent_dim, event_shape, likelihood, dropout, seed: see `FactorisedDecoder`; the event is an image
      `(height, width, channels)`.
    width: number of maps at the size of the image.
    **kwargs: those of `keras.layers.Layer`.

  Raises:
    UserError: a size that is not positive, or events that are no images.

  Source: Radford, Metz and Chintala (2016), for transposed convolutions from a dense layer.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import ConvDecoder
    >>> decoder = ConvDecoder(latent_dim=2, event_shape=(16, 16, 1), width=4)
    >>> x, z = tf.zeros([3, 16, 16, 1]), tf.zeros([3, 2])
    >>> decoder.log_prob(x, z, decoder.precompute(x)).shape  # nats
    TensorShape([3])
  """

  def __init__(
    self,
    latent_dim: int,
    event_shape: Sequence[int],
    likelihood: Any = "bernoulli",
    *,
    width: int = 32,
    **kwargs: Any,
  ):
    super().__init__(latent_dim, event_shape, likelihood, **kwargs)
    check(
      len(self.event_shape) == 3,
      "event_shape must be (height, width, channels)",
      self.event_shape,
      "MLPDecoder takes other shapes",
    )
    check_sizes(width=width)
    self.width = width
    doublings = max(0, math.ceil(math.log2(max(self.event_shape[:2]) / _SMALLEST_SIDE)))
    self.start_shape = (*(-(-side // 2**doublings) for side in self.event_shape[:2]), width * 2**doublings)
    init = glorot_stream(self.seed)

    def layer(kind, *sizes, **options):
      return kind(*sizes, kernel_initializer=next(init), dtype=self.dtype_policy, **options)

    image = {"padding": "same", "data_format": "channels_last"}
    self.first = layer(keras.layers.Dense, math.prod(self.start_shape))
    self.doubling = [
      layer(keras.layers.Conv2DTranspose, width * 2**i, 4, strides=2, **image)
      for i in reversed(range(doublings))
    ]
    self.last = layer(keras.layers.Conv2D, self.num_parameters, 3, **image)
    build_chain([self.first], [None, self.num_inputs])
    build_chain([*self.doubling, self.last], [None, *self.start_shape])

  @property
  def first_units(self) -> int:
    return math.prod(self.start_shape)

  def parameters(self, inputs, mask):
    h = swish(self.first(inputs))
    if mask is not None:
      h *= self.cast(mask)
    h = tf.reshape(h, [-1, *self.start_shape])
    for double in self.doubling:
      h = swish(double(h))
    height, width, _ = self.event_shape
    return self.last(h)[:, :height, :width]

  def get_config(self):
    return {**super().get_config(), "width": self.width}


def for_data(
  data: Any,
  latent_dim: int,
  *,
  decoder_channels: int,
  dropout: float,
  likelihood: str,
  likelihood_scale: float | None,
  mixture_components: int,
  **common: Any,
) -> ConvDecoder:
  """The decoder for images; see `tf_savae.networks.Network`."""
  chosen = likelihood_for(data, likelihood, likelihood_scale, mixture_components)
  return ConvDecoder(
    latent_dim,
    data.image_shape,
    chosen,
    width=decoder_channels,
    dropout=dropout,
    **common,
  )
