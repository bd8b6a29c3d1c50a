"""The noise draws whose gradients a refinement step averages.

A generator gives N(0, I) numbers, and these small objects make the draws of a step from them. The reported bound
always uses separate Gaussian draws.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import tensorflow as tf

from tf_savae.svi.registries import DRAWS

__all__ = ["Antithetic", "AtMean", "Draws", "Independent", "Quadrature", "Signs"]


@dataclasses.dataclass(frozen=True)
class Draws:
  """The draws of one step.

  Attributes:
    num_samples: draws per step, S.
    in_closed_form: whether E_q[log p(x | z)], in nats, comes from the decoder's `expected_log_prob` instead of an
      average over draws, both in the steps and in the training loss.
    estimates_loss: whether the average of L over the draws estimates E_q[L].

  Raises:
    ValueError: this number of draws is impossible.

  Example:
    >>> from tf_savae.svi import DRAWS
    >>> DRAWS.get("antithetic")(4).num_independent
    2
  """

  num_samples: int = 1
  in_closed_form: ClassVar[bool] = False
  estimates_loss: ClassVar[bool] = True

  @property
  def num_independent(self) -> int:
    """Number of draws per step that come from the generator; the others are derived from them."""
    return self.num_samples

  def all_samples(self, independent: tf.Tensor) -> tf.Tensor:
    """All ε `[…, num_samples, batch, latent]`, from independent draws `[…, num_independent, batch, latent]`."""
    return independent


@dataclasses.dataclass(frozen=True)
class Independent(Draws):
  """S independent draws ε ~ N(0, I).

  Example:
    >>> from tf_savae.svi.noise import Independent
    >>> draws = Independent(3)
    >>> draws.num_samples, draws.num_independent
    (3, 3)
  """


@dataclasses.dataclass(frozen=True)
class Antithetic(Draws):
  """S / 2 pairs ε, −ε: gradient noise that is odd in ε cancels (Hammersley and Morton 1956).

  Example:
    >>> from tf_savae.svi.noise import Antithetic
    >>> draws = Antithetic(4)
    >>> draws.num_samples, draws.num_independent
    (4, 2)
  """

  num_samples: int = 2

  def __post_init__(self):
    if self.num_samples % 2:
      raise ValueError(
        "Antithetic draws and signs come in pairs: num_samples must be even, or draws 'independent'. "
        f"Received: {self.num_samples}"
      )

  @property
  def num_independent(self):
    return self.num_samples // 2

  def all_samples(self, independent):
    return tf.concat([independent, -independent], axis=-3)


@dataclasses.dataclass(frozen=True)
class Signs(Antithetic):
  """S / 2 pairs ε, −ε of random signs ±1 in place of normal numbers.

  Their second moment is that of N(0, I), but without noise. For a quadratic L the gradient of log σ² is exact.

  Example:
    >>> from tf_savae.svi.noise import Signs
    >>> draws = Signs(2)
    >>> draws.num_samples, draws.num_independent
    (2, 1)
  """

  def all_samples(self, independent):
    return super().all_samples(tf.sign(independent))


@dataclasses.dataclass(frozen=True)
class AtMean(Draws):
  """No noise: the gradient at z = μ, which is cheap, but biased if the posterior is skewed.

  Example:
    >>> from tf_savae.svi.noise import AtMean
    >>> draws = AtMean()
    >>> draws.num_samples, draws.num_independent
    (1, 1)
  """

  estimates_loss = False

  def __post_init__(self):
    if self.num_samples != 1:
      raise ValueError(
        f"At the mean and by quadrature nothing is averaged: num_samples must be 1. Received: {self.num_samples}"
      )

  def all_samples(self, independent):
    return tf.zeros_like(independent)


@dataclasses.dataclass(frozen=True)
class Quadrature(AtMean):
  """No noise: the decoder integrates over z itself, such as one whose logits are linear in z.

  The result is deterministic, and unbiased except for the error of the quadrature.

  Example:
    >>> from tf_savae.svi.noise import Quadrature
    >>> draws = Quadrature()
    >>> draws.num_samples, draws.num_independent
    (1, 1)
  """

  in_closed_form = estimates_loss = True


def get(draws: str | Draws, num_samples: int) -> Draws:
  """The draws for a name in `DRAWS`, or the object itself.

  Raises:
    ValueError: the name is unknown, or this number of draws is impossible.
  """
  if isinstance(draws, Draws):
    return draws
  return DRAWS.get(draws)(num_samples)
