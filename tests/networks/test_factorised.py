"""Decoders that take a likelihood: exact gradients through a refinement, samples, and labels."""

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.tiny import relative_error
from tf_savae import SVISettings, refine
from tf_savae.data import images_from_arrays
from tf_savae.errors import UserError
from tf_savae.likelihoods import LIKELIHOODS, Categorical, Gaussian, LogisticMixture, Poisson
from tf_savae.networks import ConvDecoder, MLPDecoder
from tf_savae.networks.factorised import likelihood_for
from tf_savae.objective import NegELBO
from tf_savae.posterior import GaussianParams

SHAPE = (5, 6, 3)
SMALL = {"categorical": Categorical(levels=4), "logistic_mixture": LogisticMixture(components=2)}


def conv(**kwargs):
  return ConvDecoder(2, SHAPE, width=3, **kwargs)


def mlp(**kwargs):
  return MLPDecoder(2, SHAPE, units=(5, 4), **kwargs)


both = pytest.mark.parametrize("make", [conv, mlp])


def test_the_conv_decoder_gives_images_of_any_size():
  for shape, start in (((5, 6, 3), (5, 6, 2)), ((28, 28, 1), (7, 7, 8)), ((33, 128, 3), (3, 8, 32))):
    decoder = ConvDecoder(2, shape, width=2)
    assert decoder.start_shape == start
    assert decoder.decode(tf.zeros([3, 2])).shape == (3, *shape)


@both
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_exact_gradients_are_those_of_the_unrolled_refinement(make, name):
  decoder = make(likelihood=SMALL.get(name, name), dtype="float64")
  for i, v in enumerate(decoder.weights):
    v.assign_add(0.3 * tiny.normal(*v.shape, seed=i))
  x = decoder.sample(tiny.normal(3, 2, seed=4), (1, 2))
  noise = tiny.normal(4, 3, 2, seed=1)
  objective, beta = NegELBO(decoder), tf.constant(1.0, tf.float64)
  variables = [v.value for v in decoder.trainable_variables]

  def gradients(adjoint):
    start = GaussianParams(tiny.normal(3, 2, seed=2), tiny.normal(3, 2, seed=3))
    with tf.GradientTape() as tape:
      tape.watch(start)
      params, _ = refine(
        objective, start, SVISettings(3, 1e-3, 0.5), noise=noise[:3], context=(x, beta, ()), adjoint=adjoint
      )
      loss = tf.reduce_mean(objective(params, noise[3], x, beta, ()))
    found = tape.gradient(loss, [*start, *variables])
    return np.concatenate([np.ravel(tf.convert_to_tensor(g)) for g in found])

  assert relative_error(gradients("exact"), gradients("unrolled")) < 1e-9


@both
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_samples_agree_with_decode(make, name):
  decoder = make(likelihood=SMALL.get(name, name))
  z, num = tiny.normal(1, 2, dtype="float32"), 2000
  draws = decoder.sample(tf.repeat(z, num, axis=0), (1, 2)).numpy()
  assert draws.shape == (num, *SHAPE)
  decoder.support.check(draws)
  error = draws.std(axis=0) / np.sqrt(num)
  slack = 0.02 if name == "logistic_mixture" else 0.0
  assert np.all(np.abs(draws.mean(axis=0) - decoder.decode(z)[0]) < 5 * error + slack)


class TestLikelihoodOfARun:
  def data(self, pixels):
    blank = np.zeros([1, 8, 8, 1], np.float32)
    made = images_from_arrays(blank, blank, blank, source="none")
    made.pixels = pixels
    return made

  def test_auto_follows_the_pixels(self):
    assert likelihood_for(self.data("binary"), "auto", None, 3) == LIKELIHOODS.get("bernoulli")()
    assert likelihood_for(self.data("levels"), "auto", None, 3) == LogisticMixture(3)

  def test_settings_reach_the_likelihood_that_has_them(self):
    levels = self.data("levels")
    assert likelihood_for(levels, "gaussian", 0.2, 3) == Gaussian(0.2)
    assert likelihood_for(levels, "poisson", 0.2, 3) == Poisson(255.0)

  def test_grey_values_have_no_bernoulli_likelihood(self):
    with pytest.raises(UserError, match="--likelihood=bernoulli is of binary images; images has grey values"):
      likelihood_for(self.data("levels"), "bernoulli", None, 3)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: ConvDecoder(2, (8,)), r"event_shape must be \(height, width, channels\), received \(8,\)"),
    (lambda: ConvDecoder(2, (8, 0, 1)), r"event_shape\[1\] must be at least 1"),
    (lambda: ConvDecoder(2, SHAPE, width=0), "width must be at least 1"),
    (lambda: MLPDecoder(2, SHAPE, units=()), "units must be positive numbers"),
    (lambda: MLPDecoder(-1, SHAPE), "latent_dim must be 0 or more"),
  ],
)
def test_impossible_sizes_are_one_line(make, message):
  with pytest.raises(UserError, match=message):
    make()
