"""A few levels, each with a probability of its own."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.likelihoods.likelihood import Likelihood, by_channel, over_places, tfd
from tf_savae.observations import Support


@dataclasses.dataclass(frozen=True)
class Categorical(Likelihood):
  """x is one of `levels` values, evenly spaced from 0 to 1; the parameters are the logits of each.

  Source: the softmax over pixel values of van den Oord et al., *Pixel Recurrent Neural Networks*, 2016, but with
  channels that are independent given z.

  Attributes:
    levels: how many values there are; 256 for 8 bits.

  Raises:
    UserError: there are fewer than 2.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.likelihoods import Categorical
    >>> x, logits = tf.constant([[[0.5]]]), tf.zeros([1, 1, 3])  # levels 0, ½ and 1
    >>> print(f"{Categorical(levels=3).log_prob(x, logits)[0]:.3f}")  # log ⅓
    -1.099
  """

  levels: int = 256

  def __post_init__(self):
    if self.levels < 2:
      raise UserError(f"a categorical likelihood has 2 levels or more; received {self.levels}")

  @property
  def support(self) -> Support:
    return Support(0, 1, remedy=f"divide values by {self.levels - 1}")

  def num_parameters(self, channels):
    return channels * self.levels

  def distribution(self, parameters, channels):
    values = tf.linspace(tf.zeros([], parameters.dtype), tf.ones([], parameters.dtype), self.levels)
    # Rounding: half a level decides, so that 8-bit values divided by 255 in another precision still fit.
    tolerance = {"rtol": 0.0, "atol": 0.49 / (self.levels - 1)}
    return over_places(tfd.FiniteDiscrete(values, logits=by_channel(parameters, channels), **tolerance))
