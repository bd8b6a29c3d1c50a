"""Fast ancestral sampling draws from the network's own distribution."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.likelihoods import LogisticMixture
from tf_savae.networks import GatedPixelCNN, LatePixelCNN, pixelcnn_sampling


def make(latent_dim=2, kernel_sizes=(5, 3), shape=(6, 7, 1), scale=0.7, **kwargs):
  decoder = GatedPixelCNN(latent_dim, 4, kernel_sizes, 2, shape, dtype="float64", **kwargs)
  for i, v in enumerate(decoder.weights):
    v.assign(scale * np.random.default_rng(i).normal(size=v.shape))
  return decoder


def draw(decoder, z, seed, num=None):
  z = None if z is None else tf.constant(z)
  num = tf.constant(num or len(z))
  return pixelcnn_sampling.draw(decoder, z, num, None if seed is None else tf.convert_to_tensor(seed))


@pytest.mark.parametrize("latent_dim", [0, 2])
@pytest.mark.parametrize("kernel_sizes", [(1,), (3,), (5, 3, 1, 3), (9, 9)])
@pytest.mark.parametrize("seed", [(1, 2), None], ids=["sampled", "greedy"])
def test_logits_drawn_from_are_the_full_networks_logits_on_the_finished_image(latent_dim, kernel_sizes, seed):
  decoder = make(latent_dim, kernel_sizes)
  z = np.random.default_rng(0).normal(size=(5, latent_dim)) if latent_dim else None
  images, logits = draw(decoder, z, seed, num=5)
  np.testing.assert_allclose(logits, decoder(images, z), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("latent_dim", [0, 2])
@pytest.mark.parametrize("seed", [(1, 2), None], ids=["sampled", "greedy"])
@pytest.mark.parametrize("network", [GatedPixelCNN, LatePixelCNN])
def test_the_same_with_position_maps_and_with_z_late(network, latent_dim, seed):
  decoder = network(latent_dim, 4, (5, 1, 3), image_shape=(6, 7, 1), position_maps=2, dtype="float64")
  for i, v in enumerate(decoder.weights):
    v.assign(0.7 * np.random.default_rng(i).normal(size=v.shape))
  z = np.random.default_rng(0).normal(size=(5, latent_dim)) if latent_dim else None
  images, logits = decoder._draw(z, None if latent_dim else 5, seed, False)
  np.testing.assert_allclose(logits, decoder(images, z), rtol=1e-10, atol=1e-12)


class TestColour:
  """A pixel is drawn with all its channels, from the likelihood's parameters."""

  def make(self, shape=(5, 4, 3), **settings):
    likelihood = LogisticMixture(**{"components": 2, "levels": 6, **settings})
    return make(kernel_sizes=(5, 3), shape=shape, scale=0.4, likelihood=likelihood)

  @pytest.mark.parametrize("seed", [(1, 2), None], ids=["sampled", "expected"])
  def test_parameters_drawn_from_are_the_full_networks_on_the_finished_image(self, seed):
    decoder, z = self.make(), np.random.default_rng(0).normal(size=(3, 2))
    images, parameters = draw(decoder, z, seed)
    assert images.shape == (3, 5, 4, 3) and parameters.shape == (3, 5, 4, 20)
    np.testing.assert_allclose(parameters, decoder(images, z), rtol=1e-10, atol=1e-12)
    if seed is None:
      np.testing.assert_allclose(decoder.decode(z), images, rtol=1e-10)

  def test_probabilities_of_all_images_sum_to_one(self):
    decoder = self.make((2, 2, 2), levels=2)
    x = np.array(list(itertools.product([0.0, 1.0], repeat=8))).reshape(-1, 2, 2, 2)
    z = np.tile([[0.4, -0.9]], (len(x), 1))
    log_prob = decoder.log_prob(x, z, decoder.precompute(x))
    np.testing.assert_allclose(tf.reduce_sum(tf.exp(log_prob)), 1.0, rtol=1e-12)
    assert np.ptp(log_prob) > 1

  def test_samples_have_the_probabilities_and_the_mean_of_all_images(self):
    decoder, num = self.make((2, 2, 2), levels=2), 20_000
    x = np.array(list(itertools.product([0.0, 1.0], repeat=8))).reshape(-1, 2, 2, 2)
    z = np.tile([[0.4, -0.9]], (num, 1))
    drawn = decoder.sample(z, (1, 2)).numpy()
    p = np.exp(decoder.log_prob(x, z[: len(x)], decoder.precompute(x)))
    mean = np.einsum("n,n...->...", p, x)
    assert np.all(np.abs(drawn.mean(axis=0) - mean) < 5 * np.sqrt(mean * (1 - mean) / num))
    numbers = drawn.reshape(num, 8) @ (2 ** np.arange(8)[::-1])
    frequencies = np.bincount(numbers.astype(int), minlength=256) / num
    assert np.all(np.abs(frequencies - p) < 5 * np.sqrt(p * (1 - p) / num) + 1e-4)

  def test_a_pixel_sees_what_was_drawn_before_it_and_nothing_else(self):
    decoder, z = self.make(), np.zeros((1, 2))
    image = decoder.sample(z, (1, 2)).numpy()
    before = decoder(image, z).numpy()
    image[0, 2, 1] = 1 - image[0, 2, 1]
    moved = np.abs(decoder(image, z).numpy() - before).max(axis=(0, 3)) > 1e-9
    assert moved[2, 2] and moved[3].any() and not moved[:2].any() and not moved[2, :2].any()

  def test_bad_shapes_are_one_line(self):
    with pytest.raises(UserError, match=r"\(height, width, 1\), received \(5, 4, 3\).*another likelihood"):
      GatedPixelCNN(2, 4, (3,), image_shape=(5, 4, 3))


