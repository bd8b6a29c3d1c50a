"""The residual encoder's structure. Its numbers are pinned in test_golden_networks.py."""

import numpy as np
import pytest
import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.networks import ResNetEncoder


def test_the_papers_encoder_has_the_papers_size():
  encoder = ResNetEncoder()
  encoder.build((None, 28, 28, 1))
  shapes = {tuple(v.shape) for v in encoder.trainable_variables}
  assert encoder.mean_head.kernel.shape == (3 * 3 * 64, 32)
  assert (1, 1, 1, 64) in shapes  # a projection from the image's one channel …
  assert (1, 1, 64, 64) not in shapes  # … and identities between equal ones
  # Per stage: two 3x3 convolutions, two norms, one 2x2 convolution; a projection in the first; two heads.
  first = (9 * 64 + 64) + (9 * 64 * 64 + 64) + 4 * 64 + (4 * 64 * 64 + 64) + (64 + 64)
  later = 2 * (9 * 64 * 64 + 64) + 4 * 64 + (4 * 64 * 64 + 64)
  heads = 2 * (576 * 32 + 32)
  assert sum(int(np.prod(v.shape)) for v in encoder.trainable_variables) == first + 2 * later + heads


def test_evaluation_mode_treats_examples_one_by_one():
  encoder = ResNetEncoder(2, (3, 4), dtype="float64")
  x = np.random.default_rng(0).random((3, 8, 8, 1))
  encoder(x, training=True)  # moves the statistics from their initial values
  together = encoder(x)
  for i in range(3):
    alone = encoder(x[i : i + 1])
    for a, b in zip(alone, together, strict=True):
      np.testing.assert_allclose(a, b[i : i + 1], rtol=1e-12)


def test_training_mode_updates_moving_statistics_and_evaluation_does_not():
  encoder = ResNetEncoder(2, (3,))
  x = np.random.default_rng(0).random((3, 8, 8, 1)).astype("float32")
  encoder(x)
  before = [v.numpy() for v in encoder.non_trainable_variables]
  encoder(x)
  for a, b in zip(encoder.non_trainable_variables, before, strict=True):
    np.testing.assert_array_equal(a, b)
  encoder(x, training=True)
  assert all(np.any(a.numpy() != b) for a, b in zip(encoder.non_trainable_variables, before, strict=True))


def test_every_weight_receives_a_gradient():
  encoder = ResNetEncoder(2, (3, 4), dtype="float64")
  x = np.random.default_rng(0).random((3, 8, 8, 1))
  encoder(x)
  with tf.GradientTape() as tape:
    params = encoder(x)
    loss = tf.reduce_sum(params.mean**2) + tf.reduce_sum(params.log_var**2)
  gradients = tape.gradient(loss, [v.value for v in encoder.trainable_variables])
  for variable, gradient in zip(encoder.trainable_variables, gradients, strict=True):
    assert float(tf.norm(gradient)) > 0, variable.path


@pytest.mark.parametrize("wrong", [{"latent_dim": 0}, {"channels": ()}, {"channels": (4, 0)}], ids=str)
def test_impossible_sizes_are_refused_in_one_line(wrong):
  with pytest.raises(UserError, match="received") as error:
    ResNetEncoder(**wrong)
  assert "\n" not in str(error.value)


def test_images_too_small_to_be_halved_are_refused():
  with pytest.raises(UserError, match="halves its images 3 times"):
    ResNetEncoder(2, (3, 3, 3))(tf.zeros([2, 7, 28, 1]))
