"""A PNG file becomes, in the graph, the image that the data set would have made of it."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_savae.data.omniglot_release import area_average
from tf_savae.serving import images


def png(pixels, mode=None) -> bytes:
  data = io.BytesIO()
  image = Image.fromarray(pixels)
  (image if mode is None else image.convert(mode)).save(data, "PNG")
  return data.getvalue()


def grey(*files) -> np.ndarray:
  return images.grey_from_png(tf.constant(list(files)), (28, 28, 1)).numpy()[..., 0]


def drawing(seed=0, side=105) -> np.ndarray:
  """Black on white, as in the original release."""
  return np.where(np.random.default_rng(seed).random([side, side]) < 0.2, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA"])
def test_a_drawing_of_the_release_is_reduced_as_in_training(mode):
  files = [png(drawing(seed), mode) for seed in range(3)]
  expected = area_average(np.stack([drawing(seed) for seed in range(3)]))
  np.testing.assert_array_equal(grey(*files), expected)


def test_ink_is_one_and_paper_is_zero():
  pixels = np.full([105, 105], 255, np.uint8)
  pixels[:, :45] = 0  # 12 small pixels of 3.75
  [small] = grey(png(pixels))
  np.testing.assert_array_equal(small[:, :12], 1.0)
  np.testing.assert_array_equal(small[:, 12:], 0.0)


def test_colours_become_grey_as_pillow_makes_them():
  pixels = np.random.default_rng(0).integers(0, 256, [28, 28, 3]).astype(np.uint8)
  luma = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)
  np.testing.assert_allclose(grey(png(pixels))[0], 1 - luma / 255, atol=1e-6)


def test_transparent_ground_is_paper():
  pixels = np.zeros([28, 28, 4], np.uint8)
  pixels[:5, :, 3] = 255
  [small] = grey(png(pixels))
  np.testing.assert_array_equal(small[:5], 1.0)
  np.testing.assert_array_equal(small[5:], 0.0)


def test_files_of_different_sizes_share_a_batch():
  files = [png(drawing(side=side)) for side in (28, 105, 300, 9)]
  together = grey(*files)
  assert together.shape == (4, 28, 28)
  for row, file in zip(together, files, strict=True):
    np.testing.assert_array_equal(row, grey(file)[0])


def test_probability_of_ink_is_the_grey_value():
  thresholds = images.thresholds((28, 28, 1), 0)
  half = png(np.full([28, 28], 128, np.uint8))
  x = images.from_png(tf.constant([half, half]), thresholds).numpy()
  assert set(np.unique(x)) == {0.0, 1.0}
  assert abs(x.mean() - 0.498) < 0.06  # 784 draws: three standard errors
  np.testing.assert_array_equal(x[0], x[1])
  assert (thresholds != images.thresholds((28, 28, 1), 1)).any()


def test_black_and_white_stay_as_they_are():
  pixels = drawing(side=28)
  x = images.from_png(tf.constant([png(pixels)]), images.thresholds((28, 28, 1), 0))
  np.testing.assert_array_equal(x[0, ..., 0], pixels == 0)


def huge() -> bytes:
  data = bytearray(png(drawing(side=28)))
  data[16:20] = (1 << 20).to_bytes(4, "big")
  return bytes(data)


@pytest.mark.parametrize(
  ("file", "message"),
  [
    (b"", "must be PNG files"),
    (b"GIF89a" + b"\0" * 50, "must be PNG files"),
    (b"\x89PNG\r\n\x1a\n", "must be PNG files"),
    (huge(), "1 to 4096 pixels per side.*1048576"),
    (png(drawing())[:200], "PNG"),
  ],
)
def test_what_is_no_png_is_refused(file, message):
  thresholds = images.thresholds((28, 28, 1), 0)
  decode = tf.function(lambda data: images.from_png(data, thresholds))
  with pytest.raises(tf.errors.InvalidArgumentError, match=message):
    decode(tf.constant([png(drawing()), file]))


def test_no_files_are_no_images():
  x = images.from_png(tf.constant([], tf.string), images.thresholds((28, 28, 1), 0))
  assert x.shape == (0, 28, 28, 1)
