"""Counts."""

from __future__ import annotations

import dataclasses
import math

from tf_savae.errors import UserError
from tf_savae.likelihoods.likelihood import Likelihood, over_places, tfd
from tf_savae.observations import Support


@dataclasses.dataclass(frozen=True)
class Poisson(Likelihood):
  """x · unit is a count; a place's parameters are the logarithms of the expected counts of its channels.

  Attributes:
    unit: 1: x are counts; 255: x are 8-bit values divided by 255.

  Raises:
    UserError: the unit is not positive.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.likelihoods import Poisson
    >>> counts, log_rates = tf.zeros([1, 1, 1]), tf.zeros([1, 1, 1])
    >>> print(f"{Poisson().log_prob(counts, log_rates)[0]:.3f}")  # log e⁻¹
    -1.000
  """

  unit: float = 1.0

  def __post_init__(self):
    if not self.unit > 0:
      raise UserError(f"a Poisson likelihood's unit is above 0; received {self.unit}")

  @property
  def support(self) -> Support:
    return Support(0, math.inf, whole=self.unit == 1, remedy="give counts")

  def num_parameters(self, channels):
    return channels

  def distribution(self, parameters, channels):
    return over_places(tfd.Poisson(log_rate=parameters))
