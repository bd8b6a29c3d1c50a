"""The full-covariance Gaussian posterior q_λ(z) = N(μ, L Lᵀ), λ = (μ, the Cholesky factor L with log-diagonal)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

__all__ = ["FullGaussianParams"]

tfd = tfp.distributions


class FullGaussianParams(NamedTuple):
  """Posterior parameters λ of q_λ(z) = N(μ, L Lᵀ), where L is lower triangular with a positive diagonal.

  A nest, as `GaussianParams` is, which it equals where `lower` is 0.

  Attributes:
    mean: μ, `[..., latent]`.
    log_var: log L_ii², `[..., latent]`: the log variance of a latent given the latents before it.
    lower: L_ij for i > j, `[..., latent · (latent − 1) / 2]`, in the order of `tfp.math.fill_triangular`.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.full_gaussian import FullGaussianParams
    >>> params = FullGaussianParams(tf.zeros([1, 2]), tf.zeros([1, 2]), tf.constant([[0.5]]))
    >>> params.scale_tril[0].numpy().tolist()
    [[1.0, 0.0], [0.5, 1.0]]
    >>> params.kl_to_prior().numpy().tolist()  # nats
    [0.125]
  """

  mean: tf.Tensor
  log_var: tf.Tensor
  lower: tf.Tensor

  @property
  def scale_tril(self) -> tf.Tensor:
    """L, `[..., latent, latent]`."""
    return strictly_lower(self.lower, self.mean.shape[-1]) + _diagonal(tf.exp(0.5 * self.log_var))

  @property
  def marginal_log_var(self) -> tf.Tensor:
    """The log variance of each latent by itself, log (L Lᵀ)_ii, `[..., latent]`."""
    return tf.math.log(tf.exp(self.log_var) + self._rows(tf.square(self.lower)))

  def pack(self) -> tf.Tensor:
    """λ as one tensor `[..., latent · (latent + 3) / 2]`: μ, log L_ii², then the other entries of L."""
    return tf.concat([self.mean, self.log_var, self.lower], axis=-1)

  @classmethod
  def unpack(cls, packed: tf.Tensor) -> FullGaussianParams:
    """The inverse of `pack`."""
    latent = _latent_dim(packed.shape[-1])
    return cls(*tf.split(packed, [latent, latent, latent * (latent - 1) // 2], axis=-1))

  @classmethod
  def size(cls, latent_dim: int) -> int:
    """How many numbers the packed λ of an example has."""
    return latent_dim * (latent_dim + 3) // 2

  @classmethod
  def of_diagonal(cls, mean: tf.Tensor, log_var: tf.Tensor) -> FullGaussianParams:
    """The λ of N(μ, diag σ²): L is diagonal."""
    latent = mean.shape[-1]
    size = tf.concat([tf.shape(mean)[:-1], [latent * (latent - 1) // 2]], axis=0)
    lower = tf.zeros(size, mean.dtype)
    return cls(mean, log_var, tf.ensure_shape(lower, [*mean.shape[:-1], latent * (latent - 1) // 2]))

  @classmethod
  def widened(cls, sizes: tf.Tensor) -> tf.Tensor:
    """Step sizes of all entries of λ: an entry L_ij has that of log L_ii²."""
    mean, log_var = tf.split(sizes, 2, axis=-1)
    return tf.concat([mean, log_var, _of_rows(log_var)], axis=-1)

  def distribution(self) -> tfp.distributions.Distribution:
    """q_λ as a TFP distribution: event `[latent]`, batch `[...]`."""
    return tfd.MultivariateNormalTriL(self.mean, self.scale_tril)

  def sample(self, noise: tf.Tensor) -> tf.Tensor:
    """Reparameterised draw z = μ + L ε, of noise ε ~ N(0, I) that broadcasts with `[..., latent]`."""
    return self.mean + tf.linalg.matvec(self.scale_tril, noise)

  def sample_derivative(self, noise: tf.Tensor, tangent: FullGaussianParams) -> tf.Tensor:
    """The derivative of `sample(noise)` along a tangent of λ: dμ + dL ε."""
    diagonal = 0.5 * tf.exp(0.5 * self.log_var) * noise * tangent.log_var
    below = strictly_lower(tangent.lower, self.mean.shape[-1])
    return tangent.mean + diagonal + tf.linalg.matvec(below, noise)

  def kl_to_prior(self) -> tf.Tensor:
    """KL(q_λ ‖ N(0, I)) in nats, `[...]`, in closed form."""
    return tf.reduce_sum(self.kl_of_latents(), axis=-1)

  def kl_of_latents(self) -> tf.Tensor:
    """The KL of each latent given the latents before it, in expectation, `[..., latent]`, nats.

    The chain rule of the KL: because the prior has independent latents, these add up to `kl_to_prior`.
    """
    spread = tf.math.expm1(self.log_var) - self.log_var + self._rows(tf.square(self.lower))
    return 0.5 * (tf.square(self.mean) + spread)

  def kl_of_latents_derivative(self, tangent: FullGaussianParams) -> tf.Tensor:
    """The derivative of `kl_of_latents` along a tangent of λ, `[..., latent]`."""
    of_diagonal = tangent.mean * self.mean + 0.5 * tangent.log_var * tf.math.expm1(self.log_var)
    return of_diagonal + self._rows(self.lower * tangent.lower)

  def kl_to(self, other: FullGaussianParams) -> tf.Tensor:
    """KL(q_λ ‖ q_other) in nats, `[...]`, in closed form."""
    return tfd.kl_divergence(self.distribution(), other.distribution())

  def inverse_fisher(self) -> tf.Tensor:
    """The diagonal of the inverse Fisher information, where that of L is taken at a diagonal L, packed."""
    variance = tf.exp(self.log_var)
    of_mean = variance + self._rows(tf.square(self.lower))
    return tf.concat([of_mean, 2.0 * tf.ones_like(variance), _of_rows(variance)], axis=-1)

  def whitened(self, gradient: FullGaussianParams) -> FullGaussianParams:
    """The natural gradient in the coordinates m and A of N(μ + L m, L (I + A) (I + A)ᵀ Lᵀ), A lower triangular.

    At m = 0, A = 0 the Fisher information is diagonal: 1 for m, 2 for A_ii and 1 for A_ij. The natural gradient is
    therefore Lᵀ g_μ, ½ (Lᵀ G)_ii and (Lᵀ G)_ij, where G is the gradient with respect to L. As d log L_ii² = 2 dA_ii,
    the middle part is given twice as large, as a gradient step in log L_ii².

    Source: Tan (2021), arXiv 2109.00375; Lin et al. (2021), arXiv 2102.07405.
    """
    factor = self.scale_tril
    by_diagonal = 2.0 * gradient.log_var * tf.exp(-0.5 * self.log_var)
    by_factor = strictly_lower(gradient.lower, self.mean.shape[-1]) + _diagonal(by_diagonal)
    product = tf.linalg.matmul(factor, by_factor, transpose_a=True)
    return FullGaussianParams(
      tf.linalg.matvec(factor, gradient.mean, transpose_a=True),
      tf.reduce_sum(product * _identity(product), axis=-1),
      entries_below(product),
    )

  def moved(self, along: FullGaussianParams) -> FullGaussianParams:
    """The λ at m, log L_ii² and A_ij from here, the coordinates of `whitened`: μ + L m and L exp(diag A) + L A_ij."""
    factor, latent = self.scale_tril, self.mean.shape[-1]
    grown = strictly_lower(along.lower, latent) + _diagonal(tf.exp(0.5 * along.log_var))
    return FullGaussianParams(
      self.mean + tf.linalg.matvec(factor, along.mean),
      self.log_var + along.log_var,
      entries_below(tf.linalg.matmul(factor, grown)),
    )

  def in_natural_units(self, gradient: FullGaussianParams) -> tf.Tensor:
    """A gradient g, packed, whitened: its squared norm is gᵀ F⁻¹ g, F the Fisher information."""
    whitened = self.whitened(gradient)
    return whitened._replace(log_var=math.sqrt(0.5) * whitened.log_var).pack()

  def _rows(self, of_lower):
    """Sums over j < i of something that each L_ij has, `[..., latent]`."""
    return tf.reduce_sum(strictly_lower(of_lower, self.mean.shape[-1]), axis=-1)


def strictly_lower(lower: tf.Tensor, latent_dim: int) -> tf.Tensor:
  """The matrices `[..., latent, latent]` with these entries below their diagonal, and 0 on and above it."""
  if latent_dim == 1:
    return tf.zeros(tf.concat([tf.shape(lower)[:-1], [1, 1]], axis=0), lower.dtype)
  # TFP would slice off an empty part of one entry, and XLA aborts at the gradient of that inside a loop.
  filled = lower[..., tf.newaxis] if latent_dim == 2 else tfp.math.fill_triangular(lower)
  return tf.pad(filled, [[0, 0]] * (filled.shape.rank - 2) + [[1, 0], [0, 1]])


def entries_below(matrix: tf.Tensor) -> tf.Tensor:
  """The inverse of `strictly_lower`; what stands on and above the diagonal is left out."""
  if matrix.shape[-1] == 1:
    return matrix[..., 0, :0]
  if matrix.shape[-1] == 2:
    return matrix[..., 1, :1]
  # TFP's inverse adds up what stands above the diagonal, which must be 0.
  return tfp.math.fill_triangular_inverse(tf.linalg.band_part(matrix[..., 1:, :-1], -1, 0))


def _diagonal(entries):
  """Diagonal matrices by arithmetic: XLA cannot compile the gradient of `tf.linalg.set_diag` inside a loop."""
  return entries[..., tf.newaxis] * _identity(entries)


def _identity(like):
  return tf.eye(like.shape[-1], dtype=like.dtype)


def _of_rows(of_latents):
  """For each L_ij what latent i has, `[..., latent · (latent − 1) / 2]`."""
  latent = of_latents.shape[-1]
  if latent == 1:
    return of_latents[..., :0]
  rows = np.tril(np.repeat(np.arange(1, latent)[:, np.newaxis], latent - 1, axis=1))
  return tf.gather(of_latents, tfp.math.fill_triangular_inverse(rows), axis=-1)


def _latent_dim(size):
  """The number of latents of a λ with `size` entries."""
  return (math.isqrt(9 + 8 * size) - 3) // 2
