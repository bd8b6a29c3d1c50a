"""Mixtures of discretised logistic distributions, for grey values and colour."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tf_savae.errors import UserError
from tf_savae.likelihoods.likelihood import Likelihood, over_places, tfd
from tf_savae.observations import Support

_SMALLEST_LOG_SCALE, _LARGEST_LOG_SCALE = -7.0, 5.0


class DiscretizedLogisticMixture(tfd.Distribution):
  """A mixture over the channels of one place, each a logistic variable rounded to levels from 0 to 1.

  Within a component the mean of a channel is linear in the values of the channels before it. The lowest and the highest
  level have all of the mass beyond them. Means and scales are in units of half the range.

  Source: Salimans et al., *PixelCNN++*, 2017. Let a and b = a − w be the edges of a level in units of the scale. Its
  log-probability is computed as log(1 − e^−w) + log σ(a) + log σ(−b), which is exact. No nearly equal numbers are
  subtracted, so narrow components need no approximation, and all derivatives are finite.

  Args:
    logits: of the components, `[..., components]`.
    means: `[..., components, channels]`.
    log_scales: `[..., components, channels]`.
    coefficients: `[..., components, channels · (channels − 1) / 2]`, of (1 on 0), (2 on 0), (2 on 1), …
    levels: how many values a channel has.
    name: of the distribution.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.likelihoods.logistic_mixture import DiscretizedLogisticMixture
    >>> one = tf.zeros([1, 1])  # one component, one channel
    >>> mixture = DiscretizedLogisticMixture(tf.zeros([1]), one, one, tf.zeros([1, 0]), levels=2)
    >>> print(f"{mixture.log_prob(tf.ones([1])):.3f}")  # log ½: the upper of two levels
    -0.693
  """

  def __init__(self, logits, means, log_scales, coefficients, levels=256, name="DiscretizedLogisticMixture"):
    parameters = dict(locals())
    self._logits, self._means = logits, means
    self._log_scales, self._coefficients = log_scales, coefficients
    self._levels = levels
    super().__init__(
      dtype=means.dtype,
      reparameterization_type=tfd.NOT_REPARAMETERIZED,
      validate_args=False,
      allow_nan_stats=True,
      parameters=parameters,
      name=name,
    )

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    properties = tfp.util.ParameterProperties
    return {
      "logits": properties(event_ndims=1),
      "means": properties(event_ndims=2),
      "log_scales": properties(event_ndims=2),
      "coefficients": properties(event_ndims=2),
    }

  def _event_shape(self):
    return self._means.shape[-1:]

  def _event_shape_tensor(self):
    return tf.shape(self._means)[-1:]

  @property
  def _step(self):
    """Between two levels, in units of half the range."""
    return 2.0 / (self._levels - 1)

  def _conditional_mean(self, channel, before):
    """The mean of a channel in each component, `[..., components]`, given the channels `before`."""
    mean, first = self._means[..., channel], channel * (channel - 1) // 2
    for i, value in enumerate(before):
      mean += self._coefficients[..., first + i] * value
    return mean

  def _log_prob(self, x):
    x = 2.0 * x - 1.0
    half, width = 0.5 * self._step, self._step * tf.exp(-self._log_scales)
    total = tf.nn.log_softmax(self._logits)
    before = []
    for channel, value in enumerate(tf.unstack(x[..., tf.newaxis, :], axis=-1)):
      scale = tf.exp(self._log_scales[..., channel])
      distance = value - self._conditional_mean(channel, before)
      below, above = (
        tf.math.log_sigmoid((distance + half) / scale),
        tf.math.log_sigmoid(-(distance - half) / scale),
      )
      inner = tf.math.log(-tf.math.expm1(-width[..., channel]))
      lowest, highest = value < -1.0 + half, value > 1.0 - half
      total += tf.where(highest, above, tf.where(lowest, below, below + above + inner))
      before.append(value)
    return tf.reduce_logsumexp(total, axis=-1)

  def _sample_n(self, n, seed=None):
    seeds = tfp.random.split_seed(seed, 1 + self._means.shape[-1])
    component = tfd.Categorical(logits=self._logits).sample(n, seed=seeds[0])
    chosen = tf.one_hot(component, self._logits.shape[-1], dtype=self.dtype)
    before = []
    for channel, own in enumerate(tf.unstack(seeds[1:]) if tf.is_tensor(seeds) else seeds[1:]):
      mean = tf.reduce_sum(
        chosen * self._conditional_mean(channel, [b[..., tf.newaxis] for b in before]), axis=-1
      )
      scale = tf.reduce_sum(chosen * tf.exp(self._log_scales[..., channel]), axis=-1)
      draw = tfd.Logistic(mean, scale).sample(seed=own)
      level = tf.clip_by_value(tf.round((draw + 1.0) / self._step), 0.0, self._levels - 1.0)
      before.append(level * self._step - 1.0)
    return 0.5 * (tf.stack(before, axis=-1) + 1.0)

  def _mean(self):
    """The mean, in which channels before a channel are at their own mean in each component.

    For the first channel it is exact, and for others as far as no values are cut at 0 and 1. A sum over levels is taken
    as an integral.
    """
    before = []
    for channel in range(self._means.shape[-1]):
      mean, scale = self._conditional_mean(channel, before), tf.exp(self._log_scales[..., channel])
      upper, lower = tf.nn.softplus((mean + 1.0) / scale), tf.nn.softplus((mean - 1.0) / scale)
      before.append(scale * (upper - lower) - 1.0)
    weights = tf.nn.softmax(self._logits)[..., tf.newaxis]
    return 0.5 * (tf.reduce_sum(weights * tf.stack(before, axis=-1), axis=-2) + 1.0)


@dataclasses.dataclass(frozen=True)
class LogisticMixture(Likelihood):
  """x are values of `levels` levels from 0 to 1, such as 8-bit values divided by 255. See `DiscretizedLogisticMixture`.

  Attributes:
    components: of the mixture.
    levels: how many values a channel has.

  Raises:
    UserError: there is no component, or there are fewer than 2 levels.

  Example:
    >>> from tf_savae.likelihoods import LogisticMixture
    >>> likelihood = LogisticMixture(components=5)
    >>> likelihood.num_parameters(channels=3)  # 5 weights, 15 means, 15 scales, 15 coefficients
    50
  """

  couples_channels = True

  components: int = 10
  levels: int = 256

  def __post_init__(self):
    if self.components < 1 or self.levels < 2:
      raise UserError(
        "a logistic mixture has 1 component and 2 levels or more; received"
        f" components={self.components}, levels={self.levels}"
      )

  @property
  def support(self) -> Support:
    return Support(0, 1, remedy=f"divide values by {self.levels - 1}")

  def num_parameters(self, channels):
    return self.components * (1 + 2 * channels + channels * (channels - 1) // 2)

  def distribution(self, parameters, channels):
    pairs = channels * (channels - 1) // 2
    lead = tf.shape(parameters)[:-1]
    rows = tf.reshape(parameters, tf.concat([lead, [self.components, -1]], axis=0))
    rows.set_shape([*parameters.shape[:-1], self.components, 1 + 2 * channels + pairs])
    logits, means, log_scales, coefficients = tf.split(rows, [1, channels, channels, pairs], axis=-1)
    # At zero parameters the components are spread over the range, and narrower than it.
    spread = tf.constant((np.arange(self.components) + 0.5) / self.components * 2 - 1, parameters.dtype)
    log_scales = tf.clip_by_value(log_scales - 1.5, _SMALLEST_LOG_SCALE, _LARGEST_LOG_SCALE)
    return over_places(
      DiscretizedLogisticMixture(
        logits[..., 0], means + spread[:, tf.newaxis], log_scales, tf.tanh(coefficients), self.levels
      )
    )
