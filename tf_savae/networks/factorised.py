"""Decoders whose places are independent given z, with any likelihood."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_savae import likelihoods
from tf_savae.errors import UserError
from tf_savae.likelihoods import likelihood as likelihood_lib
from tf_savae.networks.checks import check, check_sizes, latent_rows
from tf_savae.networks.decoder import Decoder
from tf_savae.networks.noise import dropout_mask


class FactorisedDecoder(Decoder):
  """p_θ(x | z) = Π_i p(x_i | f_θ(z)_i) over places i: a network f from z to the parameters of a likelihood.

  Args:
    latent_dim: size of z; 0: f sees no z.
    event_shape: shape of one x, channels last.
    likelihood: name or object of `tf_savae.likelihoods`, or its configuration.
    dropout: share of the first hidden layer's units that is dropped in training.
    seed: of the initial weights.
  """

  def __init__(
    self,
    latent_dim: int,
    event_shape: Sequence[int],
    likelihood: Any = "bernoulli",
    *,
    dropout: float = 0.0,
    seed: int = 0,
    **kwargs: Any,
  ):
    super().__init__(**kwargs)
    check(latent_dim >= 0, "latent_dim must be 0 or more", latent_dim, "0 is a model without z")
    check_sizes(**{f"event_shape[{i}]": size for i, size in enumerate(event_shape)})
    self.latent_dim, self.event_shape = latent_dim, tuple(event_shape)
    if isinstance(likelihood, dict):
      likelihood = likelihood_lib.from_config(likelihood)
    self.likelihood: likelihoods.Likelihood = likelihood_lib.get(likelihood)
    self.dropout, self.seed = dropout, seed
    self.support = self.likelihood.support

  @property
  def image_shape(self) -> tuple[int, ...]:
    """Shape of one x; what serving asks for."""
    return self.event_shape

  @property
  def channels(self) -> int:
    """Channels of each place."""
    return self.event_shape[-1]

  @property
  def num_inputs(self) -> int:
    """Numbers that f sees: z, or a single 1 for a model without z."""
    return self.latent_dim or 1

  @property
  def num_parameters(self) -> int:
    """Numbers that the likelihood needs for each place."""
    return self.likelihood.num_parameters(self.channels)

  @property
  @abc.abstractmethod
  def first_units(self) -> int:
    """Units of the first hidden layer."""

  @abc.abstractmethod
  def parameters(self, inputs: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """f_θ: parameters of the likelihood `[batch, *places, num_parameters]`.

    Args:
      inputs: z, or 1 for a model without z, `[batch, num_inputs]`, in the dtype of the arithmetic.
      mask: of the first hidden layer `[batch, first_units]`; None: nothing is dropped.
    """

  def precompute(self, x: tf.Tensor, training: bool = False, seed: tf.Tensor | None = None) -> tuple:
    if not (training and self.dropout):
      return ()
    return (dropout_mask([tf.shape(x)[0], self.first_units], self.dropout, seed, self.compute_dtype),)

  def log_prob(self, x: tf.Tensor, z: tf.Tensor | None, context: tuple) -> tf.Tensor:
    return self.likelihood.log_prob(x, self._of(z, tf.shape(x)[0], *context))

  def log_prob_of_parts(self, x: tf.Tensor, z: tf.Tensor | None, context: tuple) -> tf.Tensor:
    """log p of each number of x or, where the channels depend on each other, of each place, `[batch, *places, …]`."""
    return self.likelihood.log_prob_of_parts(x, self._of(z, tf.shape(x)[0], *context))

  @property
  def couples_channels(self) -> bool:
    """Whether the channels of a place depend on each other."""
    return self.likelihood.couples_channels

  def sample(
    self, z: tf.Tensor | None, seed: tf.Tensor, num: int | None = None, progress: bool = False
  ) -> tf.Tensor:
    """x drawn from p_θ(x | z), `[batch, *event_shape]`, all places at once; see `Decoder.sample`."""
    del progress
    return self.likelihood.sample(self._of_rows(z, num), self.channels, seed)

  def decode(self, z: tf.Tensor | None) -> tf.Tensor:
    """E[x | z], `[batch, *event_shape]`."""
    return self.likelihood.mean(self._of_rows(z, 1), self.channels)

  def call(self, x: tf.Tensor, z: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
    """Parameters of the likelihood of x given z, `[batch, *places, num_parameters]`; without dropout."""
    return self._of(z, tf.shape(x)[0])

  def _of_rows(self, z, num):
    return self._of(*latent_rows(z, num, self.latent_dim, self.variable_dtype))

  def _of(self, z, num, mask=None):
    inputs = tf.ones([num, 1], self.compute_dtype) if z is None else self.cast(z)
    # The likelihood keeps full precision, whatever the network computes in.
    return tf.cast(self.parameters(inputs, mask), self.variable_dtype)

  def get_config(self):
    return {
      **super().get_config(),
      "latent_dim": self.latent_dim,
      "event_shape": list(self.event_shape),
      "likelihood": likelihood_lib.to_config(self.likelihood),
      "dropout": self.dropout,
      "seed": self.seed,
    }


def build_chain(layers: Sequence[keras.layers.Layer], shape: Sequence[int | None]) -> None:
  """Makes the variables of layers that follow each other, of which the first sees inputs of `shape`."""
  for layer in layers:
    layer.build(tuple(shape))
    shape = layer.compute_output_shape(tuple(shape))


def likelihood_for(
  data: Any, likelihood: str, likelihood_scale: float | None, mixture_components: int
) -> likelihoods.Likelihood:
  """The likelihood of a run's settings for the images of `data`.

  Args:
    data: a data set; its `pixels` say whether images are "binary" or have "levels".
    likelihood: a name; "auto": bernoulli for binary images, and logistic_mixture for others.
    likelihood_scale: σ of a Gaussian; None: learned.
    mixture_components: of a logistic mixture.

  Raises:
    UserError: the likelihood is not one of such images.
  """
  levels = getattr(data, "pixels", "binary") == "levels"
  if likelihood == "auto":
    likelihood = "logistic_mixture" if levels else "bernoulli"
  if likelihood == "bernoulli" and levels:
    raise UserError(
      f"--likelihood=bernoulli is of binary images; {data.name} has grey values or colour; use"
      " --likelihood=logistic_mixture, or binary images"
    )
  settings = {"scale": likelihood_scale, "components": mixture_components, "unit": 255.0}
  return likelihood_lib.get(likelihood, **settings)
