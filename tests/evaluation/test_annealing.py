"""Annealed importance sampling and its checks, against closed forms and the grid."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tf_savae import SAVAE, SVISettings, networks
from tf_savae.errors import UserError
from tf_savae.evaluation import annealing, bidirectional, grid, importance, several
from tf_savae.evaluation.annealing import Annealing
from tf_savae.posterior import GaussianParams

CHAINS = Annealing(steps=40, chains=64, leapfrogs=3)


def standard_error(found, num):
  """Of the log of a mean of `num` weights, from their effective number."""
  return np.sqrt((num / np.asarray(found.effective_size) - 1) / num)


@pytest.fixture(scope="module")
def of_lstm():
  """The synthetic model of the paper in small: z in an LSTM's input; with x that it made, and z."""
  encoder = networks.LSTMEncoder(5, 2, 3, 4, dtype="float64")
  decoder = networks.LSTMDecoder(5, 2, 3, 4, length=4, init_scale=1.5, dtype="float64")
  z = tiny.normal(6, 2, seed=8)
  x = decoder.sample(z, tf.constant([3, 4]))
  model = SAVAE(encoder, decoder, "vae", SVISettings(0), dtype="float64")

  def values():
    batch = model.inference(x)
    near = batch.encode()
    return (
      grid.posterior(decoder, x, decoder.precompute(x)).log_likelihood,
      annealing.log_likelihood(batch, CHAINS, near),
      annealing.sandwich(batch, z, CHAINS, near),
      importance.estimate(batch, near, 2000),
    )

  return tf.function(values, autograph=False)()


def test_it_agrees_with_the_grid(of_lstm):
  exact, found, _, _ = of_lstm
  error = standard_error(found, CHAINS.chains)
  assert np.all(error < 0.1)
  z = (found.log_likelihood - exact) / error
  assert np.all(np.abs(z) < 3.5) and abs(np.mean(z)) < 2 / np.sqrt(len(z))
  difference = np.mean(found.log_likelihood - exact)
  assert abs(difference) < 2 * np.sqrt(np.mean(error**2) / len(z))
  assert np.all((found.acceptance > 0.6) & (found.acceptance < 0.98))


def test_the_sandwich_holds_the_truth_between_its_halves(of_lstm):
  exact, _, found, _ = of_lstm
  lower, upper = np.mean(found.lower - exact), np.mean(found.upper - exact)
  assert lower < 0.03 and upper > -0.03  # each is a bound in expectation
  assert -0.03 < np.mean(found.upper - found.lower) < 0.2


def test_importance_sampling_agrees_with_the_grid_and_says_that_it_converged(of_lstm):
  exact, _, _, found = of_lstm
  np.testing.assert_allclose(found.log_likelihood, exact, atol=4 * np.max(standard_error(found, 2000)))
  assert np.all((found.effective_size > 200) & (found.effective_size < 2000))
  assert np.all(np.abs(found.growth) < 0.05)


def gaussian(scale):
  decoder = tiny.GaussianDecoder(3, 2, scale, dtype="float64")
  model = SAVAE(tiny.PairEncoder(2, dtype="float64"), decoder, "vae", SVISettings(0), dtype="float64")
  return model, tiny.normal(3, 3, seed=5)


def test_a_proposal_that_misses_the_posterior_is_noticed_and_annealing_does_not_need_one():
  model, x = gaussian(0.3)

  def values():
    batch = model.inference(x)
    far = GaussianParams(
      tf.fill([3, 2], tf.constant(2.5, tf.float64)), tf.fill([3, 2], tf.constant(-3.0, tf.float64))
    )
    return importance.estimate(batch, far, 300), annealing.log_likelihood(batch, CHAINS)

  sampled, annealed = tf.function(values, autograph=False)()
  exact = model.decoder.exact_log_prob(x)
  assert np.all(sampled.effective_size < 30) and np.mean(sampled.growth) > 0.5
  error = standard_error(annealed, CHAINS.chains)
  assert np.all(np.abs(annealed.log_likelihood - exact) < 4 * error) and np.all(error < 0.2)


def test_few_distributions_leave_a_wide_sandwich():
  model, _ = gaussian(0.3)
  model.decoder.sample = lambda z, seed: (
    z @ tf.convert_to_tensor(model.decoder.kernel)
    + model.decoder.bias
    + 0.3 * tf.random.stateless_normal([len(z), 3], seed, dtype=tf.float64)
  )
  widths = [bidirectional.on_simulated(model, Annealing(steps, 8, 2), 40, 40)["width"] for steps in (2, 60)]
  assert widths[0] > 4 * widths[1] > -0.1 and widths[1] < 0.5


def test_a_decoder_of_one_z_with_a_context_sees_each_observation_as_often_as_there_are_chains():
  decoder, x = tiny.MaskedDecoder(dtype="float64"), tiny.bits()
  model = SAVAE(tiny.PairEncoder(dtype="float64"), decoder, "vae", SVISettings(0), dtype="float64")

  def values():
    batch = model.inference(x)
    exact = grid.posterior(decoder, x, batch.context, size=21).log_likelihood
    return exact, annealing.log_likelihood(batch, Annealing(10, 50, 2))

  exact, found = tf.function(values, autograph=False)()
  assert np.all(np.abs(found.log_likelihood - exact) < 4 * standard_error(found, 50))


def test_wrong_settings_and_decoders_are_refused():
  with pytest.raises(ValueError, match="2 steps or more"):
    Annealing(steps=1)
  model, _ = gaussian(0.3)
  with pytest.raises(UserError, match="a decoder that samples without a condition; received GaussianDecoder"):
    bidirectional.on_simulated(model, CHAINS, 2, 2)


def test_runs_of_one_name_keep_their_paths(tmp_path):
  assert several.names(["a/one", "a/two"]) == ["one", "two"]
  assert several.names([tmp_path / "a/one", tmp_path / "b/one"]) == [str(tmp_path / d / "one") for d in "ab"]
  with pytest.raises(UserError, match="given once"):
    several.names(["a", "./a"])
  assert several.place(["a"], tmp_path / "new") == tmp_path / "new" and (tmp_path / "new").is_dir()
