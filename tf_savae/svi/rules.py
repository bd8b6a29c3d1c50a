"""What one refinement step does with a gradient: rules in the manner of optax's transformations.

    s_0              = rule.init(λ_0)
    λ_{k+1}, s_{k+1} = rule.update(k, λ_k, g_k, s_k, α_k)        k = 0 … K−1

λ is one tensor `[batch, 2 · latent]`: μ, then log σ². (That of a full covariance is longer: `FullGaussianParams.pack`.)
A rule treats each example separately and is cheap compared with the decoder. It is differentiable with respect to λ, g,
s, α and any variables of its own. The adjoint takes those derivatives from a tape: a rule does not write them out.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae.full_gaussian import FullGaussianParams
from tf_savae.posterior import GaussianParams, Params
from tf_savae.svi.registries import RULES

__all__ = ["Adam", "GradientStep", "MultiplicativeNaturalGradient", "NaturalGradient", "Rule"]

State = tuple[tf.Tensor, ...]


class Rule(abc.ABC):
  """One step of the refinement. A subclass is a frozen dataclass: its fields are its configuration.

  A rule that treats all entries of λ alike says so by `is_entrywise = True`. It then serves every posterior family.

  A rule with `trained = True` has a field `network`, None until a model sets it to what the rule's
  `make_network(latent_dim, seed, dtype)` returns.

  Source: paper, section 3; Hoffman et al. (2013).

  Example:
    >>> from tf_savae.svi import RULES, Rule
    >>> class PlainStep(Rule):
    ...   def update(self, k, params, gradient, state, step_size):
    ...     return params - step_size * gradient, state
    >>> issubclass(RULES.get("natural"), Rule)
    True
  """

  trained = False
  is_entrywise = False

  def for_params(self, kind: type[Params]) -> Rule:
    """This rule for λ of a type, such as `FullGaussianParams`; of the diagonal Gaussian's, the rule itself.

    Raises:
      ValueError: the rule is for diagonal Gaussians only.
    """
    if kind is not GaussianParams and not self.is_entrywise:
      raise ValueError(
        f"The rule {type(self).__name__} is for diagonal Gaussians; choose the rule gradient, natural or adam. "
        f"Received: λ of type {kind.__name__}"
      )
    return self

  def init(self, params: tf.Tensor) -> State:
    """s_0 for λ_0 `[batch, 2 · latent]`: a tuple of tensors whose first dimension is the batch; here empty."""
    del params
    return ()

  @abc.abstractmethod
  def update(
    self, k: tf.Tensor | int, params: tf.Tensor, gradient: tf.Tensor, state: State, step_size: tf.Tensor
  ) -> tuple[tf.Tensor, State]:
    """λ_{k+1} and s_{k+1}.

    Args:
      k: number of the step, from 0.
      params: λ_k, `[batch, 2 · latent]`.
      gradient: g_k = ∇_λ L_i(λ_k), `[batch, 2 · latent]`, nats.
      state: s_k.
      step_size: α_k, `[1]` or `[2 · latent]`.
    """


@dataclasses.dataclass(frozen=True)
class GradientStep(Rule):
  """The paper's gradient step: v ← γ v − clip(g), λ ← λ + α v.

  Source: paper, section 3; Polyak (1964) for the momentum.

  Attributes:
    momentum: γ in [0, 1).
    clip_norm: bound on the norm of one example's gradient, μ and log σ² separately, nats; None: no clipping.
    kind: the type of λ, which `for_params` sets. Of a full covariance all entries of L are clipped together.

  Raises:
    ValueError: a value is out of its range.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.svi.rules import GradientStep
    >>> rule, params = GradientStep(momentum=0.0), tf.constant([[1.0, 0.0]])  # μ = 1, log σ² = 0
    >>> new, state = rule.update(0, params, tf.constant([[1.0, 0.5]]), rule.init(params), tf.constant([0.1]))
    >>> print([f"{value:.3f}" for value in new[0]])
    ['0.900', '-0.050']
  """

  momentum: float = 0.5
  clip_norm: float | None = None
  kind: type[Params] = dataclasses.field(
    default=GaussianParams, kw_only=True, compare=False, repr=False, metadata={"saved": False}
  )

  def __post_init__(self):
    if not 0.0 <= self.momentum < 1.0:
      raise ValueError(f"momentum must lie in [0, 1). Received: {self.momentum}")
    if self.clip_norm is not None and not self.clip_norm > 0.0:
      raise ValueError(f"clip_norm must be positive, or None for no clipping. Received: {self.clip_norm}")

  def for_params(self, kind):
    return dataclasses.replace(self, kind=kind)

  def init(self, params):
    return (tf.zeros_like(params),)

  def update(self, k, params, gradient, state, step_size):
    velocity = self.momentum * state[0] - clip(gradient, self.clip_norm, self.kind)
    return params + step_size * velocity, (velocity,)


@dataclasses.dataclass(frozen=True)
class NaturalGradient(Rule):
  """The gradient times the inverse Fisher information of the Gaussian q_λ, within a trust region.

      μ      ← μ      − α σ · trust(σ g_μ)
      log σ² ← log σ² − α · trust(2 g_{log σ²})

  The Fisher information of N(μ, diag σ²) is diag(1/σ²) for μ and ½ I for log σ². A step of α = 1 on a quadratic L
  therefore reaches its best μ. `trust` bounds each entry of the whitened step: while the posterior is still poor, the
  curvature at one point says little about where the step ends.

  Of a full covariance, μ ← μ − α L · trust(Lᵀ g_μ) and, to first order in α, L ← L (I − α A). A is the natural gradient
  in the coordinates of `FullGaussianParams.whitened`. Where L is diagonal, this is the step above.

  Source: Amari (1998); Hoffman et al. (2013); Tan (2021) and Lin et al. (2021) for the Cholesky factor.

  Attributes:
    trust: bound on the absolute value of an entry, for μ in standard deviations of q; None: no bound.
    log_var_range: log σ² is kept within it; None: no bound.
    kind: the type of λ, which `for_params` sets.

  Raises:
    ValueError: `trust` is not positive, or the range is empty.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.svi.rules import NaturalGradient
    >>> rule, params = NaturalGradient(), tf.constant([[1.0, 0.0]])  # μ = 1, log σ² = 0
    >>> new, state = rule.update(0, params, tf.constant([[1.0, 0.5]]), rule.init(params), tf.constant([0.1]))
    >>> print([f"{value:.3f}" for value in new[0]])
    ['0.900', '-0.100']
  """

  trust: float | None = 3.0
  log_var_range: tuple[float, float] | None = (-8.0, 1.0)
  kind: type[Params] = dataclasses.field(
    default=GaussianParams, kw_only=True, compare=False, repr=False, metadata={"saved": False}
  )

  def __post_init__(self):
    if self.trust is not None and not self.trust > 0.0:
      raise ValueError(f"trust must be positive, or None for no bound. Received: {self.trust}")
    if self.log_var_range is not None:
      object.__setattr__(self, "log_var_range", tuple(self.log_var_range))  # a list after JSON
      if len(self.log_var_range) != 2 or not self.log_var_range[0] < self.log_var_range[1]:
        raise ValueError(
          f"log_var_range must be (low, high), or None for no bound. Received: {self.log_var_range}"
        )

  def for_params(self, kind):
    return dataclasses.replace(self, kind=kind)

  def update(self, k, params, gradient, state, step_size):
    if self.kind is FullGaussianParams:
      return self._update_full(params, gradient, step_size), state
    (mean, log_var), (by_mean, by_log_var) = tf.split(params, 2, axis=-1), tf.split(gradient, 2, axis=-1)
    size_mean, size_log_var = of_blocks(step_size)
    stddev = tf.exp(0.5 * log_var)
    mean -= size_mean * stddev * self._bounded(stddev * by_mean)
    log_var = self._moved(log_var, by_log_var, size_log_var)
    if self.log_var_range is not None:
      log_var = tf.clip_by_value(log_var, *self.log_var_range)
    return tf.concat([mean, log_var], axis=-1), state

  def _update_full(self, params, gradient, step_size):
    """λ_{k+1} of a full covariance."""
    at = FullGaussianParams.unpack(params)
    whitened = self._bounded(at.whitened(FullGaussianParams.unpack(gradient)).pack())
    new = at.moved(FullGaussianParams.unpack(-step_size * self._direction(params, whitened)))
    if self.log_var_range is not None:
      new = new._replace(log_var=tf.clip_by_value(new.log_var, *self.log_var_range))
    return new.pack()

  def _direction(self, params, whitened):
    """What the whitened step becomes, for a rule that changes it."""
    del params
    return whitened

  def _bounded(self, whitened):
    return whitened if self.trust is None else tf.clip_by_value(whitened, -self.trust, self.trust)

  def _moved(self, log_var, gradient, step_size):
    return log_var - step_size * self._bounded(2.0 * gradient)


@dataclasses.dataclass(frozen=True)
class MultiplicativeNaturalGradient(NaturalGradient):
  """`NaturalGradient` whose step in log σ² is a natural step in the precision 1/σ².

      1/σ² ← 1/σ² · (1 + max(2 α max(g_{log σ²}, −0.45), −0.9))

  A step of α = 1 on a quadratic L then reaches the best σ², too. The bounds keep the precision positive for every α.

  Source: Khan and Lin (2017), for the step in natural parameters.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.svi.rules import MultiplicativeNaturalGradient
    >>> rule, params = MultiplicativeNaturalGradient(), tf.constant([[1.0, 0.0]])  # μ = 1, log σ² = 0
    >>> new, state = rule.update(0, params, tf.constant([[1.0, 0.5]]), rule.init(params), tf.constant([0.1]))
    >>> print([f"{value:.3f}" for value in new[0]])
    ['0.900', '-0.095']
  """

  def for_params(self, kind):
    return Rule.for_params(self, kind)

  def _moved(self, log_var, gradient, step_size):
    growth = 2.0 * step_size * tf.maximum(gradient, _LEAST_GRADIENT)
    return log_var - tf.math.log1p(tf.maximum(growth, 2.0 * _LEAST_GRADIENT))


_LEAST_GRADIENT = -0.45


def of_blocks(step_size: tf.Tensor) -> Sequence[tf.Tensor]:
  """α for μ and α for log σ², from `[1]` or `[2 · latent]`."""
  return (step_size, step_size) if step_size.shape[-1] == 1 else tf.split(step_size, 2, axis=-1)


@dataclasses.dataclass(frozen=True)
class Adam(Rule):
  """Adam on the λ of each example, with bias correction (Kingma and Ba 2015).

  Attributes:
    beta_1, beta_2: decay of the first and of the second moment, in [0, 1).
    epsilon: added to the root of the second moment, nats.

  Raises:
    ValueError: a value out of its range.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.svi.rules import Adam
    >>> rule, params = Adam(), tf.constant([[1.0, 0.0]])  # μ = 1, log σ² = 0
    >>> new, state = rule.update(0, params, tf.constant([[1.0, 0.5]]), rule.init(params), tf.constant([0.1]))
    >>> print([f"{value:.3f}" for value in new[0]])
    ['0.900', '-0.100']
  """

  beta_1: float = 0.9
  beta_2: float = 0.999
  epsilon: float = 1e-7

  is_entrywise = True

  def __post_init__(self):
    if not (0.0 <= self.beta_1 < 1.0 and 0.0 <= self.beta_2 < 1.0 and self.epsilon > 0.0):
      raise ValueError(f"beta_1 and beta_2 must lie in [0, 1), epsilon above 0. Received: {self}")

  def init(self, params):
    return tf.zeros_like(params), tf.zeros_like(params)

  def update(self, k, params, gradient, state, step_size):
    first = self.beta_1 * state[0] + (1.0 - self.beta_1) * gradient
    second = self.beta_2 * state[1] + (1.0 - self.beta_2) * tf.square(gradient)
    steps = tf.cast(k, params.dtype) + 1.0
    mean = first / (1.0 - tf.pow(tf.constant(self.beta_1, params.dtype), steps))
    square = second / (1.0 - tf.pow(tf.constant(self.beta_2, params.dtype), steps))
    # Bounded from below before the square root, whose derivative at 0 would be infinite.
    root = tf.sqrt(tf.maximum(square, np.finfo(params.dtype.as_numpy_dtype).tiny))
    return params - step_size * mean / (root + self.epsilon), (first, second)


def as_state(state: Any) -> State:
  """What a rule returned as its state, as a tuple; a list counts as one.

  Raises:
    ValueError: it is neither.
  """
  if not isinstance(state, list | tuple):
    raise ValueError(f"A rule's state must be a tuple of tensors. Received: {type(state).__name__}")
  return tuple(state)


def clip(rows: tf.Tensor, clip_norm: float | None, kind: type[Params] = GaussianParams) -> tf.Tensor:
  """Scales each example's gradient `[batch, size]` of a packed λ down to norm `clip_norm` if its norm is larger.

  The gradients of μ and log σ², or L, are clipped separately. The squared norm is bounded from below before the square
  root, so that the derivative at 0 is that of the identity and not NaN.
  """
  if clip_norm is None:
    return rows
  if kind is not GaussianParams:
    mean, *scale = kind.unpack(rows)
    blocks = (mean, tf.concat(scale, axis=-1))
    return tf.concat([_scaled_down(block, clip_norm) for block in blocks], axis=-1)
  blocks = tf.reshape(rows, [-1, 2, rows.shape[-1] // 2])
  return tf.reshape(_scaled_down(blocks, clip_norm), tf.shape(rows))


def _scaled_down(rows, clip_norm):
  square = tf.reduce_sum(tf.square(rows), axis=-1, keepdims=True)
  norm = tf.sqrt(tf.maximum(square, np.finfo(rows.dtype.as_numpy_dtype).tiny))
  return rows * tf.minimum(tf.ones_like(norm), clip_norm / norm)


def get(rule: str | Rule, **settings: Any) -> Rule:
  """The rule for a name in `RULES`, made from those `settings` that are not None, or the object itself.

  Raises:
    ValueError: the name is unknown, or a setting does not belong to that rule.
  """
  given = {name: value for name, value in settings.items() if value is not None}
  if isinstance(rule, str):
    kind = RULES.get(rule)
    unknown = sorted(set(given) - set(getattr(kind, "__dataclass_fields__", {})))
    if unknown:
      raise ValueError(
        f"{unknown[0]} is not a setting of the rule {rule!r}. Received: {unknown[0]}={given[unknown[0]]}"
      )
    return kind(**given)
  if not isinstance(rule, Rule):
    raise ValueError(f"rule is one of {', '.join(RULES.names())}, or a Rule. Received: {rule!r}")
  if given:
    name, value = next(iter(given.items()))
    raise ValueError(f"{name} belongs to the rule, which is given as an object. Received: {name}={value}")
  return rule
