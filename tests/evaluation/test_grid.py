"""Exact inference by a grid: against closed forms, importance sampling, and every other Gaussian."""

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tf_savae import SAVAE, SVISettings, networks
from tf_savae.evaluation import grid
from tf_savae.posterior import GaussianParams

SIZE = 3


def linear_gaussian(scale=1.0):
  """p(x | z) = N(A z + b, scale² I), three observations, and its posteriors' mean `[3, 2]` and precision `[2, 2]`."""
  decoder = tiny.GaussianDecoder(SIZE, 2, scale, dtype="float64")
  x = tiny.normal(3, SIZE, seed=5)
  kernel = decoder.kernel.numpy()
  precision = np.eye(2) + kernel @ kernel.T / scale**2
  mean = (x.numpy() - decoder.bias.numpy()) @ kernel.T @ np.linalg.inv(precision) / scale**2
  return decoder, x, mean, precision


def posterior(decoder, x, context=(), **options):
  return tf.function(lambda: grid.posterior(decoder, x, context, **options), autograph=False)()


def best_gaussian(found, starts=()):
  return tf.function(lambda: grid.best_gaussian(found, starts), autograph=False)()


def elbo(decoder, x, context, params, nodes=20):
  return tf.function(lambda: grid.elbo(decoder, x, context, params, nodes), autograph=False)()


def lstm(dtype="float64"):
  decoder = networks.LSTMDecoder(5, 2, 3, 4, length=4, init_scale=1.5, dtype=dtype)
  x = tiny.tokens(6)
  return decoder, x, decoder.precompute(x)


@pytest.fixture(scope="module")
def of_lstm():
  decoder, x, context = lstm()
  return posterior(decoder, x, context)


@pytest.fixture(scope="module")
def best_of_lstm(of_lstm):
  return best_gaussian(of_lstm)


# At 0.01 the posterior is far narrower than a step of the first grid.
@pytest.mark.parametrize("scale", [1.0, 0.1, 0.01])
def test_a_linear_gaussian_has_its_closed_forms(scale):
  decoder, x, mean, precision = linear_gaussian(scale)
  found = posterior(decoder, x, levels=3 if scale == 0.01 else 2)
  np.testing.assert_allclose(found.log_likelihood, decoder.exact_log_prob(x), rtol=1e-6, atol=1e-5)
  np.testing.assert_allclose(tf.reduce_sum(found.mass, axis=[1, 2]), 1)
  moments = found.moments()
  np.testing.assert_allclose(moments[0], mean, atol=1e-4)
  np.testing.assert_allclose(moments[1], [np.linalg.inv(precision)] * 3, rtol=1e-3, atol=1e-6)
  assert np.max(found.outside) < 1e-6


def test_the_best_gaussian_of_a_gaussian_has_its_mean_and_the_inverse_diagonal_of_its_precision():
  decoder, x, mean, precision = linear_gaussian(0.3)
  best = best_gaussian(posterior(decoder, x))
  np.testing.assert_allclose(best.mean, mean, atol=1e-4)
  np.testing.assert_allclose(best.log_var, [-np.log(np.diag(precision))] * 3, atol=1e-3)
  # KL(q ‖ p(z | x)) with equal means = ½ (Σ log Λ_ii − log |Λ|).
  gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
  assert gap > 0.01
  np.testing.assert_allclose(decoder.exact_log_prob(x) - elbo(decoder, x, (), best), gap, rtol=1e-3)


def test_log_likelihood_is_that_of_importance_sampling(of_lstm):
  decoder, x, _ = lstm()
  encoder = networks.LSTMEncoder(5, 2, 3, 4, dtype="float64")
  model = SAVAE(encoder, decoder, "vae", SVISettings(0), dtype="float64")
  estimate = tf.function(lambda x: model.log_likelihood(x, num_samples=4000))(x)
  np.testing.assert_allclose(of_lstm.log_likelihood, estimate, atol=0.05)


def test_the_step_error_is_that_of_the_grid_with_half_of_the_points(of_lstm):
  decoder, x, context = lstm()
  coarse = posterior(decoder, x, context, size=13)
  change = np.abs(coarse.log_likelihood - of_lstm.log_likelihood)
  assert np.all(change < coarse.step_error) and np.max(change) > 1e-4
  assert np.max(of_lstm.step_error) < 1e-3 and np.max(of_lstm.outside) < 1e-6


