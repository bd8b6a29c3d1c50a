"""Training images are drawn anew every time, evaluation images once; grey is the probability of ink."""

import numpy as np
import pytest

from tf_savae.data import images_from_arrays
from tf_savae.errors import UserError

GREY = np.array([[0.0, 0.25, 0.5], [0.75, 0.9, 1.0]], np.float32)


def repeated(n):
  return np.broadcast_to(GREY, (n, *GREY.shape))


@pytest.fixture(scope="module")
def images():
  return lambda seed=0: images_from_arrays(
    repeated(40), repeated(500), repeated(500), source="mine", seed=seed
  )


def epoch(data, number, batch=16):
  per_epoch = data.steps_per_epoch(batch)
  return np.concatenate([x.numpy() for x in data.train_batches(batch, number * per_epoch, per_epoch)])


def test_images_are_binary_and_have_a_channel(images):
  x = epoch(images(), 0)
  assert x.shape == (40, 2, 3, 1)
  assert x.dtype == np.float32
  assert set(np.unique(x)) == {0.0, 1.0}


def test_the_mean_over_epochs_tends_to_the_grey_value(images):
  x = np.concatenate([x.numpy() for x in images().train_batches(40, 0, 100)])  # [100 epochs * 40, 2, 3, 1]
  deviation = np.abs(x.mean(axis=0)[..., 0] - GREY)
  np.testing.assert_array_less(deviation, 4.5 * np.sqrt(GREY * (1 - GREY) / len(x)) + 1e-12)


def test_binarisation_differs_between_epochs_and_between_seeds():
  # One image, so that the order cannot make the difference.
  grey = np.full((1, 20, 20), 0.5, np.float32)
  draw = lambda seed, step: next(  # noqa: E731
    iter(images_from_arrays(grey, grey, grey, source="one", seed=seed).train_batches(1, step, 1))
  ).numpy()
  assert 0.3 < np.mean(draw(0, 0) != draw(0, 1)) < 0.7  # independent fair coins
  assert 0.3 < np.mean(draw(0, 0) != draw(1, 0)) < 0.7
  np.testing.assert_array_equal(draw(0, 0), draw(0, 0))


def test_binary_images_stay_what_they_are():
  x = np.random.default_rng(0).integers(0, 2, (9, 5, 5))
  data = images_from_arrays(x, x, x, source="binary")
  np.testing.assert_array_equal(data.examples("test", 9)[..., 0], x)
  np.testing.assert_array_equal(np.sort(epoch(data, 0), axis=0)[..., 0], np.sort(x, axis=0))


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_evaluation_images_are_the_same_in_every_run_and_pass(images, split):
  served = lambda seed, batch: np.concatenate(  # noqa: E731
    [x.numpy() for x in images(seed).eval_batches(split, batch)]
  )
  np.testing.assert_array_equal(served(0, 7), served(99, 16))
  np.testing.assert_array_equal(served(0, 7), images(5).examples(split, 10**6))


def test_valid_and_test_are_drawn_independently(images):
  differ = np.mean(images().examples("valid", 500) != images().examples("test", 500), axis=0)[..., 0]
  np.testing.assert_allclose(differ, 2 * GREY * (1 - GREY), atol=0.1)


def test_the_first_examples_are_the_beginning_of_all(images):
  np.testing.assert_array_equal(images().examples("valid", 3), images().examples("valid", 500)[:3])
  np.testing.assert_array_equal(images().grey("valid", 3)[..., 0], repeated(3))


def test_arrays_with_and_without_a_channel_are_the_same_data():
  a = images_from_arrays(repeated(4), repeated(4), repeated(4), source="s")
  b = images_from_arrays(*[repeated(4)[..., np.newaxis]] * 3, source="s")
  np.testing.assert_array_equal(epoch(a, 1), epoch(b, 1))
  assert (a.name, a.source, a.is_stand_in, a.kind) == ("images", "s", False, "image")


@pytest.mark.parametrize(
  ("bad", "message"),
  [
    (repeated(4) * 255, r"\[0, 1\].*0 to 255"),
    (repeated(4) - 1, r"from -1 to 0"),
    (repeated(4) * np.nan, r"nan"),
    (repeated(0), r"no valid images.*\[0, 2, 3, 1\]"),
    (np.zeros((4, 784)), r"float64 \[4, 784\]"),
    (np.zeros((4, 2, 3, 3)), r"\[4, 2, 3, 3\]"),
    (np.zeros((4, 2, 3), complex), r"complex128"),
    (np.zeros((4, 5, 5)), r"one height and width.*5, 5"),
  ],
)
def test_unusable_arrays_are_refused_in_one_line(bad, message):
  with pytest.raises(UserError, match=message) as caught:
    images_from_arrays(repeated(4), bad, repeated(4), source="bad")
  assert "\n" not in str(caught.value)


def test_an_unknown_split_is_refused(images):
  for ask in (
    lambda: images().num_examples("dev"),
    lambda: images().examples("dev", 3),
    lambda: images().eval_batches("dev", 3),
  ):
    with pytest.raises(UserError, match=r"train, valid, test. Received: 'dev'"):
      ask()
