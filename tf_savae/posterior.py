"""The diagonal Gaussian posterior q_λ(z) = N(μ, diag σ²), λ = (μ, log σ²)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


class Params(Protocol):
  """What the refinement needs of λ, whatever the family of q_λ: a NamedTuple with these.

  The packed λ is one tensor: μ first, then what the spread of q is made of. Step rules see it in this form.
  """

  @property
  def mean(self) -> tf.Tensor:
    """μ, `[..., latent]`."""

  @property
  def log_var(self) -> tf.Tensor:
    """The log of the squared scale of each latent, `[..., latent]`."""

  def __iter__(self) -> Iterator[tf.Tensor]: ...

  def pack(self) -> tf.Tensor:
    """λ as one tensor `[..., size]`."""

  @classmethod
  def unpack(cls, packed: tf.Tensor) -> Params:
    """The inverse of `pack`."""

  @classmethod
  def size(cls, latent_dim: int) -> int:
    """How many numbers the packed λ of an example has."""

  @classmethod
  def of_diagonal(cls, mean: tf.Tensor, log_var: tf.Tensor) -> Params:
    """The λ of the diagonal Gaussian N(μ, diag σ²)."""

  @classmethod
  def widened(cls, sizes: tf.Tensor) -> tf.Tensor:
    """Step sizes of all entries of λ `[..., size]`, from those of μ and log σ² `[..., 2 · latent]`."""

  def distribution(self) -> tfp.distributions.Distribution:
    """The Gaussian as a TFP distribution: event `[latent]`, batch `[...]`."""

  def sample(self, noise: tf.Tensor) -> tf.Tensor:
    """The draw that ε `[..., latent]` gives."""

  def sample_derivative(self, noise: tf.Tensor, tangent: Any) -> tf.Tensor:
    """The derivative of `sample(noise)` along a tangent of λ, `[..., latent]`."""

  def kl_to_prior(self) -> tf.Tensor:
    """KL(q_λ ‖ N(0, I)) in nats, `[...]`."""

  def kl_of_latents(self) -> tf.Tensor:
    """The parts of `kl_to_prior` that latents have, `[..., latent]`, nats."""

  def kl_of_latents_derivative(self, tangent: Any) -> tf.Tensor:
    """The derivative of `kl_of_latents` along a tangent of λ, `[..., latent]`."""

  def inverse_fisher(self) -> tf.Tensor:
    """An approximation of the diagonal of the inverse Fisher information, packed, positive."""

  def in_natural_units(self, gradient: Any) -> tf.Tensor:
    """A gradient g, packed, in coordinates in which its squared norm is gᵀ F⁻¹ g, F the Fisher information."""


class GaussianParams(NamedTuple):
  """Posterior parameters λ = (μ, log σ²) of q_λ(z) = N(μ, diag σ²).

  A NamedTuple, so that λ is a nest: it passes through `tf.function`,
  `tf.while_loop` and Keras layers, and linear algebra on it is
  `tf.nest.map_structure`.

  Attributes:
    mean: μ, `[..., latent]`.
    log_var: log σ², `[..., latent]`.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae import GaussianParams
    >>> params = GaussianParams(mean=tf.zeros([3, 2]), log_var=tf.zeros([3, 2]))
    >>> params.kl_to_prior().numpy().tolist()  # nats, of each example
    [0.0, 0.0, 0.0]
    >>> params.sample(tf.ones([3, 2])).numpy().tolist()[0]
    [1.0, 1.0]
  """

  mean: tf.Tensor
  log_var: tf.Tensor

  @property
  def stddev(self) -> tf.Tensor:
    """σ, `[..., latent]`."""
    return tf.exp(0.5 * self.log_var)

  def pack(self) -> tf.Tensor:
    """λ as one tensor `[..., 2 · latent]`: μ, then log σ²."""
    return tf.concat([self.mean, self.log_var], axis=-1)

  @classmethod
  def unpack(cls, packed: tf.Tensor) -> GaussianParams:
    """The inverse of `pack`."""
    return cls(*tf.split(packed, 2, axis=-1))

  @classmethod
  def size(cls, latent_dim: int) -> int:
    """How many numbers the packed λ of an example has."""
    return 2 * latent_dim

  @classmethod
  def of_diagonal(cls, mean: tf.Tensor, log_var: tf.Tensor) -> GaussianParams:
    """λ itself: this family is the diagonal one."""
    return cls(mean, log_var)

  @classmethod
  def widened(cls, sizes: tf.Tensor) -> tf.Tensor:
    """Step sizes of all entries of λ: those of μ and log σ² `[..., 2 · latent]`, unchanged."""
    return sizes

  def distribution(self) -> tfp.distributions.Distribution:
    """q_λ as a TFP distribution: event `[latent]`, batch `[...]`."""
    return tfd.Independent(tfd.Normal(self.mean, self.stddev), reinterpreted_batch_ndims=1)

  def sample(self, noise: tf.Tensor) -> tf.Tensor:
    """Reparameterised draw z = μ + σ ε.

    Args:
      noise: ε ~ N(0, I), of a shape that broadcasts with `[..., latent]`.

    Returns:
      z, differentiable with respect to μ and log σ².
    """
    return self.mean + self.stddev * noise

  def sample_derivative(self, noise: tf.Tensor, tangent: GaussianParams) -> tf.Tensor:
    """The derivative of `sample(noise)` along a tangent of λ: dμ + ½ σ ε d(log σ²)."""
    return tangent.mean + 0.5 * self.stddev * noise * tangent.log_var

  def kl_to_prior(self) -> tf.Tensor:
    """KL(q_λ ‖ N(0, I)) in nats, `[...]`, in closed form."""
    return tfd.kl_divergence(self.distribution(), prior(self.mean))

  def kl_of_latents(self) -> tf.Tensor:
    """KL(q_λ ‖ N(0, I)) of each latent, `[..., latent]`, nats; `kl_to_prior` is their sum."""
    zeros = tf.zeros_like(self.mean)
    return tfd.kl_divergence(tfd.Normal(self.mean, self.stddev), tfd.Normal(zeros, tf.ones_like(zeros)))

  def kl_of_latents_derivative(self, tangent: GaussianParams) -> tf.Tensor:
    """The derivative of `kl_of_latents` along a tangent of λ, `[..., latent]`."""
    return tangent.mean * self.mean + 0.5 * tangent.log_var * tf.math.expm1(self.log_var)

  def inverse_fisher(self) -> tf.Tensor:
    """The inverse Fisher information, which is diagonal: σ² for μ and 2 for log σ², packed."""
    return tf.concat([tf.exp(self.log_var), 2.0 * tf.ones_like(self.log_var)], axis=-1)

  def in_natural_units(self, gradient: GaussianParams) -> tf.Tensor:
    """A gradient, packed, measured by σ for μ and by √2 for log σ²: its squared norm is gᵀ F⁻¹ g."""
    return tf.concat([self.stddev * gradient.mean, math.sqrt(2.0) * gradient.log_var], axis=-1)

  def kl_to(self, other: GaussianParams) -> tf.Tensor:
    """KL(q_λ ‖ q_other) in nats, `[...]`, in closed form."""
    return tfd.kl_divergence(self.distribution(), other.distribution())


def prior(like: tf.Tensor) -> tfp.distributions.Distribution:
  """p(z) = N(0, I) with the event size and dtype of `like` `[..., latent]`."""
  zeros = tf.zeros_like(like)
  return tfd.Independent(tfd.Normal(zeros, tf.ones_like(zeros)), reinterpreted_batch_ndims=1)