def test_sample_frequencies_are_the_models_probabilities():
  decoder = make(latent_dim=2, kernel_sizes=(3, 3), shape=(2, 2, 1))
  count = 20_000
  z = np.tile([[0.4, -0.9]], (count, 1))
  drawn = decoder.sample(z, (1, 2)).numpy().reshape(count, 4)
  x = np.array(list(itertools.product([0.0, 1.0], repeat=4)))
  images = x.reshape(-1, 2, 2, 1)
  p = np.exp(decoder.log_prob(images, z[:16], decoder.precompute(images)))
  frequencies = np.bincount((drawn @ [8, 4, 2, 1]).astype(int), minlength=16) / count
  # Five standard errors, for each of the 16 images.
  assert np.all(np.abs(frequencies - p) < 5 * np.sqrt(p * (1 - p) / count))


def test_decode_is_the_probability_along_the_greedy_path():
  decoder = make()
  z = np.random.default_rng(0).normal(size=(3, 2))
  probabilities = decoder.decode(z)
  greedy = np.asarray(probabilities > 0.5, "float64")
  np.testing.assert_allclose(probabilities, tf.sigmoid(decoder(greedy, z)), rtol=1e-10)


def test_dropout_is_off_while_sampling():
  z = np.random.default_rng(0).normal(size=(3, 2))
  np.testing.assert_array_equal(make(dropout=0.9).sample(z, (1, 2)), make().sample(z, (1, 2)))


def test_sampling_is_traced_once_for_a_number_of_images_and_once_for_all_others():
  decoder = make()
  traced = pixelcnn_sampling._all_rows
  before = traced.experimental_get_tracing_count()
  for seed in range(3):
    decoder.sample(np.full((3, 2), float(seed)), (seed, 2))
  assert traced.experimental_get_tracing_count() == before + 1
  for number in (4, 1, 5):
    assert len(decoder.sample(np.zeros((number, 2)), (1, 2))) == number
  assert traced.experimental_get_tracing_count() == before + 2


def test_progress_bar_shows_rows_and_draws_the_same(capsys):
  decoder = make()
  z = np.random.default_rng(0).normal(size=(3, 2))
  with_bar = decoder.sample(z, (1, 2), progress=True)
  assert "6/6" in capsys.readouterr().err
  np.testing.assert_array_equal(with_bar, decoder.sample(z, (1, 2)))
  assert capsys.readouterr().err == ""


def test_sampling_within_a_function_of_unknown_batch_size():
  decoder = make()
  z = np.random.default_rng(0).normal(size=(3, 2))
  function = tf.function(lambda z: (decoder.sample(z, (1, 2)), decoder.decode(z)))
  samples, probabilities = function.get_concrete_function(tf.TensorSpec([None, 2], tf.float64))(
    tf.constant(z)
  )
  np.testing.assert_array_equal(samples, decoder.sample(z, (1, 2)))
  np.testing.assert_allclose(probabilities, decoder.decode(z), rtol=1e-10)


def test_sampling_under_xla():
  """XLA has random numbers of its own; its samples too are drawn from the network's logits."""
  decoder = make()
  z = tf.constant(np.random.default_rng(0).normal(size=(3, 2)))
  compiled = tf.function(lambda seed: draw(decoder, z, seed, num=3), jit_compile=True)
  images, logits = compiled(tf.constant((1, 2)))
  np.testing.assert_allclose(logits, decoder(images, z), rtol=1e-10, atol=1e-12)
  greedy = tf.function(lambda: decoder.decode(z), jit_compile=True)()
  np.testing.assert_allclose(greedy, decoder.decode(z), rtol=1e-10)
