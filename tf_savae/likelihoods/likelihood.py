"""The interface of likelihoods."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import tensorflow as tf
import tensorflow_probability as tfp

from tf_savae.errors import UserError
from tf_savae.likelihoods.registries import LIKELIHOODS
from tf_savae.observations import Support

tfd = tfp.distributions


class Likelihood(abc.ABC):
  """p(x | parameters) for observations of channels at places; a subclass is a frozen dataclass of its settings.

  Places are independent given z. The channels of one place need not be: the logistic mixture couples them.

  Attributes:
    is_discrete: whether log p is that of a probability, and not of a density.
    unit: x times it are the numbers that the distribution is about, such as counts.
    couples_channels: whether the channels of a place depend on each other.

  Example:
    >>> from tf_savae.likelihoods import LIKELIHOODS, Likelihood
    >>> issubclass(LIKELIHOODS.get("poisson"), Likelihood)
    True
  """

  is_discrete: ClassVar[bool] = True
  couples_channels: ClassVar[bool] = False
  unit: float = 1.0

  @property
  @abc.abstractmethod
  def support(self) -> Support:
    """Which observations have a likelihood."""

  @abc.abstractmethod
  def num_parameters(self, channels: int) -> int:
    """How many numbers a decoder gives for each place of an observation with so many channels."""

  @abc.abstractmethod
  def distribution(self, parameters: tf.Tensor, channels: int) -> tfd.Distribution:
    """The distribution of x · `unit`.

    Args:
      parameters: unconstrained numbers `[batch, *places, num_parameters(channels)]`.
      channels: of x.

    Returns:
      A distribution whose batch shape is `[batch]` and whose events are `[*places, channels]`.
    """

  def log_prob(self, x: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """log p(x | parameters) of x `[batch, *places, channels]`, `[batch]`, nats."""
    x = self._in_units(x, parameters.dtype)
    return self.distribution(parameters, x.shape[-1]).log_prob(x)

  def log_prob_of_parts(self, x: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """log p of each channel of each place, `[batch, *places, channels]`, nats; their sum is `log_prob`.

    Where the channels of a place depend on each other it is that of all of them, `[batch, *places, 1]`.
    """
    x = self._in_units(x, parameters.dtype)
    over = self.distribution(parameters, x.shape[-1])
    if not hasattr(over, "reinterpreted_batch_ndims"):
      raise UserError(
        f"{type(self).__name__} has no log-probabilities of parts: its distribution must be of `over_places`; received"
        f" {type(over).__name__}"
      )
    parts = over.distribution.log_prob(x)
    return parts[..., tf.newaxis] if self.couples_channels else parts

  def _in_units(self, x: tf.Tensor, dtype: Any) -> tf.Tensor:
    x = tf.cast(x, dtype) * self.unit
    return tf.round(x) if self.is_discrete and self.unit != 1 else x

  def mean(self, parameters: tf.Tensor, channels: int) -> tf.Tensor:
    """The expected x, `[batch, *places, channels]`."""
    return self.distribution(parameters, channels).mean() / self.unit

  def sample(self, parameters: tf.Tensor, channels: int, seed: Any) -> tf.Tensor:
    """x drawn from p, `[batch, *places, channels]`, a function of the stateless `seed`."""
    draw = self.distribution(parameters, channels).sample(seed=tf.convert_to_tensor(seed, tf.int32))
    return tf.cast(draw, parameters.dtype) / self.unit


def over_places(distribution: tfd.Distribution) -> tfd.Distribution:
  """All dimensions of a distribution's batch but the first become part of the event."""
  return tfd.Independent(distribution, reinterpreted_batch_ndims=distribution.batch_shape.rank - 1)


def by_channel(parameters: tf.Tensor, channels: int) -> tf.Tensor:
  """`[..., channels · n]` as `[..., channels, n]`."""
  numbers = parameters.shape[-1] // channels
  return tf.reshape(parameters, tf.concat([tf.shape(parameters)[:-1], [channels, numbers]], axis=0))


def get(likelihood: str | Likelihood, **settings: Any) -> Likelihood:
  """The likelihood of a name in `LIKELIHOODS` with those of the settings that it has, or the object itself.

  Raises:
    ValueError: the name is unknown.
  """
  if isinstance(likelihood, Likelihood):
    return likelihood
  kind = LIKELIHOODS.get(likelihood)
  return kind(**{name: value for name, value in settings.items() if name in kind.__dataclass_fields__})


def to_config(likelihood: Likelihood) -> dict[str, Any]:
  """Name and settings of a likelihood in `LIKELIHOODS`, as plain values."""
  return {"name": LIKELIHOODS.name_of(type(likelihood)), **vars(likelihood)}


def from_config(config: dict[str, Any]) -> Likelihood:
  """The inverse of `to_config`."""
  return LIKELIHOODS.get(config["name"])(**{k: v for k, v in config.items() if k != "name"})