def test_a_small_radius_is_noticed():
  decoder, x, _, _ = linear_gaussian()
  far = x + 20.0
  assert np.min(posterior(decoder, far, radius=1.0, size=9).outside) > 1e-3


def test_no_gaussian_beats_the_best_one(of_lstm, best_of_lstm):
  decoder, x, context = lstm()
  best = best_of_lstm
  value = tf.function(lambda params: grid.elbo(decoder, x, context, params))
  top = value(best).numpy()
  assert np.all(top <= of_lstm.log_likelihood)
  for seed in range(8):
    near = 0.02 if seed % 2 else 1.0
    other = GaussianParams(*(part + near * tiny.normal(6, 2, seed=seed) for part in best))
    assert np.all(value(other) <= top + 2e-4)


def test_both_ways_to_take_the_expectation_agree(of_lstm, best_of_lstm):
  decoder, x, context = lstm()
  best = best_of_lstm
  by_nodes = elbo(decoder, x, context, best)
  np.testing.assert_allclose(grid.grid_elbo(of_lstm, best), by_nodes, atol=3e-4)
  noise = tiny.normal(4000, 6, 2, seed=3)
  draws = tf.function(
    lambda: tf.map_fn(lambda e: decoder.log_prob(x, best.sample(e), context), noise[:400])
  )()
  by_draws = np.mean(draws, axis=0) - best.kl_to_prior()
  error = np.std(draws, axis=0) / np.sqrt(400)
  assert np.all(np.abs(by_draws - by_nodes) < 4 * error)


class TwoModes:
  """log p(x | z) with a hill at (−2, 0) and a lower one, x nats below, at (2, 0)."""

  latent_dim, variable_dtype = 2, "float64"

  def log_prob(self, x, z, context):
    hills = [-2 * tf.reduce_sum((z - [m, 0.0]) ** 2, axis=1) for m in (-2.0, 2.0)]
    return tf.reduce_logsumexp(tf.stack([hills[0], hills[1] - x]), axis=0)


def test_of_two_modes_the_better_one_is_found_from_any_start():
  x = tf.constant([1.0, 3.0, -1.0, -3.0], tf.float64)
  found = posterior(TwoModes(), x)
  # Prior N(0, 1) and a hill of precision 4 at ±2: at ±1.6 with precision 5.
  search = tf.function(lambda start: grid.best_gaussian(found, [start]), autograph=False)
  for sign in (-1.0, 1.0):
    best = search(
      GaussianParams(tf.constant([[sign * 1.6, 0.0]] * 4, tf.float64), tf.zeros([4, 2], tf.float64))
    )
    np.testing.assert_allclose(best.mean, [[-1.6, 0], [-1.6, 0], [1.6, 0], [1.6, 0]], atol=0.02)
    np.testing.assert_allclose(best.log_var, np.full([4, 2], -np.log(5)), atol=0.05)


def test_it_works_in_a_graph_of_any_batch_size_and_in_float32(of_lstm, best_of_lstm):
  decoder, x, _ = lstm("float32")
  decoder.set_weights(lstm()[0].get_weights())  # those of float64 are other draws

  @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.int32)], autograph=False)
  def run(x):
    found = grid.posterior(decoder, x, decoder.precompute(x))
    return found.log_likelihood, grid.best_gaussian(found)

  for part in (x, x[:2]):
    log_likelihood, best = run(part)
    np.testing.assert_allclose(log_likelihood, of_lstm.log_likelihood[: len(part)], rtol=1e-5)
    np.testing.assert_allclose(best.mean, best_of_lstm.mean[: len(part)], atol=1e-3)


def test_a_posterior_too_narrow_for_two_grids_is_noticed():
  decoder, x, _, _ = linear_gaussian(0.001)
  assert np.min(posterior(decoder, x).step_error) > 0.1


def test_other_numbers_of_latents_and_even_grids_are_refused():
  with pytest.raises(ValueError, match=r"two latents\. Received: latent_dim=3"):
    grid.posterior(tiny.GaussianDecoder(SIZE, 3), tiny.normal(2, SIZE))
  decoder, x, _, _ = linear_gaussian()
  for size in (40, 3):
    with pytest.raises(ValueError, match=f"odd and at least 5. Received: {size}"):
      grid.posterior(decoder, x, size=size)
  with pytest.raises(ValueError, match="levels=1"):
    grid.posterior(decoder, x, levels=1)
