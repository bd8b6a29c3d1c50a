"""A step rule that is trained: a network reads λ and ∇_λ L and corrects the natural-gradient step."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from tf_savae.full_gaussian import FullGaussianParams
from tf_savae.svi.rules import NaturalGradient, of_blocks

__all__ = ["LearnedStep"]


@dataclasses.dataclass(frozen=True)
class LearnedStep(NaturalGradient):
  """`NaturalGradient` with a network that scales and shifts each entry of the whitened step.

      w      = trust(σ g_μ, 2 g_{log σ²})
      a, b   = network(λ, w)                                one pair per entry
      d      = w · exp(2 tanh a) + tanh b
      μ      ← μ − α σ d_μ,      log σ² ← log σ² − α d_{log σ²}

  All examples and all steps share the network. Its last layer starts at 0, so that training starts from the natural
  gradient. It learns through the refinement, as step sizes do, with a method that differentiates through the steps.
  Source: Marino et al. (2018), whose network replaces the step where this one corrects it.

  Attributes:
    hidden: units of the network's hidden layer.
    network: layer `[batch, 4 · latent] -> [batch, 4 · latent]`. `SAVAE` makes it; `refine` needs one that
      `make_network` made. It is larger for a full covariance, where λ is.

  Raises:
    ValueError: `hidden` is not positive.

  Example:
    >>> import dataclasses
    >>> import tensorflow as tf
    >>> from tf_savae.svi.learned import LearnedStep
    >>> rule = LearnedStep()
    >>> rule = dataclasses.replace(rule, network=rule.make_network(latent_dim=1))
    >>> params, gradient, size = tf.zeros([1, 2]), tf.constant([[0.5, 0.0]]), tf.ones([1])
    >>> new, state = rule.update(0, params, gradient, (), size)
    >>> print(f"{new[0, 0]:.2f}")  # not trained yet: μ − σ² g
    -0.50
  """

  trained = True

  hidden: int = 32
  network: Any = dataclasses.field(default=None, compare=False, repr=False, metadata={"saved": False})

  def __post_init__(self):
    super().__post_init__()
    if isinstance(self.hidden, bool) or not isinstance(self.hidden, int) or self.hidden < 1:
      raise ValueError(f"hidden is a number of units, 1 or more. Received: {self.hidden}")

  def make_network(self, latent_dim: int, seed: int = 0, dtype: Any = None) -> keras.layers.Layer:
    """A network for `latent_dim` latents, not yet trained.

    Args:
      latent_dim: number of latents.
      seed: of the initial weights.
      dtype: of weights and arithmetic, that of λ; default: Keras's.
    """
    size = 2 * self.kind.size(latent_dim)
    hidden = keras.layers.Dense(
      self.hidden, "tanh", kernel_initializer=keras.initializers.GlorotUniform(seed), dtype=dtype
    )
    last = keras.layers.Dense(size, kernel_initializer="zeros", dtype=dtype)
    return keras.Sequential([keras.Input([size], dtype=dtype), hidden, last], name="step_rule")

  def update(self, k, params, gradient, state, step_size):
    if self.network is None:
      raise ValueError(
        "LearnedStep has no network; make one with make_network(latent_dim). Received: network=None"
      )
    if self.kind is FullGaussianParams:
      return self._update_full(params, gradient, step_size), state
    (mean, log_var), (by_mean, by_log_var) = tf.split(params, 2, axis=-1), tf.split(gradient, 2, axis=-1)
    stddev = tf.exp(0.5 * log_var)
    whitened = self._bounded(tf.concat([stddev * by_mean, 2.0 * by_log_var], axis=-1))
    along_mean, along_log_var = tf.split(self._direction(params, whitened), 2, axis=-1)
    size_mean, size_log_var = of_blocks(step_size)
    log_var -= size_log_var * along_log_var
    if self.log_var_range is not None:
      log_var = tf.clip_by_value(log_var, *self.log_var_range)
    return tf.concat([mean - size_mean * stddev * along_mean, log_var], axis=-1), state

  def _direction(self, params, whitened):
    scale, shift = tf.split(self.network(tf.concat([params, whitened], axis=-1)), 2, axis=-1)
    return whitened * tf.exp(2.0 * tf.tanh(scale)) + tf.tanh(shift)
