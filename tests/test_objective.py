"""The negative ELBO's parts: free bits, and the derivative along a direction that a decoder may offer."""

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tf_savae import SAVAE
from tf_savae.objective import NegELBO
from tf_savae.posterior import GaussianParams
from tf_savae.svi.derivatives import value_and_gradient

NOISE, BETA = tiny.normal(3, tiny.LATENT, seed=1), tf.constant(0.7, tf.float64)
# KL of each latent, nats: from 0.0 to about 1.5, above and below the free bits of the tests.
PARAMS = GaussianParams(
  tf.constant([[0.1, 1.5], [0.0, 0.6], [1.0, 0.0]], tf.float64),
  tf.constant([[0.0, -0.5], [0.0, 0.2], [-1.0, 0.1]], tf.float64),
)
TANGENT = GaussianParams(tiny.normal(3, tiny.LATENT, seed=2), tiny.normal(3, tiny.LATENT, seed=3))


def text(free_bits):
  _, decoder, x = tiny.text_lstm_networks(dropout=0.0)
  return NegELBO(decoder, free_bits), (x, BETA, decoder.precompute(x))


def kl_by_hand():
  mean, log_var = (np.asarray(part) for part in PARAMS)
  return 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var)


@pytest.mark.parametrize("free_bits", [0.0, 0.15, 5.0])
def test_kl_of_a_latent_below_the_free_bits_costs_the_free_bits(free_bits):
  objective, (x, beta, context) = text(free_bits)
  bound = objective.bound(PARAMS, NOISE, x, context)
  np.testing.assert_allclose(bound.kl, kl_by_hand().sum(axis=1))
  np.testing.assert_allclose(bound.penalty, np.maximum(kl_by_hand(), free_bits).sum(axis=1))
  np.testing.assert_allclose(bound.weighted(beta), bound.nll + 0.7 * bound.penalty)
  np.testing.assert_allclose(bound.neg_elbo, bound.nll + bound.kl)  # a bound on −log p(x) all the same


@pytest.mark.parametrize("free_bits", [0.0, 0.15, 5.0])
def test_derivative_along_a_direction_is_that_of_the_loss(free_bits):
  objective, context = text(free_bits)
  _, gradient = value_and_gradient(objective, PARAMS, NOISE, context)
  expected = sum(tf.reduce_sum(t * g, axis=-1) for t, g in zip(TANGENT, gradient, strict=True))
  received = objective.directional_derivative(PARAMS, NOISE, TANGENT, *context)
  np.testing.assert_allclose(received, expected, rtol=1e-12)


def test_free_bits_change_training_but_no_reported_bound():
  def model(free_bits):
    encoder, decoder, x = tiny.text_lstm_networks("float32", dropout=0.0)
    model = SAVAE(encoder, decoder, "vae", free_bits=free_bits)
    model.compile("sgd")
    return model, x

  (plain, x), (free, _) = model(0.0), model(5.0)
  assert plain.evaluate(x, return_dict=True, verbose=0) == free.evaluate(x, return_dict=True, verbose=0)
  plain, free = (m.train_on_batch(x, return_dict=True) for m in (plain, free))
  assert free["loss"] == pytest.approx(float(free["nll"]) + tiny.LATENT * 5.0)
  assert free["kl"] == plain["kl"]


@pytest.mark.parametrize("free_bits", [-0.1, float("nan")])
def test_free_bits_are_not_negative(free_bits):
  _, decoder, _ = tiny.text_lstm_networks()
  with pytest.raises(ValueError, match="free_bits"):
    SAVAE(None, decoder, "svi", free_bits=free_bits)
