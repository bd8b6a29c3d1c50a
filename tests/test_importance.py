"""Importance-weighted bounds in training against numpy, and what they are not for."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp
from scipy.stats import norm

from tests import tiny
from tests.tiny import relative_error
from tf_savae import SAVAE, SVISettings
from tf_savae.inference import Inference
from tf_savae.seeds import Purpose

K, S, BETA = 2, 3, 0.3


def make(method="savae", objective="iwae", networks=None, **options):
  encoder, decoder, x = networks or tiny.dense_networks()
  settings = SVISettings(K, 0.1, 0.5, 5.0)
  defaults = {"iwae_samples": S, "beta": BETA, "dtype": "float64", "seed": 4}
  model = SAVAE(encoder, decoder, method, settings, objective=objective, **defaults | options)
  model.ensure_built(x)
  return model, x


def inference(model, x, step=5):
  return model._training_inference(x, step)


def gradients(model, x):
  variables = [v.value for v in model.trainable_variables]
  with tf.GradientTape() as tape:
    loss = tf.reduce_mean(model.method.loss(model.infer(inference(model, x))))
  return tape.gradient(loss, variables, unconnected_gradients="zero")


def by_hand(model, x, means, log_vars, noise, beta=BETA):
  """−log (1/S) Σ_s w_s `[batch]` in numpy, from λ_s and ε_s `[S, batch, latent]`; the decoder is asked for one z."""
  batch = inference(model, x)
  log_weights = []
  for mean, log_var, eps in zip(means, log_vars, noise, strict=True):
    scale = np.exp(0.5 * log_var)
    z = mean + scale * eps
    log_prob = model.decoder.log_prob(x, tf.constant(z), batch.context).numpy()
    ratio = norm.logpdf(z).sum(-1) - norm.logpdf(z, mean, scale).sum(-1)
    log_weights.append(log_prob + beta * ratio)
  return np.log(len(log_weights)) - logsumexp(log_weights, axis=0), -log_weights[-1]


def noise_of(model, x, number):
  batch = inference(model, x)
  more = tf.random.stateless_normal(
    [tiny.BATCH, number - 1, tiny.LATENT], batch.seed(Purpose.PROPOSALS), dtype="float64"
  )
  return np.concatenate([np.transpose(more, [1, 0, 2]), batch.noise[-1:]])


NETWORKS = {"a z at a time": tiny.dense_networks, "many z": tiny.late_text_lstm_networks}


@pytest.mark.parametrize("networks", NETWORKS.values(), ids=list(NETWORKS))
@pytest.mark.parametrize("method", ["vae", "svi", "savae"])
def test_iwae_is_the_log_of_the_mean_weight_of_draws_at_the_end(method, networks):
  model, x = make(method, networks=networks())
  inferred = model.infer(inference(model, x))
  params = [np.repeat(np.asarray(part)[np.newaxis], S, axis=0) for part in inferred.params]
  expected, _ = by_hand(model, x, *params, noise_of(model, x, S))
  np.testing.assert_allclose(model.method.loss(inferred), expected, rtol=1e-9)


@pytest.mark.parametrize("networks", NETWORKS.values(), ids=list(NETWORKS))
def test_the_buffered_bound_has_a_draw_with_its_own_weight_from_every_point_of_the_path(networks):
  model, x = make("vae_svi", "buffered", networks())
  batch = inference(model, x)
  _, trajectory, _ = batch.refine(batch.start(), None)
  means, log_vars = (np.asarray(part) for part in trajectory)
  assert len(means) == K + 1 and np.abs(means[0] - means[-1]).max() > 1e-2
  expected, _ = by_hand(model, x, means, log_vars, noise_of(model, x, K + 1))
  inferred = model.infer(batch)
  np.testing.assert_allclose(model.method.loss(inferred) - inferred.initial_loss, expected, rtol=1e-9)


def test_with_one_draw_it_is_the_elbo_whose_kl_is_that_of_the_draw():
  model, x = make("vae", iwae_samples=1, beta=1.0)
  inferred = model.infer(inference(model, x))
  _, one = by_hand(
    model, x, *(np.asarray(p)[np.newaxis] for p in inferred.params), noise_of(model, x, 1), 1.0
  )
  np.testing.assert_allclose(model.method.loss(inferred), one, rtol=1e-12)
  # What is reported is the bound with the KL in closed form, with the same draw as without importance weights.
  plain, _ = make("vae", "elbo", beta=1.0)
  np.testing.assert_allclose(inferred.final.neg_elbo, plain.infer(inference(plain, x)).final.neg_elbo)

  many = tf.tile(x, [4000, 1])  # each row has noise of its own

  def mean(model):
    losses = model.method.loss(model.infer(inference(model, many)))
    return np.mean(np.reshape(losses, [4000, -1]), axis=0)

  np.testing.assert_allclose(mean(model), mean(plain), atol=0.1)


def test_more_draws_are_a_tighter_bound_on_the_known_likelihood():
  decoder = tiny.GaussianDecoder(dtype="float64")
  x = tf.tile(tiny.normal(1, 3), [4000, 1])
  exact = -decoder.exact_log_prob(x[:1])[0]

  def loss(objective, samples):
    networks = tiny.PairEncoder(dtype="float64"), decoder, x
    model, _ = make("vae_svi", objective, networks, iwae_samples=samples, beta=1.0)
    return float(tf.reduce_mean(model.infer(inference(model, x)).final.weighted(model.beta)))

  elbo, five, hundred = (loss("iwae", s) for s in (1, 5, 100))
  assert exact < hundred < five < elbo
  assert hundred - exact < 0.05 < elbo - exact
  assert exact - 0.02 < loss("buffered", 1) < loss("elbo", 1)


@pytest.mark.parametrize("objective", ["iwae", "buffered"])
def test_the_exact_gradient_through_the_steps_is_that_of_the_definition(objective):
  exact, x = make("savae", objective)
  unrolled, _ = make("savae", objective, adjoint="unrolled")
  plain, _ = make("savae", "elbo")
  ours, expected, others = (gradients(model, x) for model in (exact, unrolled, plain))
  for a, b in zip(ours, expected, strict=True):
    assert relative_error(a, b) < 1e-9
  assert max(relative_error(a, b) for a, b in zip(ours, others, strict=True)) > 1e-2


@pytest.mark.parametrize("posterior", ["full", "iaf"])
def test_weights_of_other_posteriors_have_the_density_of_tfp_and_exact_gradients(posterior):
  def made(adjoint):
    model, x = make("savae", posterior=posterior, adjoint=adjoint)
    if model.family.trained:
      for i, weight in enumerate(model.family.network.trainable_variables):
        weight.assign(0.3 * tiny.normal(*weight.shape, seed=i))
    return model, x

  model, x = made("exact")
  batch, inferred = inference(model, x), model.infer(inference(model, x))
  q, log_weights = model.family.distribution(inferred.params), []
  for eps in noise_of(model, x, S):
    z = model.family.sample(inferred.params, tf.constant(eps))
    ratio = norm.logpdf(z).sum(-1) - q.log_prob(z).numpy()
    log_weights.append(model.decoder.log_prob(x, z, batch.context).numpy() + BETA * ratio)
  expected = np.log(S) - logsumexp(log_weights, axis=0)
  np.testing.assert_allclose(model.method.loss(inferred), expected, rtol=1e-9)
  for ours, theirs in zip(gradients(model, x), gradients(*made("unrolled")), strict=True):
    assert relative_error(ours, theirs, floor=1e-6) < 1e-9


@pytest.mark.parametrize("objective", ["iwae", "buffered"])
def test_the_encoder_of_vae_svi_learns_from_the_elbo_at_its_own_point(objective):
  weighted, x = make("vae_svi", objective)
  plain, _ = make("vae_svi", "elbo")
  number = len(weighted.encoder.trainable_variables)
  assert number and [v.path for v in weighted.trainable_variables][:number] == [
    v.path for v in weighted.encoder.trainable_variables
  ]
  ours, expected = gradients(weighted, x), gradients(plain, x)
  for a, b in zip(ours[:number], expected[:number], strict=True):
    assert relative_error(a, b) < 1e-9
  assert max(relative_error(a, b) for a, b in zip(ours[number:], expected[number:], strict=True)) > 1e-2


def test_it_trains_in_a_graph_and_evaluates_the_elbo():
  encoder, decoder, x = tiny.text_lstm_networks("float32")
  model = SAVAE(encoder, decoder, "savae", SVISettings(1, 0.1), objective="buffered")
  model.compile("sgd")
  found = model.train_on_batch(x, return_dict=True)
  assert np.isfinite(found["loss"]) and int(model.skipped) == 0
  again = SAVAE.from_config(model.get_config())
  assert (again.objective, again.iwae_samples) == ("buffered", 5)
  values = model.test_on_batch(x, return_dict=True)
  assert values["loss"] == pytest.approx(values["bound"])


@pytest.mark.parametrize(
  ("method", "options", "words"),
  [
    ("vae", {"objective": "tighter"}, "objective is one of elbo, iwae, buffered"),
    ("vae", {"iwae_samples": 0}, "iwae_samples"),
    ("vae", {"objective": "buffered"}, "refines"),
    ("vae", {"objective": "iwae", "free_bits": 0.1}, "free_bits"),
  ],
  ids=str,
)
def test_what_cannot_be_is_refused(method, options, words):
  encoder, decoder, _ = tiny.dense_networks()
  with pytest.raises(ValueError, match=f"{words}.*Received: "):
    SAVAE(encoder, decoder, method, SVISettings(K, 0.1), **options)


def test_a_row_has_its_draws_whatever_the_batch_is():
  model, x = make("vae")
  whole, part = (
    model.infer(
      Inference(
        model.encoder,
        model.decoder,
        each,
        model.svi,
        seed=4,
        objective="iwae",
        iwae_samples=S,
        dtype="float64",
      )
    ).final.loss
    for each in (x, x[:2])
  )
  np.testing.assert_allclose(whole[:2], part, rtol=1e-12)
