"""The diagonal Gaussian posterior q_λ(z) = N(μ, diag σ²), λ = (μ, log σ²)."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


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

  def kl_to_prior(self) -> tf.Tensor:
    """KL(q_λ ‖ N(0, I)) in nats, `[...]`, in closed form."""
    return tfd.kl_divergence(self.distribution(), prior(self.mean))

  def kl_of_latents(self) -> tf.Tensor:
    """KL(q_λ ‖ N(0, I)) of each latent, `[..., latent]`, nats; `kl_to_prior` is their sum."""
    zeros = tf.zeros_like(self.mean)
    return tfd.kl_divergence(tfd.Normal(self.mean, self.stddev), tfd.Normal(zeros, tf.ones_like(zeros)))

  def kl_to(self, other: GaussianParams) -> tf.Tensor:
    """KL(q_λ ‖ q_other) in nats, `[...]`, in closed form."""
    return tfd.kl_divergence(self.distribution(), other.distribution())


def prior(like: tf.Tensor) -> tfp.distributions.Distribution:
  """p(z) = N(0, I) with the event size and dtype of `like` `[..., latent]`."""
  zeros = tf.zeros_like(like)
  return tfd.Independent(tfd.Normal(zeros, tf.ones_like(zeros)), reinterpreted_batch_ndims=1)
