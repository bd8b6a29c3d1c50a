"""A decoder that takes many z of one x, against the same decoder asked for one z after the other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tf_savae.inference import Inference
from tf_savae.objective import NegELBO
from tf_savae.posterior import GaussianParams
from tf_savae.svi import RULES, SVISettings
from tf_savae.svi.adjoint import TruncatedAdjoint
from tf_savae.svi.derivatives import mean_value_and_gradient
from tf_savae.svi.refine import refine

K, DRAWS = 3, 4


def both(free_bits=0.0):
  """L with all draws at once, and draw by draw; encoder, decoder, x."""
  encoder, decoder, x = tiny.late_text_lstm_networks()
  at_once, by_draw = NegELBO(decoder, free_bits), NegELBO(decoder, free_bits)
  by_draw.takes_many_draws = False
  del by_draw.directional_derivative_of_all
  return at_once, by_draw, encoder, decoder, x


def conditions(decoder, x):
  return x, tf.constant(0.7, tf.float64), decoder.precompute(x, training=True, seed=tiny.SEED)


def noise(*shape, seed=4):
  return tiny.normal(*shape, tiny.BATCH, tiny.LATENT, seed=seed)


@pytest.mark.parametrize("free_bits", [0.0, 0.1])
def test_value_and_gradient_are_the_mean_over_draws(free_bits):
  at_once, by_draw, _, decoder, x = both(free_bits)
  params, context = GaussianParams(noise(seed=1), noise(seed=2)), conditions(decoder, x)
  ours = mean_value_and_gradient(at_once, params, noise(DRAWS), context)
  expected = mean_value_and_gradient(by_draw, params, noise(DRAWS), context)
  for a, b in zip(tf.nest.flatten(ours), tf.nest.flatten(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize("free_bits", [0.0, 0.1])
def test_the_derivative_of_all_steps_is_the_sum_of_each(free_bits):
  at_once, _, _, decoder, x = both(free_bits)
  points, tangents = (GaussianParams(noise(K, seed=s), noise(K, seed=s + 1)) for s in (1, 3))
  context = conditions(decoder, x)
  ours = at_once.directional_derivative_of_all(points, noise(K, DRAWS), tangents, *context)

  def of_step(k):
    at, along = (GaussianParams(p.mean[k], p.log_var[k]) for p in (points, tangents))
    return at_once.directional_derivative(at, noise(K, DRAWS)[k], along, *context)

  np.testing.assert_allclose(ours, sum(map(of_step, range(K))), rtol=1e-9)


def gradients(neg_elbo, encoder, decoder, x, rule, adjoint, k_now=None, tolerance=0.0):
  """Of the loss at λ_K, for all weights."""
  with tf.GradientTape() as tape:
    context = conditions(decoder, x)
    params, _ = refine(
      neg_elbo,
      tiny.encode(encoder, x),
      SVISettings(K, 0.05, num_samples=2, rule=rule, tolerance=tolerance),
      noise=noise(K, 2),
      context=context,
      adjoint=adjoint,
      k_now=k_now,
    )
    loss = tf.reduce_mean(neg_elbo(params, noise(seed=5), *context))
  weights = [v.value for v in (*encoder.trainable_variables, *decoder.trainable_variables)]
  return [tf.convert_to_tensor(g) for g in tape.gradient(loss, weights)]


def assert_equal(ours, expected):
  floor = 1e-4 * max(np.max(np.abs(g)) for g in expected)
  for a, b in zip(ours, expected, strict=True):
    assert tiny.relative_error(a, b, floor) < 1e-9


@pytest.mark.parametrize("name", RULES)
def test_mixed_terms_at_once_give_the_unrolled_gradient(name):
  at_once, by_draw, *rest = both()
  rule = RULES[name]()
  if rule.trained:
    rule = dataclasses.replace(rule, network=rule.make_network(tiny.LATENT, dtype="float64"))
  expected = gradients(by_draw, *rest, rule, "unrolled")
  assert_equal(gradients(at_once, *rest, rule, "exact"), expected)
  assert_equal(gradients(by_draw, *rest, rule, "exact"), expected)


@pytest.mark.parametrize("options", [{"k_now": 2}, {"tolerance": 0.02}], ids=str)
def test_steps_that_are_not_taken_add_nothing(options):
  at_once, by_draw, *rest = both()
  assert_equal(
    gradients(at_once, *rest, "natural", "exact", **options),
    gradients(by_draw, *rest, "natural", "unrolled", **options),
  )


def test_truncated_takes_the_mixed_terms_of_its_own_steps():
  at_once, by_draw, *rest = both()
  adjoint = TruncatedAdjoint(steps=1)
  assert_equal(gradients(at_once, *rest, "natural", adjoint), gradients(by_draw, *rest, "natural", adjoint))


@pytest.mark.parametrize("num_samples", [1, 10, 13])
def test_importance_samples_are_those_of_one_after_the_other(num_samples):
  *_, encoder, decoder, x = both()
  params = tiny.encode(encoder, x)

  def estimate():
    inference = Inference(encoder, decoder, x, SVISettings(0, 0.1), dtype="float64")
    return inference.log_likelihood(params, num_samples)

  ours = estimate()
  decoder.takes_many_z = False
  np.testing.assert_allclose(ours, estimate(), rtol=1e-12)
