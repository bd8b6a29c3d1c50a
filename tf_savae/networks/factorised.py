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
from tf_savae.observations import LABEL, Conditional, part


class FactorisedDecoder(Decoder):
  """p_θ(x | z) = Π_i p(x_i | f_θ(z)_i) over places i: a network f from z to the parameters of a likelihood.

  With `num_labels` it is p_θ(x | z, c) for observations {"image": x, "label": c}: f also sees the label, and the
  likelihood covers the image alone.

  Args:
    latent_dim: size of z; 0: f sees no z.
    event_shape: shape of one x, channels last.
    likelihood: name or object of `tf_savae.likelihoods`, or its configuration.
    num_labels: how many labels c there are, numbered from 0; 0: there is no label.
    dropout: share of the first hidden layer's units that is dropped in training.
    observed, given: names of x and c among the parts of an observation.
    seed: of the initial weights.
  """

  def __init__(
    self,
    latent_dim: int,
    event_shape: Sequence[int],
    likelihood: Any = "bernoulli",
    *,
    num_labels: int = 0,
    dropout: float = 0.0,
    observed: Any = "image",
    given: Any = LABEL,
    seed: int = 0,
    **kwargs: Any,
  ):
    super().__init__(**kwargs)
    check(latent_dim >= 0, "latent_dim must be 0 or more", latent_dim, "0 is a model without z")
    check_sizes(**{f"event_shape[{i}]": size for i, size in enumerate(event_shape)})
    check(num_labels >= 0, "num_labels must be 0 or more", num_labels, "0 is a model without labels")
    self.latent_dim, self.event_shape = latent_dim, tuple(event_shape)
    if isinstance(likelihood, dict):
      likelihood = likelihood_lib.from_config(likelihood)
    self.likelihood: likelihoods.Likelihood = likelihood_lib.get(likelihood)
    self.num_labels, self.dropout, self.seed = num_labels, dropout, seed
    self.observed, self.given = observed, given

  @property
  def support(self):  # type: ignore[override] # a property in the place of a value
    own = self.likelihood.support
    return Conditional(own, self.observed, self.given, self.num_labels) if self.num_labels else own

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
    """Numbers that f sees: z and the label, one-hot; a single 1 where there is neither."""
    return self.latent_dim + self.num_labels or 1

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
      inputs: z and the label `[batch, num_inputs]`, in the dtype of the arithmetic.
      mask: of the first hidden layer `[batch, first_units]`; None: nothing is dropped.
    """

  def precompute(self, x: Any, training: bool = False, seed: tf.Tensor | None = None) -> tuple:
    context = []
    if self.num_labels:
      context.append(self._one_hot(part(x, self.given)))
    if training and self.dropout:
      shape = [tf.shape(self._of(x))[0], self.first_units]
      context.append(dropout_mask(shape, self.dropout, seed, self.compute_dtype))
    return tuple(context)

  def log_prob(self, x: Any, z: tf.Tensor | None, context: tuple) -> tf.Tensor:
    x = self._of(x)
    label, mask = self._parts(context)
    return self.likelihood.log_prob(x, self._parameters(z, label, tf.shape(x)[0], mask))

  def sample(
    self,
    z: tf.Tensor | None,
    seed: tf.Tensor,
    num: int | None = None,
    progress: bool = False,
    condition: Any = None,
  ) -> tf.Tensor:
    """x drawn from p_θ(x | z, c), `[batch, *event_shape]`; see `Decoder.sample`.

    Args:
      z, seed, num, progress: as for `Decoder.sample`.
      condition: labels c, `[batch]`; None: 0, 1, 2, … one after the other.
    """
    del progress  # all places at once
    return self.likelihood.sample(self._given_rows(z, num, condition), self.channels, seed)

  def decode(self, z: tf.Tensor | None, condition: Any = None) -> tf.Tensor:
    """E[x | z, c], `[batch, *event_shape]`; `condition` as for `sample`."""
    return self.likelihood.mean(self._given_rows(z, 1, condition), self.channels)

  def condition_of(self, x: Any) -> tf.Tensor | None:
    """What `sample` and `decode` take as the condition of observations x; None without labels."""
    return part(x, self.given) if self.num_labels else None

  def call(self, x: Any, z: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
    """Parameters of the likelihood of x given z, `[batch, *places, num_parameters]`; without dropout."""
    label, _ = self._parts(self.precompute(x))
    return self._parameters(z, label, tf.shape(self._of(x))[0], None)

  def _of(self, x):
    return part(x, self.observed) if self.num_labels else x

  def _one_hot(self, label):
    return tf.one_hot(tf.cast(label, tf.int32), self.num_labels, dtype=self.compute_dtype)

  def _parts(self, context):
    label = context[0] if self.num_labels else None
    return label, context[-1] if len(context) > bool(self.num_labels) else None

  def _given_rows(self, z, num, condition):
    z, num = latent_rows(z, num, self.latent_dim, self.variable_dtype)
    if condition is not None and not self.num_labels:
      raise UserError("this decoder has no labels: leave condition out")
    label = None
    if self.num_labels:
      label = self._one_hot(tf.range(num) % self.num_labels if condition is None else condition)
    return self._parameters(z, label, num, None)

  def _parameters(self, z, label, num, mask):
    parts = [self.cast(part) for part in (z, label) if part is not None]
    inputs = tf.concat(parts, axis=-1) if parts else tf.ones([num, 1], self.compute_dtype)
    # The likelihood keeps full precision, whatever the network computes in.
    return tf.cast(self.parameters(inputs, mask), self.variable_dtype)

  def get_config(self):
    return {
      **super().get_config(),
      "latent_dim": self.latent_dim,
      "event_shape": list(self.event_shape),
      "likelihood": likelihood_lib.to_config(self.likelihood),
      "num_labels": self.num_labels,
      "dropout": self.dropout,
      "observed": self.observed,
      "given": self.given,
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
