"""The posterior N(μ, L Lᵀ): its densities and KLs are TFP's, and its natural gradient is that of the Fisher matrix."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.tiny import normal, relative_error
from tf_savae import GaussianParams, SVISettings, refine
from tf_savae.full_gaussian import FullGaussianParams, entries_below, strictly_lower
from tf_savae.svi.rules import NaturalGradient

tfd = tfp.distributions
SIZES = (1, 2, 4)


def full(latent: int, seed: int = 0, batch: int = 3) -> FullGaussianParams:
  sizes = (latent, latent, latent * (latent - 1) // 2)
  return FullGaussianParams(*(0.6 * normal(batch, n, seed=seed + i) for i, n in enumerate(sizes)))


@pytest.mark.parametrize("latent", SIZES)
def test_packed_lambda_and_triangle_are_read_back(latent):
  params = full(latent)
  assert params.pack().shape[-1] == FullGaussianParams.size(latent)
  for part, again in zip(params, FullGaussianParams.unpack(params.pack()), strict=True):
    np.testing.assert_array_equal(part, again)
  matrix = normal(3, latent, latent)
  below = strictly_lower(entries_below(matrix), latent).numpy()
  np.testing.assert_array_equal(below, np.tril(matrix.numpy(), -1))
  np.testing.assert_array_equal(np.triu(params.scale_tril), np.triu(np.tril(params.scale_tril)))


@pytest.mark.parametrize("latent", SIZES)
def test_kls_are_those_of_tfp_and_add_up_over_latents(latent):
  q, r = full(latent), full(latent, seed=5)
  prior = tfd.MultivariateNormalDiag(tf.zeros([latent], tf.float64), tf.ones([latent], tf.float64))
  np.testing.assert_allclose(q.kl_to_prior(), tfd.kl_divergence(q.distribution(), prior), rtol=1e-12)
  np.testing.assert_allclose(tf.reduce_sum(q.kl_of_latents(), -1), q.kl_to_prior(), rtol=1e-12)
  gaussian = tfd.MultivariateNormalFullCovariance
  pair = [gaussian(p.mean, tf.matmul(p.scale_tril, p.scale_tril, transpose_b=True)) for p in (q, r)]
  np.testing.assert_allclose(q.kl_to(r), tfd.kl_divergence(*pair), rtol=1e-10)


def test_kl_is_the_mean_log_ratio_of_draws():
  q, draws = full(3), 40_000
  z = q.sample(normal(draws, 3, 3, seed=9))
  ratio = q.distribution().log_prob(z) - tfd.MultivariateNormalDiag(tf.zeros_like(q.mean)).log_prob(z)
  se = ratio.numpy().std(axis=0) / np.sqrt(draws)
  assert np.all(np.abs(ratio.numpy().mean(axis=0) - q.kl_to_prior()) < 4 * se)


@pytest.mark.parametrize("latent", SIZES)
def test_a_diagonal_factor_is_the_diagonal_gaussian(latent):
  diagonal = GaussianParams(normal(3, latent, seed=1), normal(3, latent, seed=2))
  same, noise = FullGaussianParams.of_diagonal(*diagonal), normal(3, latent, seed=3)
  np.testing.assert_allclose(same.sample(noise), diagonal.sample(noise), rtol=1e-12)
  np.testing.assert_allclose(same.kl_of_latents(), diagonal.kl_of_latents(), rtol=1e-12)
  np.testing.assert_allclose(same.marginal_log_var, diagonal.log_var, rtol=1e-9, atol=1e-12)
  gradient = GaussianParams(normal(3, latent, seed=4), normal(3, latent, seed=5))
  ours, _ = (
    NaturalGradient()
    .for_params(FullGaussianParams)
    .update(
      0, same.pack(), FullGaussianParams.of_diagonal(*gradient).pack(), (), tf.constant([0.1], tf.float64)
    )
  )
  theirs, _ = NaturalGradient().update(
    0, diagonal.pack(), gradient.pack(), (), tf.constant([0.1], tf.float64)
  )
  np.testing.assert_allclose(ours[:, : 2 * latent], theirs, rtol=1e-12)


def test_derivatives_along_a_tangent_are_those_of_a_tape():
  params, along, noise = full(3), full(3, seed=7), normal(3, 3, seed=4)
  with tf.autodiff.ForwardAccumulator(list(params), list(along)) as forward:
    z, kl = params.sample(noise), params.kl_of_latents()
  np.testing.assert_allclose(params.sample_derivative(noise, along), forward.jvp(z), rtol=1e-10)
  np.testing.assert_allclose(params.kl_of_latents_derivative(along), forward.jvp(kl), rtol=1e-10)


def test_a_small_natural_step_is_the_inverse_fisher_matrix_times_the_gradient():
  """The Fisher matrix is the Hessian of KL(q_λ ‖ q_λ') at λ' = λ."""
  latent, size = 3, 1e-6
  params, gradient = full(latent, batch=1), full(latent, seed=8, batch=1)
  at = tf.constant(params.pack())
  with tf.GradientTape() as outer:
    outer.watch(at)
    with tf.GradientTape() as inner:
      inner.watch(at)
      kl = params.kl_to(FullGaussianParams.unpack(at))
    first = inner.gradient(kl, at)[0]
  fisher = outer.jacobian(first, at)[:, 0].numpy()
  rule = NaturalGradient(trust=None, log_var_range=None).for_params(FullGaussianParams)
  moved, _ = rule.update(0, params.pack(), gradient.pack(), (), tf.constant([size], tf.float64))
  direction = (moved - params.pack())[0].numpy() / size
  np.testing.assert_allclose(direction, -np.linalg.solve(fisher, gradient.pack()[0]), rtol=1e-4, atol=1e-6)
  packed = gradient.pack()[0].numpy()
  square = tf.reduce_sum(params.in_natural_units(gradient) ** 2)
  np.testing.assert_allclose(square, packed @ np.linalg.solve(fisher, packed), rtol=1e-9)


@pytest.mark.parametrize("rule", ["natural", "gradient", "adam"])
def test_steps_reach_the_exact_posterior_of_a_linear_gaussian_model_which_no_diagonal_one_does(rule):
  """x = A z + noise: the posterior is N(S Aᵀ x, S), S = (I + Aᵀ A)⁻¹. L is quadratic, so sigma points are exact."""
  latent, steps = 2, 80
  a, x = tf.constant([[1.5, 1.2], [0.3, -0.9], [1.0, 1.1]], tf.float64), normal(2, 3, seed=2)
  covariance = np.linalg.inv(np.eye(latent) + a.numpy().T @ a.numpy())
  mean = x.numpy() @ a.numpy() @ covariance
  sigma_points = np.sqrt(latent) * np.concatenate([np.eye(latent), -np.eye(latent)])
  noise = tf.constant(np.tile(sigma_points[np.newaxis, :, np.newaxis], [steps, 1, 2, 1]))

  def neg_elbo(params, noise):
    residual = x - tf.matmul(params.sample(noise), a, transpose_b=True)
    log_prob = tfd.MultivariateNormalDiag(tf.zeros_like(residual)).log_prob(residual)
    return params.kl_to_prior() - log_prob

  marginal = tfd.MultivariateNormalFullCovariance(tf.zeros([3], tf.float64), a @ tf.transpose(a) + np.eye(3))
  size = {"natural": 0.3, "gradient": 0.15, "adam": 0.1}[rule]
  settings = SVISettings(steps, size, rule=rule, num_samples=2 * latent)
  gaps = {}
  for kind in (GaussianParams, FullGaussianParams):
    start = kind.of_diagonal(tf.zeros_like(x[:, :latent]), tf.zeros_like(x[:, :latent]))
    params = tf.function(lambda start: refine(neg_elbo, start, settings, noise=noise).params)(start)
    bound = tf.reduce_mean([neg_elbo(params, each) for each in noise[0]], axis=0)
    gaps[kind] = bound + marginal.log_prob(x)
  assert np.all(gaps[GaussianParams] > 0.05)
  assert np.all(np.abs(gaps[FullGaussianParams]) < 1e-3)
  factor = params.scale_tril
  found = tf.matmul(factor, factor, transpose_b=True)
  assert relative_error(found, np.broadcast_to(covariance, found.shape)) < 0.05
  np.testing.assert_allclose(params.mean, mean, atol=0.05)


def test_step_sizes_of_latents_are_those_of_the_rows_of_the_factor():
  sizes = tf.constant([[0.1, 0.2, 0.3, 1.0, 2.0, 3.0]])
  of_factor = FullGaussianParams.unpack(FullGaussianParams.widened(sizes))
  np.testing.assert_array_equal(
    strictly_lower(of_factor.lower, 3)[0], tf.constant([[0.0, 0, 0], [2, 0, 0], [3, 3, 0]])
  )


def test_xla_compiles_the_gradient_through_natural_steps_for_batches_of_any_size():
  """TFP's triangles abort XLA for two latents, and `tf.linalg.set_diag` has a gradient of unknown shape."""
  skew, target = tf.constant([[1.0, 0.5], [0.0, 1.0]], tf.float64), tf.constant([2.0, 1.0], tf.float64)

  def neg_elbo(params, noise):
    error = tf.linalg.matvec(skew, params.sample(noise)) - target
    return tf.reduce_sum(error**2, axis=-1) + params.kl_to_prior()

  def gradient(packed, noise):
    with tf.GradientTape() as tape:
      tape.watch(packed)
      settings = SVISettings(2, 0.1, rule="natural")
      params, _ = refine(neg_elbo, FullGaussianParams.unpack(packed), settings, noise=noise)
      loss = tf.reduce_sum(neg_elbo(params, noise[0]))
    return tape.gradient(loss, packed)

  signature = [tf.TensorSpec([None, 5], tf.float64), tf.TensorSpec([2, None, 2], tf.float64)]
  compiled = tf.function(gradient, input_signature=signature, jit_compile=True, autograph=False)
  start, noise = full(2).pack(), normal(2, 3, 2, seed=9)
  np.testing.assert_allclose(compiled(start, noise), gradient(start, noise), rtol=1e-10)
