"""The trained step rule: where it starts, its gradient, and a model that trains it."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.tiny import relative_error
from tf_savae import SAVAE, SVISettings
from tf_savae.posterior import GaussianParams
from tf_savae.svi.learned import LearnedStep
from tf_savae.svi.refine import refine
from tf_savae.svi.rules import NaturalGradient

K, LATENT, BATCH = 3, 2, 4
INITIAL = GaussianParams(*(tf.constant(0.5 * tiny.normal(BATCH, LATENT, seed=s)) for s in (1, 2)))
NOISE = tiny.normal(K, BATCH, LATENT, seed=3)


def neg_elbo(params, noise):
  return tf.reduce_sum(tf.cos(2.0 * params.sample(noise)) ** 2, axis=-1) + params.kl_to_prior()


def with_network(scale: float = 0.4) -> LearnedStep:
  rule = LearnedStep(hidden=5)
  network = rule.make_network(LATENT, seed=1, dtype="float64")
  for i, weight in enumerate(network.weights):
    weight.assign(weight + scale * tiny.normal(*weight.shape, seed=10 + i))
  return dataclasses.replace(rule, network=network)


def loss(rule, adjoint="exact"):
  settings = SVISettings(K, 0.5, rule=rule)
  params = refine(neg_elbo, INITIAL, settings, noise=NOISE, adjoint=adjoint).params
  return tf.reduce_sum(tf.sin(params.mean) + params.log_var**2)


def gradients(rule, adjoint):
  with tf.GradientTape() as tape:
    tape.watch(INITIAL)
    value = loss(rule, adjoint)
  return [g.numpy() for g in tape.gradient(value, [v.value for v in rule.network.trainable_variables])]


def test_starts_as_the_natural_gradient():
  rule = LearnedStep()
  rule = dataclasses.replace(rule, network=rule.make_network(LATENT, dtype="float64"))
  assert relative_error(loss(rule), loss(NaturalGradient())) < 1e-12
  assert relative_error(loss(with_network()), loss(NaturalGradient())) > 1e-2


@pytest.mark.parametrize("adjoint", ["exact", "stored"])
def test_the_gradient_of_its_weights_is_that_of_the_definition(adjoint):
  rule = with_network()
  for ours, reference in zip(gradients(rule, adjoint), gradients(rule, "unrolled"), strict=True):
    assert np.max(np.abs(reference)) > 1e-6 and relative_error(ours, reference) < 1e-9


def test_the_gradient_of_its_weights_is_that_of_central_differences():
  rule, h = with_network(), 1e-6
  found = gradients(rule, "exact")
  for i, variable in enumerate(rule.network.trainable_variables):
    direction, value = tiny.normal(*variable.shape, seed=30 + i), variable.numpy()
    ends = []
    for sign in (1, -1):
      variable.assign(value + sign * h * direction)
      ends.append(float(loss(rule)))
    variable.assign(value)
    assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(float(np.sum(found[i] * direction)), rel=1e-6)


def test_a_step_is_bounded_however_large_gradient_and_weights_are():
  rule = with_network(scale=100.0)
  params = tf.zeros([1, 2 * LATENT], tf.float64)
  new, _ = rule.update(
    0, params, tf.fill([1, 2 * LATENT], tf.constant(1e9, tf.float64)), (), tf.constant([1.0], tf.float64)
  )
  assert np.all(np.abs(new) <= 3.0 * np.exp(2.0) + 1.0)


def test_an_example_does_not_depend_on_its_neighbours():
  rule = with_network()
  settings = SVISettings(K, 0.5, rule=rule)
  whole = refine(neg_elbo, INITIAL, settings, noise=NOISE).params.mean
  first = GaussianParams(*(part[:1] for part in INITIAL))
  alone = refine(neg_elbo, first, settings, noise=NOISE[:, :1]).params.mean
  assert relative_error(alone, whole[:1]) < 1e-12


@pytest.mark.parametrize("hidden", [0, -1, True, 2.5])
def test_wrong_sizes_are_refused(hidden):
  with pytest.raises(ValueError, match=f"hidden is a number of units, 1 or more. Received: {hidden}"):
    LearnedStep(hidden=hidden)


def test_without_a_network_it_says_how_to_make_one():
  with pytest.raises(ValueError, match="make_network"):
    loss(LearnedStep())


def model(**options):
  encoder, decoder, x = tiny.dense_networks("float32", dropout=0.0)
  settings = SVISettings(2, 0.5, rule=options.pop("rule", LearnedStep(hidden=5)))
  made = SAVAE(encoder, decoder, svi=settings, **options)
  made.compile(keras.optimizers.SGD(0.1))
  return made, x


class TestInAModel:
  def test_is_trained_and_saved(self, tmp_path):
    made, x = model()
    before = [w.numpy() for w in made.step_sizes.rule_network.trainable_variables]
    made.fit(x, epochs=2, verbose=0)
    after = [w.numpy() for w in made.step_sizes.rule_network.trainable_variables]
    # The gradient of the hidden layer is 0 until the last layer has left 0.
    assert len(after) == 4 and all(np.any(a != b) for a, b in zip(after, before, strict=True))
    made.save(tmp_path / "model.keras")
    objects = {"MaskedDecoder": tiny.MaskedDecoder}
    loaded = keras.saving.load_model(tmp_path / "model.keras", objects)
    np.testing.assert_array_equal(loaded.refine(x).mean, made.refine(x).mean)
    assert loaded.svi.step_rule == LearnedStep(hidden=5)

  def test_by_its_name(self):
    made, x = model(rule="learned")
    assert np.isfinite(made.fit(x, verbose=0).history["loss"][0])

  @pytest.mark.parametrize(
    "options, message",
    [
      ({"method": "vae_svi"}, "can train a rule. Received: method='vae_svi'"),
      ({"method": "vae", "eval_k": 2}, "can train a rule. Received: method='vae'"),
      ({"adjoint": "implicit", "initial_loss_weight": 1.0}, "ImplicitAdjoint, rule=LearnedStep"),
      ({"rule": with_network()}, "must be None. Received: rule=LearnedStep"),
    ],
  )
  def test_is_refused_where_it_cannot_be_trained(self, options, message):
    with pytest.raises(ValueError, match=message):
      model(**options)


class TestTheImplicitAdjointInAModel:
  @pytest.mark.parametrize(
    "options, message",
    [
      ({}, "initial_loss_weight above 0, which trains the encoder. Received: adjoint=ImplicitAdjoint"),
      (
        {"initial_loss_weight": 1.0, "learn_step_size": "step"},
        "gives them a gradient.*learn_step_size='step'",
      ),
    ],
  )
  def test_is_refused_where_something_would_not_be_trained(self, options, message):
    with pytest.raises(ValueError, match=message):
      model(rule="natural", adjoint="implicit", **options)

  def test_trains_encoder_and_decoder(self):
    made, x = model(rule="natural", adjoint="implicit", initial_loss_weight=1.0)
    made.ensure_built(x)
    before = [w.numpy() for w in made.trainable_variables]
    made.fit(x, verbose=0)
    assert all(np.any(a.numpy() != b) for a, b in zip(made.trainable_variables, before, strict=True))
