"""`SVISettings`: how λ is refined."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae.posterior import Params
from tf_savae.svi import noise, rules
from tf_savae.svi.registries import RULES, from_config, is_whole, plain, to_config


class _OfDraws(int):
  """True or False as it follows from `draws`. So `dataclasses.replace` with other draws changes it, too."""

  def __repr__(self) -> str:
    return repr(bool(self))


@dataclasses.dataclass(frozen=True)
class SVISettings:
  """How λ is refined.

  Attributes:
    num_steps: K ≥ 0.
    step_size: α on the loss per example: one number, K numbers (a schedule), or a float tensor or variable, which then
      receives its gradient. Its shape is `[]`, `[K]` or `[K, latent]`, or, with separate sizes for μ and log σ²,
      `[K, 2, 1]` or `[K, 2, latent]`.
    momentum: γ in [0, 1), for the rule "gradient" only; None: 0.5.
    clip_norm: bound on the norm of one example's gradient, separately for μ and log σ², for the rule "gradient" only;
      None: no clipping.
    num_samples: noise draws whose gradients are averaged in every step.
    tolerance: an example stops when a step is expected to gain no more nats than this; 0: all K steps are taken. Noise
      keeps the expected gain up: with one draw per step, a tolerance below α tr Cov(g) stops few examples.
    antithetic: True is the same as `draws="antithetic"`; num_samples must then be even. It follows from `draws` where
      it is not given.
    rule: what a step does with the gradient: a name in `tf_savae.svi.RULES`, or a `tf_savae.svi.Rule`.
    draws: the noise draws of a step: a name in `tf_savae.svi.DRAWS`.

  Raises:
    ValueError: a value is out of its range, or settings do not fit together.

  Example:
    >>> from tf_savae import SVISettings
    >>> settings = SVISettings(3, step_size=(0.3, 0.2, 0.1), rule="natural", draws="antithetic", num_samples=2)
    >>> settings.num_steps, settings.step_size
    (3, (0.3, 0.2, 0.1))
  """

  num_steps: int = 20
  step_size: float | Sequence[float] | tf.Tensor | tf.Variable = 0.02
  momentum: float | None = None
  clip_norm: float | None = None
  num_samples: int = 1
  tolerance: float = 0.0
  antithetic: bool = _OfDraws(False)  # type: ignore[assignment] # True or False, and knows that it was not given
  rule: str | rules.Rule = "gradient"
  draws: str = "independent"

  def __post_init__(self):
    if not is_whole(self.num_steps) or self.num_steps < 0:
      raise ValueError(f"num_steps is a number of SVI steps, 0 or more. Received: {self.num_steps}")
    _ = self.step_rule  # which refuses what it cannot be made from
    if not is_whole(self.num_samples) or self.num_samples < 1:
      raise ValueError(f"num_samples must be 1 or more. Received: {self.num_samples}")
    self._join_antithetic_and_draws()
    _ = self.noise_draws
    if not 0.0 <= self.tolerance < np.inf:
      raise ValueError(f"tolerance is a number of nats, 0 or more. Received: {self.tolerance}")
    self._check_step_size()

  def _join_antithetic_and_draws(self):
    given = not isinstance(self.antithetic, _OfDraws)
    if given and self.antithetic and self.draws == "independent":
      object.__setattr__(self, "draws", "antithetic")
    if given and bool(self.antithetic) != (self.draws == "antithetic"):
      raise ValueError(
        "antithetic goes with draws='antithetic' alone. Received:"
        f" antithetic={self.antithetic}, draws={self.draws!r}"
      )
    object.__setattr__(self, "antithetic", _OfDraws(self.draws == "antithetic"))

  def _check_step_size(self):
    if is_tensor(self.step_size):
      shape = self.step_size.shape
    else:
      sizes = np.asarray(self.step_size, dtype=np.float64)
      if not np.all(np.isfinite(sizes)) or np.any(sizes < 0):
        raise ValueError(f"step_size must be finite and not negative. Received: {self.step_size}")
      shape = tf.TensorShape(sizes.shape)
    k = self.num_steps
    if not any(shape.is_compatible_with(other) for other in ([], [k], [k, None], [k, 2, None])):
      raise ValueError(
        f"step_size must be one number, {k} numbers (one per step), [{k}, latent] or [{k}, 2, latent]. "
        f"Received shape: {shape}"
      )

  @property
  def step_rule(self) -> rules.Rule:
    """The rule as an object."""
    return rules.get(self.rule, momentum=self.momentum, clip_norm=self.clip_norm)

  @property
  def noise_draws(self) -> noise.Draws:
    """The draws of a step as an object."""
    return noise.get(self.draws, self.num_samples)

  def step_sizes(self, dtype: tf.DType, latent_dim: int | None = None) -> tf.Tensor:
    """α_0 … α_{K−1} for a rule: `[K, 1]`, or `[K, 2 · latent]` if μ, log σ² or latents have separate sizes.

    Raises:
      ValueError: there are sizes for another number of latents.
    """
    # Python numbers are converted directly to `dtype`; through float32 they would lose half of their digits in float64.
    sizes = self.step_size if is_tensor(self.step_size) else np.asarray(self.step_size, np.float64)
    sizes = tf.cast(sizes, dtype)
    if sizes.shape.rank < 2:
      return tf.broadcast_to(tf.reshape(sizes, [-1, 1]), [self.num_steps, 1])
    if (
      latent_dim is not None
      and not sizes.shape[-1:].is_compatible_with([latent_dim])
      and sizes.shape[-1] != 1
    ):
      raise ValueError(f"step_size must be for {latent_dim} latents. Received shape: {sizes.shape}")
    if sizes.shape.rank == 2:
      return sizes if sizes.shape[1] == 1 else tf.concat([sizes, sizes], axis=1)
    if sizes.shape[2] == 1:
      sizes = tf.repeat(sizes, latent_dim, axis=2)
    return tf.reshape(sizes, [self.num_steps, -1])

  def sizes_for(self, params: Params) -> tf.Tensor:
    """α_0 … α_{K−1} for λ of any family: `[K, 1]`, or `[K, size]` for all entries of the packed λ."""
    sizes = self.step_sizes(params.mean.dtype, params.mean.shape[-1])
    return sizes if sizes.shape[-1] == 1 else params.widened(sizes)


def is_tensor(value: object) -> bool:
  """Whether `value` is a tensor or variable, which may have a gradient, and not plain numbers."""
  return tf.is_tensor(value) or isinstance(value, tf.Variable)


def settings_to_config(settings: SVISettings) -> dict[str, Any]:
  """The settings as plain values; a rule object becomes its name in `tf_savae.svi.RULES` and its fields."""
  values = {field.name: plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
  values["antithetic"] = bool(settings.antithetic)
  sizes, rule = settings.step_size, settings.rule
  values["step_size"] = sizes.numpy().tolist() if hasattr(sizes, "numpy") else np.asarray(sizes).tolist()
  if isinstance(rule, rules.Rule):
    values["rule"] = to_config(RULES, rule)
  return values


def settings_from_config(config: Mapping[str, Any]) -> SVISettings:
  """The inverse of `settings_to_config`; settings that an older configuration lacks get their defaults."""
  values = dict(config)
  if isinstance(values.get("rule"), Mapping):
    values["rule"] = from_config(RULES, values["rule"])
  return SVISettings(**values)
