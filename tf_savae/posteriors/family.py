"""`PosteriorFamily`: what the distribution q_λ is for given numbers λ, which the refinement changes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import tensorflow as tf
import tensorflow_probability as tfp

from tf_savae.posterior import GaussianParams, Params, prior
from tf_savae.posteriors.registries import POSTERIORS


class PosteriorFamily:
  """A family of posteriors q_λ. A subclass is a frozen dataclass: its fields are its parameters.

  This base class is a family of Gaussians. Every family has one λ per example, a nest of the type `kind`, and draws z
  from noise ε ~ N(0, I) by `draw`. Steps, adjoints and bounds are about λ and such draws alone.

  A family with `trained = True` has a field `network`, which belongs to φ. It is None until a model sets it to what
  `make_network(latent_dim, seed, dtype)` returns.

  Attributes:
    kind: the type of λ.
    trained: whether the family has weights.
    kl_in_closed_form: whether KL(q_λ ‖ p), in nats, is known without draws. If not, it is estimated by
      log q(z) − log p(z) at the draws of the likelihood.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.posteriors import POSTERIORS
    >>> family = POSTERIORS.get("full")()
    >>> params = family.start((tf.zeros([1, 2]), tf.zeros([1, 2])))  # what an encoder gives
    >>> params.scale_tril[0].numpy().tolist()
    [[1.0, 0.0], [0.0, 1.0]]
  """

  kind: ClassVar[type[Params]] = GaussianParams
  trained: ClassVar[bool] = False
  kl_in_closed_form: ClassVar[bool] = True

  def start(self, outputs: Sequence[tf.Tensor]) -> Params:
    """λ_0 from what an encoder gives: (mean, log_var), each `[batch, latent]`, or all parts of λ.

    Raises:
      ValueError: the encoder gives another number of tensors.
    """
    outputs = tuple(outputs)
    fields: Any = getattr(self.kind, "_fields", ())
    if len(outputs) == 2:
      return self.kind.of_diagonal(*outputs)
    if len(outputs) != len(fields):
      raise ValueError(
        f"An encoder gives mean and log_var, or {', '.join(fields)}. Received: {len(outputs)} tensors"
      )
    return self.kind(*outputs)

  def distribution(self, params: Params) -> tfp.distributions.Distribution:
    """q_λ as a TFP distribution: event `[latent]`, batch `[...]`."""
    return params.distribution()

  def sample(self, params: Params, noise: tf.Tensor) -> tf.Tensor:
    """The draw z that ε `[..., latent]` gives, differentiable with respect to λ."""
    return params.sample(noise)

  def draw(self, params: Params, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The draw z, and log p(z) − log q_λ(z) there, `[...]`, nats."""
    z = self.sample(params, noise)
    return z, prior(z).log_prob(z) - self.distribution(params).log_prob(z)

  def center(self, params: Params) -> tf.Tensor:
    """The z of ε = 0, `[..., latent]`; of a Gaussian its mean."""
    return params.mean

  def entropy(self, params: Params, noise: tf.Tensor) -> tf.Tensor:
    """The entropy of q_λ, `[...]`, nats; estimated at the draw that ε gives if there is no closed form."""
    del noise
    # Of any Gaussian here: log_var is twice the log of the diagonal of the triangular factor.
    return 0.5 * tf.reduce_sum(params.log_var + 1.0 + math.log(2.0 * math.pi), axis=-1)

  def columns(self, params: Params) -> dict[str, tf.Tensor]:
    """What is reported of λ: arrays by name, each with the batch in front."""
    return {"mean": params.mean, "log_var": params.log_var}

  def texts(self, latent_dim: int) -> dict[str, str]:
    """What the columns are, by name; `{q}` stands for the posterior."""
    return {"mean": f"μ of {{q}}, `[{latent_dim}]`", "log_var": f"log σ² of {{q}}, `[{latent_dim}]`"}


@dataclasses.dataclass(frozen=True)
class Diagonal(PosteriorFamily):
  """N(μ, diag σ²), the posterior of the paper.

  Example:
    >>> from tf_savae.posteriors import Diagonal
    >>> Diagonal().kind.__name__
    'GaussianParams'
  """


DIAGONAL = Diagonal()


def get(family: str | PosteriorFamily) -> PosteriorFamily:
  """The family for a name in `POSTERIORS`, or the object itself.

  Raises:
    ValueError: the name is unknown, or it is no family.
  """
  if isinstance(family, str):
    return POSTERIORS.get(family)()
  if not isinstance(family, PosteriorFamily):
    names = ", ".join(POSTERIORS.names())
    raise ValueError(f"posterior is one of {names}, or a PosteriorFamily. Received: {family!r}")
  return family
