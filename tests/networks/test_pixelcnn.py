"""The PixelCNN factorises p(x | z) in raster order."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.networks import GatedPixelCNN, LatePixelCNN


def with_random_weights(decoder, scale=0.5):
  """All weights and biases drawn anew, so that no path through the network is switched off."""
  for i, v in enumerate(decoder.weights):
    v.assign(scale * np.random.default_rng(i).normal(size=v.shape))
  return decoder


def moved_logits(decoder, image, pixels, z):
  """[pixel, height, width]: which logits move, beyond rounding, when each of `pixels` is flipped."""
  images = np.repeat(image[np.newaxis], len(pixels) + 1, axis=0)
  for n, (i, j) in enumerate(pixels):
    images[n, i, j] = 1 - images[n, i, j]
  z = None if z is None else np.repeat(z, len(images), axis=0)
  logits = decoder(tf.constant(images), z).numpy()[..., 0]
  return np.abs(logits[:-1] - logits[-1]) > 1e-12


def receptive_field(kernel_sizes, height, width):
  """[pixel row, pixel column, logit row, logit column]: whether the logit may see the pixel.

  Follows the definition of the stacks: sets of visible pixels, united along the kernels.
  """
  sees_nothing = np.zeros((height, width, height, width), bool)

  def shifted(field, down, right):
    """What position (r, c) sees through a tap at (r - down, c - right)."""
    out = sees_nothing.copy()
    for r, c in itertools.product(range(height), range(width)):
      if 0 <= r - down < height and 0 <= c - right < width:
        out[:, :, r, c] = field[:, :, r - down, c - right]
    return out

  itself = sees_nothing.copy()
  for r, c in itertools.product(range(height), range(width)):
    itself[r, c, r, c] = True
  v = h = itself
  for layer, k in enumerate(kernel_sizes):
    above = itertools.product(range(1, k // 2 + 2), range(-(k // 2), k // 2 + 1))
    v = np.any([shifted(v, down, right) for down, right in above], axis=0)
    left = range(k // 2 + 1) if layer else range(1, k // 2 + 2)
    h = np.any([shifted(h, 0, right) for right in left] + [v], axis=0)
  return h


@pytest.mark.parametrize("latent_dim", [0, 3])
@pytest.mark.parametrize("kernel_sizes", [(3,), (1, 3), (3, 3, 1), (5, 3, 3), (9, 5)])
@pytest.mark.parametrize("network", [GatedPixelCNN, LatePixelCNN])
def test_a_logit_moves_exactly_with_the_earlier_pixels_of_its_receptive_field(
  network, kernel_sizes, latent_dim
):
  height, width = 6, 7
  shape = (height, width, 1)
  decoder = with_random_weights(
    network(latent_dim, 4, kernel_sizes, image_shape=shape, position_maps=1, dtype="float64")
  )
  image = (np.random.default_rng(0).random((height, width, 1)) < 0.5).astype("float64")
  z = np.random.default_rng(1).normal(size=(1, latent_dim)) if latent_dim else None
  pixels = list(itertools.product(range(height), range(width)))
  moved = moved_logits(decoder, image, pixels, z)
  for (i, j), logits in zip(pixels, moved, strict=True):
    assert not np.any(logits.reshape(-1)[: i * width + j + 1]), f"a logit at or before {(i, j)} moved"
  expected = receptive_field(kernel_sizes, height, width).reshape(len(pixels), height, width)
  np.testing.assert_array_equal(moved, expected)
  assert expected.any()


def test_the_papers_network_is_causal_and_sees_all_earlier_pixels_nearby():
  decoder = with_random_weights(GatedPixelCNN(3, 4, latent_maps=2, dtype="float64"), scale=0.3)
  rng = np.random.default_rng(0)
  image = (rng.random((28, 28, 1)) < 0.5).astype("float64")
  pixels = [(0, 0), (0, 27), (27, 0), (27, 27), *map(tuple, rng.integers(0, 28, size=(12, 2)))]
  for (i, j), moved in zip(
    pixels, moved_logits(decoder, image, pixels, rng.normal(size=(1, 3))), strict=True
  ):
    assert not np.any(moved.reshape(-1)[: i * 28 + j + 1]), f"a logit at or before {(i, j)} moved"
    assert np.all(moved[i, j + 1 : j + 5])
    assert np.all(moved[i + 1 : i + 5, max(j - 4, 0) : j + 5])


def test_position_maps_reach_every_logit_and_begin_as_zeros():
  x = np.zeros((1, 5, 6, 1))
  new = {
    size: GatedPixelCNN(0, 4, (3, 3), 2, (5, 6, 1), position_maps=size, dtype="float64") for size in (0, 2)
  }
  np.testing.assert_array_equal(new[0](x), new[2](x))
  decoder = with_random_weights(new[2])
  before = decoder(x).numpy()
  decoder.position_map.assign(np.random.default_rng(9).normal(size=decoder.position_map.shape))
  assert np.all((decoder(x).numpy() != before).reshape(-1)[1:])


def test_position_maps_are_what_the_bias_of_the_maps_of_z_is():
  with_latent = with_random_weights(GatedPixelCNN(2, 4, (3, 3), 2, (5, 6, 1), dtype="float64"))
  plain = GatedPixelCNN(0, 4, (3, 3), 2, (5, 6, 1), position_maps=2, dtype="float64")
  of_latent = {v.name: v for v in with_latent.weights}
  names = {
    "position_map": "latent_bias",
    "vertical_position": "vertical_latent",
    "horizontal_position": "horizontal_latent",
  }
  for v in plain.weights:
    v.assign(of_latent[names.get(v.name, v.name)])
  x = np.asarray(np.random.default_rng(0).random((3, 5, 6, 1)) < 0.5, "float64")
  np.testing.assert_allclose(plain(x), with_latent(x, np.zeros((3, 2))), rtol=1e-12)


def test_latent_reaches_every_logit():
  decoder = with_random_weights(GatedPixelCNN(2, 4, (3, 3), 2, (5, 6, 1), dtype="float64"))
  x = np.zeros((2, 5, 6, 1))
  a, b = decoder(x, np.array([[0.0, 0.0], [0.5, -1.0]])).numpy()
  # All but the first: that one's context is the border.
  assert np.all((a != b).reshape(-1)[1:])


@pytest.mark.parametrize("latent_dim", [0, 2])
def test_probabilities_of_all_images_sum_to_one(latent_dim):
  decoder = with_random_weights(
    GatedPixelCNN(latent_dim, 3, (3, 3), 2, (2, 3, 1), dtype="float64"), scale=1.0
  )
  x = np.array(list(itertools.product([0.0, 1.0], repeat=6))).reshape(-1, 2, 3, 1)
  z = np.tile([[0.3, -1.2]], (len(x), 1)) if latent_dim else None
  log_prob = decoder.log_prob(x, z, decoder.precompute(x))
  np.testing.assert_allclose(tf.reduce_sum(tf.exp(log_prob)), 1.0, rtol=1e-12)
  assert np.ptp(log_prob) > 1.0  # and it is not the uniform distribution


def test_forward_pass_alone_in_a_graph():
  """Without gradients the graph optimiser fuses most, and one of its patterns ends the process."""
  decoder = with_random_weights(GatedPixelCNN(2, 4, (5, 3), 2, (6, 7, 1)))
  x, z = tf.ones([3, 6, 7, 1]), tf.ones([3, 2])
  context = decoder.precompute(x)
  np.testing.assert_allclose(tf.function(decoder.logits)(z, context), decoder.logits(z, context), atol=1e-5)
  np.testing.assert_allclose(tf.function(decoder)(x, z), decoder(x, z), atol=1e-5)


def test_dropout_scales_the_last_features():
  decoder = with_random_weights(
    GatedPixelCNN(0, 16, (3,), image_shape=(9, 9, 1), dropout=0.25, dtype="float64")
  )
  mask = decoder.precompute(np.zeros((20, 9, 9, 1)), training=True, seed=(1, 2))[2]
  np.testing.assert_allclose(np.unique(mask), [0.0, 1 / 0.75])
  np.testing.assert_allclose(np.mean(mask), 1.0, atol=0.01)


@pytest.mark.parametrize(
  "wrong",
  [
    {"latent_dim": -1},
    {"channels": 0},
    {"latent_maps": 0},
    {"kernel_sizes": ()},
    {"kernel_sizes": (4, 3)},
    {"kernel_sizes": (-3,)},
    {"image_shape": (28, 28)},
    {"image_shape": (28, 28, 3)},
    {"image_shape": (1, 28, 1)},
    {"dropout": 1.0},
    {"dropout": -0.1},
    {"position_maps": -1},
  ],
  ids=str,
)
def test_impossible_sizes_are_refused_in_one_line(wrong):
  with pytest.raises(UserError, match="received") as error:
    GatedPixelCNN(**wrong)
  assert "\n" not in str(error.value)


def test_images_of_another_size_are_refused():
  with pytest.raises(UserError, match="28"):
    GatedPixelCNN(2, 4, (3,)).precompute(tf.zeros([2, 32, 32, 1]))
