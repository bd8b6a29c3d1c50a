"""Binary observations."""

from __future__ import annotations

import dataclasses

from tf_savae.likelihoods.likelihood import Likelihood, over_places, tfd
from tf_savae.observations import BINARY, Support


@dataclasses.dataclass(frozen=True)
class Bernoulli(Likelihood):
  """x in {0, 1}; a place's parameters are the logits of its channels.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.likelihoods import Bernoulli
    >>> x, logits = tf.ones([1, 2, 2, 1]), tf.zeros([1, 2, 2, 1])
    >>> print(f"{Bernoulli().log_prob(x, logits)[0]:.3f}")  # 4 log ½
    -2.773
  """

  @property
  def support(self) -> Support:
    return BINARY

  def num_parameters(self, channels):
    return channels

  def distribution(self, parameters, channels):
    return over_places(tfd.Bernoulli(logits=parameters, dtype=parameters.dtype))
