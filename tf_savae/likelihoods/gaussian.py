"""Real observations."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.likelihoods.likelihood import Likelihood, over_places, tfd
from tf_savae.observations import Support

_SMALLEST_SCALE = 1e-2  # a density of data on a grid, such as 8-bit values, grows without bound as σ → 0


@dataclasses.dataclass(frozen=True)
class Gaussian(Likelihood):
  """x ~ N(μ, σ²) for each channel of each place.

  Attributes:
    scale: σ; None: the decoder gives one for each channel of each place, of 0.01 or more.

  Raises:
    UserError: the scale is not positive.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.likelihoods import Gaussian
    >>> x, mean = tf.ones([1, 1, 1]), tf.ones([1, 1, 1])
    >>> print(f"{Gaussian(scale=1.0).log_prob(x, mean)[0]:.3f}")  # −½ log 2π
    -0.919
  """

  scale: float | None = None
  is_discrete: ClassVar[bool] = False

  def __post_init__(self):
    if self.scale is not None and not self.scale > 0:
      raise UserError(f"a Gaussian's scale is above 0, or None to learn it; received {self.scale}")

  @property
  def support(self) -> Support:
    return Support(-math.inf, math.inf)

  def num_parameters(self, channels):
    return channels if self.scale is not None else 2 * channels

  def distribution(self, parameters, channels):
    if self.scale is not None:
      return over_places(tfd.Normal(parameters, tf.constant(self.scale, parameters.dtype)))
    mean, raw = tf.split(parameters, 2, axis=-1)
    return over_places(tfd.Normal(mean, _SMALLEST_SCALE + tf.nn.softplus(raw - 1.0)))
