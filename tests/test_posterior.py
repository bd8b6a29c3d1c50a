"""The posterior N(μ, diag σ²): its KL divergences are the textbook's, its draws are reparameterised."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.tiny import normal, relative_error
from tf_savae.posterior import GaussianParams, prior

tfd = tfp.distributions


@pytest.fixture
def q():
  return GaussianParams(normal(5, 4, seed=1), 0.7 * normal(5, 4, seed=2))


@pytest.fixture
def r():
  return GaussianParams(normal(5, 4, seed=3), 0.7 * normal(5, 4, seed=4))


def test_kl_to_prior_is_half_the_sum_of_mu2_plus_var_minus_log_var_minus_1(q):
  mean, log_var = (part.numpy() for part in q)
  formula = 0.5 * np.sum(mean**2 + np.exp(log_var) - log_var - 1, axis=-1)
  np.testing.assert_allclose(q.kl_to_prior(), formula, rtol=1e-12)


def test_kl_between_two_posteriors_is_that_of_full_covariance_gaussians(q, r):
  def full(params):
    return tfd.MultivariateNormalTriL(params.mean, tf.linalg.diag(params.stddev))

  np.testing.assert_allclose(q.kl_to(r), tfd.kl_divergence(full(q), full(r)), rtol=1e-10)


def test_kl_is_the_expected_log_ratio(q, r):
  draws = 40_000
  z = q.sample(normal(draws, 5, 4, seed=5))
  for kl, other in ((q.kl_to_prior(), prior(q.mean)), (q.kl_to(r), r.distribution())):
    ratio = (q.distribution().log_prob(z) - other.log_prob(z)).numpy()
    standard_error = ratio.std(axis=0) / np.sqrt(draws)
    assert np.all(np.abs(ratio.mean(axis=0) - kl) < 4 * standard_error)


def test_kl_to_itself_is_zero_and_the_prior_is_the_standard_normal(q):
  np.testing.assert_allclose(q.kl_to(q), np.zeros(5), atol=1e-14)
  standard = GaussianParams(tf.zeros_like(q.mean), tf.zeros_like(q.mean))
  np.testing.assert_array_equal(standard.kl_to_prior(), np.zeros(5))
  np.testing.assert_allclose(q.kl_to(standard), q.kl_to_prior(), rtol=1e-12)


def test_stddev_is_the_root_of_exp_log_var(q):
  np.testing.assert_allclose(q.stddev**2, tf.exp(q.log_var), rtol=1e-12)


def test_draws_have_the_gradient_of_mu_plus_sigma_epsilon(q):
  noise, weight = normal(5, 4, seed=6), normal(5, 4, seed=7)
  with tf.GradientTape() as tape:
    tape.watch(q)
    value = tf.reduce_sum(weight * q.sample(noise))
  d_mean, d_log_var = tape.gradient(value, list(q))
  np.testing.assert_allclose(d_mean, weight, rtol=1e-12)
  np.testing.assert_allclose(d_log_var, 0.5 * q.stddev * noise * weight, rtol=1e-12)


def test_draws_have_the_posteriors_mean_and_spread(q):
  z = q.sample(normal(40_000, 5, 4, seed=8)).numpy()
  np.testing.assert_allclose(z.mean(axis=0), q.mean, atol=4 * float(tf.reduce_max(q.stddev)) / 200)
  assert relative_error(z.std(axis=0), q.stddev) < 0.02


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_changes_the_dtype(q, dtype):
  q = GaussianParams(*(tf.cast(part, dtype) for part in q))
  noise = normal(5, 4, dtype=dtype)
  for tensor in (q.stddev, q.sample(noise), q.kl_to_prior(), q.kl_to(q), q.distribution().log_prob(noise)):
    assert tensor.dtype == dtype


def test_lambda_is_a_nest(q):
  doubled = tf.nest.map_structure(lambda part: 2 * part, q)
  assert isinstance(doubled, GaussianParams)
  np.testing.assert_array_equal(doubled.log_var, 2 * q.log_var)
