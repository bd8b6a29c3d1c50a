"""z enters late: logits linear in z, and an expectation over z without draws."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tf_savae import SAVAE, SVISettings
from tf_savae.errors import UserError
from tf_savae.networks import LatePixelCNN
from tf_savae.posterior import GaussianParams

LATENT = 3


def make(scale=0.5, **kwargs):
  decoder = LatePixelCNN(LATENT, 4, (3, 3), (5, 6, 1), position_maps=2, dtype="float64", **kwargs)
  for i, v in enumerate(decoder.weights):
    v.assign(scale * np.random.default_rng(i).normal(size=v.shape))
  return decoder


def images(num=4):
  return tf.constant(np.random.default_rng(1).random((num, 5, 6, 1)) < 0.5, tf.float64)


def posterior(num=4):
  return GaussianParams(tiny.normal(num, LATENT, seed=2), 0.5 * tiny.normal(num, LATENT, seed=3) - 1.0)


def test_logits_are_linear_in_z():
  decoder, context = make(), make().precompute(images())
  zero, one, other = (decoder.logits(z, context) for z in (tf.zeros([4, LATENT]), *posterior()))
  both = decoder.logits(2.0 * posterior()[0] - 0.5 * posterior()[1], context)
  np.testing.assert_allclose(both - zero, 2.0 * (one - zero) - 0.5 * (other - zero), rtol=1e-9, atol=1e-12)
  # … with slopes of the image before the pixel.
  assert np.ptp(context[1], axis=0)[:, 1:].max(axis=0).min() > 1e-3


def test_log_prob_is_concave_in_z():
  decoder, x = make(), images(1)
  context = [tf.repeat(t, 2, axis=0) for t in decoder.precompute(x)]
  rng = np.random.default_rng(0)
  for _ in range(20):
    ends = tf.constant(3 * rng.normal(size=(2, LATENT)))
    middle = tf.reduce_mean(ends, axis=0, keepdims=True)
    at_ends = decoder.log_prob(tf.repeat(x, 2, axis=0), ends, context)
    assert decoder.log_prob(x, middle, decoder.precompute(x))[0] > tf.reduce_mean(at_ends)


def test_probabilities_of_all_images_sum_to_one():
  decoder = LatePixelCNN(2, 3, (3, 3), (2, 3, 1), position_maps=1, dtype="float64")
  for i, v in enumerate(decoder.weights):
    v.assign(np.random.default_rng(i).normal(size=v.shape))
  x = np.array(list(itertools.product([0.0, 1.0], repeat=6))).reshape(-1, 2, 3, 1)
  log_prob = decoder.log_prob(x, np.tile([[0.3, -1.2]], (len(x), 1)), decoder.precompute(x))
  np.testing.assert_allclose(tf.reduce_sum(tf.exp(log_prob)), 1.0, rtol=1e-12)
  assert np.ptp(log_prob) > 1.0


class TestExpectation:
  def test_equals_a_long_average_over_draws(self):
    decoder, x, params = make(0.35), images(), posterior()
    context = decoder.precompute(x)
    num, at_once = 8000, 500
    noise = tiny.normal(num, 4, LATENT, seed=4)
    z = tf.reshape(params.sample(tf.concat([noise, -noise], axis=0)), [-1, at_once * 4, LATENT])
    many_x, *many = (tf.tile(t, [at_once, *[1] * (t.shape.rank - 1)]) for t in (x, *context))
    draws = np.reshape([decoder.log_prob(many_x, part, tuple(many)) for part in z], [2 * num, 4])
    pairs = 0.5 * (draws[:num] + draws[num:])
    error = pairs.std(axis=0, ddof=1) / np.sqrt(num)
    ours = decoder.expected_log_prob(x, params, context)
    assert np.all(np.abs(ours - pairs.mean(axis=0)) < 4 * error)
    assert np.all(error < 0.02)

  def test_five_nodes_are_nearly_as_good_as_forty(self):
    """Logits have a standard deviation of up to 1.5 under q: more than those of a trained model."""
    x, params = images(), posterior()
    few, many = (make(0.35, quadrature_nodes=n) for n in (5, 40))
    context = few.precompute(x)
    assert 1.0 < np.sqrt(few._moments(params, context)[1]).max() < 2.0
    difference = few.expected_log_prob(x, params, context) - many.expected_log_prob(x, params, context)
    assert np.max(np.abs(difference)) < 2e-3

  def test_equals_the_plain_definition(self):
    decoder, x, params = make(), images(), posterior()
    context = decoder.precompute(x)
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    mean = decoder.logits(params.mean, context).numpy().reshape(4, 30)
    slopes = context[1].numpy()
    deviation = np.sqrt(np.einsum("bli,bl->bi", slopes**2, np.exp(params.log_var)))
    flat = x.numpy().reshape(4, 30)
    expected = 0.0
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
      logits = mean + node * deviation
      expected += weight * np.sum(flat * logits - np.logaddexp(0, logits), axis=1)
    np.testing.assert_allclose(decoder.expected_log_prob(x, params, context), expected, rtol=1e-7)

  def test_without_variance_it_is_the_log_probability(self):
    decoder, x = make(), images()
    mean, context = posterior().mean, decoder.precompute(x)
    narrow = GaussianParams(mean, tf.fill(mean.shape, tf.constant(-40.0, tf.float64)))
    np.testing.assert_allclose(
      decoder.expected_log_prob(x, narrow, context), decoder.log_prob(x, mean, context), rtol=1e-6
    )

  def test_written_derivative_equals_that_of_a_tape_and_so_do_its_gradients(self):
    decoder, x, params = make(), images(), posterior()
    tangent = GaussianParams(tiny.normal(4, LATENT, seed=5), tiny.normal(4, LATENT, seed=6))
    context = decoder.precompute(x)
    sources = [*params, *tangent, *context]

    def by_tape():
      with tf.GradientTape() as tape:
        tape.watch(params)
        value = decoder.expected_log_prob(x, params, context)
      gradient = tape.gradient(value, list(params))
      return sum(tf.reduce_sum(t * g, axis=-1) for t, g in zip(tangent, gradient, strict=True))

    def written():
      return decoder.expected_log_prob_derivative(x, params, tangent, context)

    found = []
    for function in (written, by_tape):
      with tf.GradientTape() as tape:
        tape.watch(sources)
        value = function()
      found.append([value, *tape.gradient(value, sources)])
    for ours, reference in zip(*found, strict=True):
      np.testing.assert_allclose(ours, reference, rtol=1e-9, atol=1e-12)


class TestInAModel:
  def model(self, decoder=None, **kwargs):
    encoder, late, x = tiny.late_image_networks("float32", dropout=0.0)
    svi = SVISettings(4, 0.5, rule="natural", draws="quadrature", **kwargs)
    model = SAVAE(encoder, decoder or late, svi=svi)
    model.compile("sgd")
    return model, x

  def test_steps_have_no_noise(self):
    model, x = self.model()
    first, second = (model.posterior(model.inference(x, step=step))[0] for step in (0, 1))
    np.testing.assert_array_equal(first.pack(), second.pack())

  def test_training_loss_has_no_draw_and_a_reported_bound_has(self):
    model, x = self.model()

    def bounds(training):
      found = []
      for step in (0, 1):
        inference = model._inference(x, 0, step=step, training=training)
        found.append(inference.bound(tiny.encode(model.encoder, x)).nll.numpy())
      return found

    np.testing.assert_array_equal(*bounds(True))
    assert np.all(np.not_equal(*bounds(False)))

  def test_steps_descend_the_expectation(self):
    model, x = self.model()
    inference = model.inference(x)
    path = inference.refine(inference.start(), adjoint=None)[2].numpy()
    assert np.all(np.diff(path, axis=0) < 0)

  def test_it_trains(self):
    model, x = self.model()
    before = float(model.train_on_batch(x, return_dict=True)["loss"])
    for _ in range(10):
      after = float(model.train_on_batch(x, return_dict=True)["loss"])
    assert after < before

  def test_a_decoder_that_cannot_integrate_is_refused(self):
    _, early, _ = tiny.image_networks("float32", dropout=0.0)
    with pytest.raises(ValueError, match="expected_log_prob"):
      self.model(early)

  def test_several_draws_of_nothing_are_refused(self):
    with pytest.raises(ValueError, match="num_samples"):
      self.model(num_samples=2)


@pytest.mark.parametrize(
  "wrong", [{"latent_dim": -1}, {"quadrature_nodes": 1}, {"head_channels": 0}, {"position_maps": -1}], ids=str
)
def test_impossible_sizes_are_refused_in_one_line(wrong):
  with pytest.raises(UserError, match="received") as error:
    LatePixelCNN(**wrong)
  assert "\n" not in str(error.value)
