"""The mutual information of x and z is 0 where all examples share a posterior, log N where none do."""

import numpy as np
import pytest
import tensorflow as tf

from tf_savae.evaluation import latents
from tf_savae.evaluation.latents import active_units, mutual_information
from tf_savae.posterior import GaussianParams
from tf_savae.seeds import Purpose, stateless_seed


def random_params(n, latent, spread, seed=0):
  rng = np.random.default_rng(seed)
  mean, log_var = spread * rng.normal(size=(n, latent)), rng.normal(size=(n, latent)) - 1
  return GaussianParams(mean.astype(np.float32), log_var.astype(np.float32))


def log_normal(z, mean, log_var):
  return np.sum(-0.5 * (np.log(2 * np.pi) + log_var + (z - mean) ** 2 / np.exp(log_var)))


@pytest.mark.parametrize("chunk", [1, 2 * 13 * 5, 10**6], ids=["a row", "5 rows", "all"])
def test_equals_a_double_loop_over_draws_and_examples_however_it_is_cut_up(chunk, monkeypatch):
  n, latent = 13, 2
  params = random_params(n, latent, 2.0)
  monkeypatch.setattr(latents, "_CHUNK", chunk)
  monkeypatch.setattr(latents, "_terms", latents._terms.python_function)
  value, se = mutual_information(params, seed=3)
  mean, log_var = (part.astype(np.float64) for part in params)
  noise = tf.random.stateless_normal(
    [n, latent], stateless_seed(3, 0, Purpose.MUTUAL_INFORMATION), dtype="float64"
  ).numpy()
  terms = []
  for i in range(n):
    z = mean[i] + np.exp(0.5 * log_var[i]) * noise[i]
    densities = [np.exp(log_normal(z, mean[j], log_var[j])) for j in range(n)]
    terms.append(np.log(densities[i]) - np.log(np.mean(densities)))
  assert value == pytest.approx(np.mean(terms), rel=1e-10)
  assert se == pytest.approx(np.std(terms, ddof=1) / np.sqrt(n), rel=1e-10)


def test_a_posterior_that_all_examples_share_says_nothing_of_them():
  shared = GaussianParams(np.full([50, 3], 0.7, np.float32), np.full([50, 3], -0.4, np.float32))
  value, se = mutual_information(shared, seed=0)
  assert value == pytest.approx(0, abs=1e-12) and se == pytest.approx(0, abs=1e-12)


def test_posteriors_apart_from_each_other_tell_all_n_examples_and_not_more():
  mean = 100.0 * np.arange(50, dtype=np.float32)[:, np.newaxis]
  value, _ = mutual_information(GaussianParams(mean, np.zeros_like(mean)), seed=0)
  assert value == pytest.approx(np.log(50))
  assert mutual_information(random_params(50, 4, 0.5), seed=0).value < np.log(50)


def test_narrow_posteriors_far_from_zero_lose_no_digits():
  # μ = 1000 and σ = 1e-3: float32 has no digits left for z − μ.
  mean = np.full([40, 2], 1000.0, np.float32)
  value, _ = mutual_information(GaussianParams(mean, np.full_like(mean, 2 * np.log(1e-3))), seed=0)
  assert value == pytest.approx(0, abs=1e-9)


def test_gaussian_means_have_the_capacity_of_a_gaussian_channel():
  # x ~ N(0, s²), z | x ~ N(x, 1): I = ½ log(1 + s²). 1,500 examples bias it by little.
  mean = 2.0 * np.random.default_rng(0).normal(size=(1500, 1)).astype(np.float32)
  value, se = mutual_information(GaussianParams(mean, np.zeros_like(mean)), seed=0)
  assert value == pytest.approx(0.5 * np.log(5), abs=4 * se)
  assert 0 < se < 0.03


def test_of_too_many_examples_evenly_spaced_ones_stand_for_all(monkeypatch):
  params = random_params(40, 2, 2.0)
  monkeypatch.setattr(latents, "MAX_EXAMPLES", 10)
  some = GaussianParams(*(part[::4] for part in params))
  assert mutual_information(params, 0) == mutual_information(some, 0)


def test_a_latent_is_active_if_its_mean_varies_over_examples():
  rng = np.random.default_rng(0)
  means = rng.normal(size=(1000, 3)) * [1.0, 0.05, 0.2] + [0.0, 5.0, 1e4]
  assert active_units(means.astype(np.float32)) == 2
