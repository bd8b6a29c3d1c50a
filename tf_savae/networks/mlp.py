"""A decoder of dense layers, for observations of any shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_savae.networks.checks import check
from tf_savae.networks.factorised import FactorisedDecoder, build_chain, likelihood_for
from tf_savae.networks.initial_weights import glorot_stream
from tf_savae.ops.owned_gradients import swish


@keras.saving.register_keras_serializable(package="tf_savae")
class MLPDecoder(FactorisedDecoder):
  """Dense layers with swish activations from z to the parameters of every place.

  Args:
    latent_dim, event_shape, likelihood, dropout, seed: see `FactorisedDecoder`; the last dimension of
      `event_shape` counts as channels.
    units: of each hidden layer.
    **kwargs: those of `keras.layers.Layer`.

  Raises:
    UserError: a size that is not positive, or no hidden layer.

  Source: Kingma and Welling (2014), whose decoders are of this kind.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import MLPDecoder
    >>> decoder = MLPDecoder(latent_dim=2, event_shape=(10,), units=(8,))
    >>> x, z = tf.zeros([3, 10]), tf.zeros([3, 2])
    >>> decoder.log_prob(x, z, decoder.precompute(x)).shape  # nats
    TensorShape([3])
  """

  def __init__(
    self,
    latent_dim: int,
    event_shape: Sequence[int],
    likelihood: Any = "bernoulli",
    *,
    units: Sequence[int] = (512, 512),
    **kwargs: Any,
  ):
    super().__init__(latent_dim, event_shape, likelihood, **kwargs)
    valid = len(units) > 0 and min(units) >= 1
    check(valid, "units must be positive numbers", units, "give one for each hidden layer")
    self.units = tuple(units)
    init = glorot_stream(self.seed)
    outputs = math.prod(self.event_shape[:-1]) * self.num_parameters
    *self.hidden, self.last = (
      keras.layers.Dense(size, kernel_initializer=next(init), dtype=self.dtype_policy)
      for size in (*self.units, outputs)
    )
    build_chain([*self.hidden, self.last], [None, self.num_inputs])

  @property
  def first_units(self) -> int:
    return self.units[0]

  def parameters(self, inputs, mask):
    h = inputs
    for i, layer in enumerate(self.hidden):
      h = swish(layer(h))
      if mask is not None and i == 0:
        h *= self.cast(mask)
    return tf.reshape(self.last(h), [-1, *self.event_shape[:-1], self.num_parameters])

  def get_config(self):
    return {**super().get_config(), "units": list(self.units)}


def for_data(
  data: Any,
  latent_dim: int,
  *,
  mlp_units: Sequence[int],
  dropout: float,
  likelihood: str,
  likelihood_scale: float | None,
  mixture_components: int,
  **common: Any,
) -> MLPDecoder:
  """The decoder for images; see `tf_savae.networks.Network`."""
  chosen = likelihood_for(data, likelihood, likelihood_scale, mixture_components)
  return MLPDecoder(
    latent_dim,
    data.image_shape,
    chosen,
    units=mlp_units,
    dropout=dropout,
    **common,
  )
