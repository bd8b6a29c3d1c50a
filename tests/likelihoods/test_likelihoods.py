"""Every likelihood is a distribution: it sums or integrates to 1, and its draws have its mean."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests import tiny
from tf_savae.errors import UserError
from tf_savae.likelihoods import (
  LIKELIHOODS,
  Bernoulli,
  Categorical,
  Gaussian,
  LogisticMixture,
  Poisson,
)
from tf_savae.likelihoods import likelihood as likelihood_lib
from tf_savae.likelihoods.logistic_mixture import DiscretizedLogisticMixture

tfd = tfp.distributions

# A likelihood, the channels of a place, and all values that matter of one channel.
DISCRETE = {
  "bernoulli": (Bernoulli(), 2, [0.0, 1.0]),
  "categorical": (Categorical(levels=4), 2, [0, 1 / 3, 2 / 3, 1]),
  "logistic_mixture_grey": (LogisticMixture(components=3, levels=6), 1, np.arange(6) / 5),
  "logistic_mixture_two": (LogisticMixture(components=2, levels=8), 2, np.arange(8) / 7),
  "logistic_mixture_colour": (LogisticMixture(components=2, levels=5), 3, np.arange(5) / 4),
  "poisson": (Poisson(), 1, np.arange(60.0)),
  "poisson_of_bytes": (Poisson(unit=255.0), 1, np.arange(60) / 255),
}
ALL = {**DISCRETE, "gaussian": (Gaussian(), 2, None), "gaussian_fixed": (Gaussian(scale=0.3), 2, None)}

every_discrete = pytest.mark.parametrize("likelihood, channels, values", DISCRETE.values(), ids=DISCRETE)
every_likelihood = pytest.mark.parametrize(
  "likelihood, channels", [case[:2] for case in ALL.values()], ids=ALL
)


def parameters(likelihood, channels, places=(), batch=3, dtype="float64"):
  return tiny.normal(batch, *places, likelihood.num_parameters(channels), seed=1, dtype=dtype)


def test_every_registered_likelihood_is_tested():
  assert {type(case[0]) for case in ALL.values()} == {LIKELIHOODS.get(name) for name in LIKELIHOODS}


@every_discrete
def test_probabilities_of_all_values_sum_to_one(likelihood, channels, values):
  x = np.array(list(itertools.product(values, repeat=channels)))
  for row in parameters(likelihood, channels):
    log_prob = likelihood.log_prob(x, tf.repeat(row[tf.newaxis], len(x), axis=0))
    np.testing.assert_allclose(tf.reduce_sum(tf.exp(log_prob)), 1.0, rtol=1e-12)
    assert np.ptp(log_prob) > 0.1


@pytest.mark.parametrize("likelihood", [Gaussian(), Gaussian(scale=0.3)], ids=["learned", "fixed"])
def test_a_density_integrates_to_one(likelihood):
  x = np.linspace(-30, 30, 400_001)[:, np.newaxis]
  for row in parameters(likelihood, 1):
    density = tf.exp(likelihood.log_prob(x, tf.repeat(row[tf.newaxis], len(x), axis=0)))
    np.testing.assert_allclose(np.sum(density) * (x[1, 0] - x[0, 0]), 1.0, rtol=1e-9)


@every_likelihood
def test_places_are_independent_and_rows_are_separate(likelihood, channels):
  given = parameters(likelihood, channels, (2, 3))
  x = likelihood.sample(given, channels, (1, 2))
  assert x.shape == (3, 2, 3, channels)
  together = likelihood.log_prob(x, given)
  assert together.shape == (3,)
  flat_x, flat = (tf.reshape(t, [18, t.shape[-1]]) for t in (x, given))
  alone = tf.reshape(likelihood.log_prob(flat_x, flat), [3, 6])
  np.testing.assert_allclose(together, tf.reduce_sum(alone, axis=1), rtol=1e-12)


@every_likelihood
def test_draws_have_the_mean(likelihood, channels):
  given, num = 0.5 * parameters(likelihood, channels), 20_000
  mean = likelihood.mean(given, channels)
  assert mean.shape == (3, channels)
  draws = likelihood.sample(tf.repeat(given, num, axis=0), channels, (3, 4)).numpy()
  draws = draws.reshape(3, num, channels)
  error = draws.std(axis=1) / math.sqrt(num)
  # A logistic mixture's mean takes sums over few levels as integrals, and later channels at the mean of earlier ones.
  slack = 0.02 if isinstance(likelihood, LogisticMixture) else 0.0
  assert np.all(np.abs(draws.mean(axis=1) - mean) < 4 * error + slack)


@every_discrete
def test_draws_have_the_probabilities(likelihood, channels, values):
  row = parameters(likelihood, channels, batch=1)
  num = 20_000
  draws = likelihood.sample(tf.repeat(row, num, axis=0), channels, (5, 6)).numpy()
  of_draws, counts = np.unique(np.round(draws, 9), axis=0, return_counts=True)
  possible = np.exp(likelihood.log_prob(of_draws, np.repeat(row, len(of_draws), axis=0)))
  assert np.all(np.abs(counts / num - possible) < 5 * np.sqrt(possible / num) + 1e-3)


@every_likelihood
def test_a_draw_is_a_function_of_the_seed(likelihood, channels):
  given = parameters(likelihood, channels, (2,))
  one, again, other = (likelihood.sample(given, channels, seed) for seed in ((1, 2), (1, 2), (1, 3)))
  np.testing.assert_array_equal(one, again)
  assert np.any(one != other)


@every_likelihood
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_can_be_differentiated_twice_even_far_from_the_data(likelihood, channels, dtype):
  """With parameters of 30, probabilities underflow."""
  for scale in (1.0, 30.0):
    given = scale * parameters(likelihood, channels, dtype=dtype)
    x = likelihood.sample(tf.zeros_like(given), channels, (7, 8))
    with tf.GradientTape() as outer:
      outer.watch(given)
      with tf.GradientTape() as inner:
        inner.watch(given)
        log_prob = likelihood.log_prob(x, given)
      first = inner.gradient(log_prob, given)
      product = tf.reduce_sum(first * tf.cast(tiny.normal(*first.shape, seed=9), dtype))
    second = outer.gradient(product, given, unconnected_gradients="zero")
    assert log_prob.dtype == dtype
    assert np.all(np.isfinite(log_prob)) and np.all(np.isfinite(first)) and np.all(np.isfinite(second))


def test_the_logistic_mixture_of_one_channel_equals_tfp():
  logits, means, raw = (tiny.normal(4, 3, seed=seed) for seed in range(3))
  ours = DiscretizedLogisticMixture(
    logits, means[..., tf.newaxis], raw[..., tf.newaxis], tf.zeros([4, 3, 0], "float64"), levels=256
  )
  # In levels, k − 0.5 to k + 0.5.
  logistic = tfd.Logistic(127.5 * (means + 1.0) - 0.5, 127.5 * tf.exp(raw))
  rounded = tfd.QuantizedDistribution(logistic, low=0.0, high=255.0)
  theirs = tfd.MixtureSameFamily(tfd.Categorical(logits=logits), rounded)
  for level in (0.0, 1.0, 90.0, 254.0, 255.0):
    x = tf.fill([4], tf.constant(level, tf.float64))
    np.testing.assert_allclose(ours.log_prob(x[:, tf.newaxis] / 255), theirs.log_prob(x), rtol=1e-6)


def test_channels_of_one_place_depend_on_each_other():
  likelihood = LogisticMixture(components=1, levels=256)
  given = np.zeros([1, likelihood.num_parameters(3)])
  given[0, -3:] = [2.0, 0.0, -2.0]  # green follows red, and blue avoids green
  draws = likelihood.sample(np.repeat(given, 4000, axis=0), 3, (1, 2)).numpy()
  red, green, blue = draws.T
  assert np.corrcoef(red, green)[0, 1] > 0.3
  assert np.corrcoef(green, blue)[0, 1] < -0.3


@pytest.mark.parametrize("likelihood", [case[0] for case in ALL.values()], ids=ALL)
def test_a_likelihood_is_its_config(likelihood):
  assert likelihood_lib.from_config(likelihood_lib.to_config(likelihood)) == likelihood


def test_a_name_takes_the_settings_that_it_has():
  assert likelihood_lib.get("gaussian", scale=0.5, components=3) == Gaussian(0.5)
  assert likelihood_lib.get("bernoulli", scale=0.5) == Bernoulli()
  with pytest.raises(ValueError, match="Unknown likelihood; the names are bernoulli"):
    likelihood_lib.get("normal")


@pytest.mark.parametrize(
  "make",
  [
    lambda: Gaussian(scale=0.0),
    lambda: Categorical(levels=1),
    lambda: LogisticMixture(components=0),
    lambda: Poisson(unit=0),
  ],
)
def test_an_impossible_setting_is_one_line(make):
  with pytest.raises(UserError, match="; received"):
    make()
