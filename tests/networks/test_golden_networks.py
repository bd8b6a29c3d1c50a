"""The networks compute the original's numbers, and their gradients are the original's, in float64."""

import numpy as np
import pytest
import tensorflow as tf

from tests import golden_images

TOLERANCE = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture(scope="module")
def golden():
  return golden_images.load()


def test_training_mode_encoder_gives_the_golden_posterior(golden):
  encoder, _, _ = golden_images.build()
  params = encoder(golden_images.images(), training=True)
  np.testing.assert_allclose(params.mean, golden["mean0"], **TOLERANCE)
  np.testing.assert_allclose(params.log_var, golden["logvar0"], **TOLERANCE)


def test_moving_statistics_follow_the_golden_ones(golden):
  encoder, _, _ = golden_images.build()
  encoder(golden_images.images(), training=True)
  for stage, size in zip((0, 2, 4), (28, 14, 7), strict=True):
    for number in (1, 2):
      norm = getattr(encoder.stages[stage], f"norm{number}")
      name = f"bn_after.enc_cnn.{stage}.bn{number}.running_"
      np.testing.assert_allclose(norm.moving_mean.value, golden[name + "mean"], **TOLERANCE)
      # The original averages the unbiased variance, Keras the biased one.
      count = 3 * size**2
      biased = 0.9 + (golden[name + "var"] - 0.9) * (count - 1) / count
      np.testing.assert_allclose(norm.moving_variance.value, biased, **TOLERANCE)


def test_evaluation_mode_encoder_uses_the_moving_statistics(golden):
  encoder, _, _ = golden_images.build()
  for stage in (0, 2, 4):
    for number in (1, 2):
      norm = getattr(encoder.stages[stage], f"norm{number}")
      name = f"bn_after.enc_cnn.{stage}.bn{number}.running_"
      norm.moving_mean.assign(golden[name + "mean"])
      norm.moving_variance.assign(golden[name + "var"])
  params = encoder(golden_images.images(), training=False)
  np.testing.assert_allclose(params.mean, golden["eval.mean_with_bn_after"], **TOLERANCE)
  np.testing.assert_allclose(params.log_var, golden["eval.logvar_with_bn_after"], **TOLERANCE)


# In a graph too: its optimiser fuses what eager execution runs one by one.
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
def test_vae_loss_and_every_gradient_are_golden(golden, wrap):
  encoder, decoder, layout = golden_images.build()
  x = tf.constant(golden_images.images())
  variables = [v.value for v in layout.variables]

  def loss_and_gradients():
    with tf.GradientTape() as tape:
      params = encoder(x, training=True)
      z = params.sample(tf.constant(golden["noise_vae"]))
      nll = -tf.reduce_mean(decoder.log_prob(x, z, decoder.precompute(x)))
      kl = tf.reduce_mean(params.kl_to_prior())
      loss = nll + 0.7 * kl
    return nll, kl, loss, tape.gradient(loss, [*params, *variables])

  nll, kl, loss, (d_mean, d_log_var, *gradients) = wrap(loss_and_gradients)()
  np.testing.assert_allclose(nll, golden["vae.nll"], **TOLERANCE)
  np.testing.assert_allclose(kl, golden["vae.kl"], **TOLERANCE)
  np.testing.assert_allclose(loss, golden["vae.loss"], **TOLERANCE)
  np.testing.assert_allclose(d_mean, golden["vae.dmean"], **TOLERANCE)
  np.testing.assert_allclose(d_log_var, golden["vae.dlogvar"], **TOLERANCE)
  _assert_gradients(layout.to_golden(gradients), golden, "vae.grad.")


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
def test_autoregressive_loss_and_every_gradient_are_golden(golden, wrap):
  decoder, layout = golden_images.build_autoregressive()
  x = tf.constant(golden_images.images())
  variables = [v.value for v in layout.variables]

  def loss_and_gradients():
    with tf.GradientTape() as tape:
      nll = -tf.reduce_mean(decoder.log_prob(x, None, decoder.precompute(x)))
    return nll, tape.gradient(nll, variables)

  nll, gradients = wrap(loss_and_gradients)()
  np.testing.assert_allclose(nll, golden["ar.nll"], **TOLERANCE)
  _assert_gradients(layout.to_golden(gradients), golden, "ar.grad.")


def _assert_gradients(ours, golden, prefix):
  assert set(ours) == {name.removeprefix(prefix) for name in golden if name.startswith(prefix)}
  for name, gradient in ours.items():
    # The gradient of a bias before batch norm is zero but for rounding: hence the absolute tolerance.
    np.testing.assert_allclose(gradient, golden[prefix + name], err_msg=name, **TOLERANCE)
