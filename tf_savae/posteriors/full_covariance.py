"""The family of Gaussians with a full covariance."""

from __future__ import annotations

import dataclasses

from tf_savae.full_gaussian import FullGaussianParams
from tf_savae.posteriors.family import PosteriorFamily


@dataclasses.dataclass(frozen=True)
class FullCovariance(PosteriorFamily):
  """N(μ, L Lᵀ), λ = (μ, the Cholesky factor L): latents may be dependent.

  λ has latent · (latent + 3) / 2 numbers per example. An encoder that gives mean and log_var alone starts the steps at
  a diagonal L. The KL is in closed form, and so is its natural gradient, see `FullGaussianParams.whitened`.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.posteriors import FullCovariance
    >>> params = FullCovariance().start((tf.zeros([3, 4]), tf.zeros([3, 4]), 0.1 * tf.ones([3, 6])))
    >>> FullCovariance().columns(params)["scale_tril"].shape
    TensorShape([3, 4, 4])
  """

  kind = FullGaussianParams

  def columns(self, params):
    """μ, the log of each latent's own variance, and L, which has both."""
    return {"mean": params.mean, "log_var": params.marginal_log_var, "scale_tril": params.scale_tril}

  def texts(self, latent_dim):
    factor = f"L of {{q}}, whose covariance is L Lᵀ, `[{latent_dim}, {latent_dim}]`"
    return super().texts(latent_dim) | {"scale_tril": factor}
