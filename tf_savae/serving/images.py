"""From PNG files to the binary images that the networks were trained on, inside the graph."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from tf_savae.seeds import Purpose, stateless_seed

MAX_SIDE = 4096  # pixels: a few bytes of PNG can claim to be gigabytes of image

_MAGIC = b"\x89PNG\r\n\x1a\n"
_SIZE_AT, _DEPTH_AT = 16, 24  # where a PNG says its width and height, and its bits per channel
_HEADER = 33  # bytes at the beginning


def thresholds(shape: Sequence[int], seed: int) -> np.ndarray:
  """U(0, 1) of the image's shape: a pixel is ink where its grey value is above, so that P(ink) is the grey value."""
  return tf.random.stateless_uniform(shape, stateless_seed(seed, 0, Purpose.FIXED_BINARISE)).numpy()


def from_png(image_bytes: tf.Tensor, thresholds: np.ndarray) -> tf.Tensor:
  """Binary images of PNG files.

  Args:
    image_bytes: string `[batch]`, PNG files, each of its own size.
    thresholds: `[height, width, 1]`, see `thresholds`.

  Returns:
    float32 `[batch, height, width, 1]` in {0, 1}, ink = 1. A file that is no PNG, or too large, fails the batch.
  """
  with tf.control_dependencies(_are_png(image_bytes)):
    image_bytes = tf.identity(image_bytes)
  return tf.cast(thresholds < grey_from_png(image_bytes, thresholds.shape), tf.float32)


def levels_from_png(image_bytes: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
  """Grey values or colours of PNG files, as `tf_savae.data.pictures` makes them for training.

  Args:
    image_bytes: string `[batch]`, PNG files, each of its own size.
    shape: `(height, width, channels)`; 1 channel is ink, which is 1 where it is dark, and 3 are red, green and blue.

  Returns:
    float32 `[batch, height, width, channels]`, 8-bit values divided by 255. A file that is no PNG, or too large, fails
    the batch.
  """
  with tf.control_dependencies(_are_png(image_bytes)):
    image_bytes = tf.identity(image_bytes)
  if shape[-1] == 1:
    values = grey_from_png(image_bytes, shape)
  else:
    values = tf.map_fn(
      lambda data: _colours(data, shape), image_bytes, fn_output_signature=tf.TensorSpec(shape, tf.float32)
    )
  return tf.round(255.0 * values) / 255.0


def _colours(data: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
  """One file as red, green and blue in [0, 1], on white paper."""
  pixels = tf.cast(tf.io.decode_png(data, channels=4), tf.float32)
  # Below 8 bits TensorFlow fills in an alpha of 1, 3 or 15 for opaque.
  has_alpha = tf.io.decode_raw(tf.strings.substr(data, _DEPTH_AT, 1), tf.uint8)[0] >= 8
  alpha = tf.where(has_alpha, pixels[..., 3:], 255.0) / 255.0
  on_paper = tf.round(pixels[..., :3] * alpha + 255.0 * (1.0 - alpha)) / 255.0
  small = tf.image.resize(on_paper[tf.newaxis], shape[:2], method=tf.image.ResizeMethod.AREA)[0]
  return tf.clip_by_value(small, 0.0, 1.0)


def grey_from_png(image_bytes: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
  """Grey values `[batch, height, width, 1]` in [0, 1], ink = 1, as `omniglot_release.area_average` makes them."""

  def one(data):
    pixels = tf.cast(tf.io.decode_png(data, channels=4), tf.int32)
    red, green, blue, alpha = tf.unstack(pixels, axis=-1)
    # Below 8 bits, as in the release's own files, TensorFlow fills in an alpha of 1, 3 or 15 for opaque.
    has_alpha = tf.io.decode_raw(tf.strings.substr(data, _DEPTH_AT, 1), tf.uint8)[0] >= 8
    alpha = tf.where(has_alpha, alpha, 255)
    # ITU-R 601 luma in the integers that Pillow's convert("L") uses, by which the training images became grey.
    luma = tf.bitwise.right_shift(19595 * red + 38470 * green + 7471 * blue + 32768, 16)
    on_paper = tf.cast(luma * alpha + 255 * (255 - alpha), tf.float32) / 255.0
    ink = (1.0 - on_paper / 255.0)[tf.newaxis, ..., tf.newaxis]
    small = tf.image.resize(ink, shape[:2], method=tf.image.ResizeMethod.AREA)[0]
    return tf.clip_by_value(small, 0.0, 1.0)

  spec = tf.TensorSpec(shape, tf.float32)
  return tf.map_fn(one, image_bytes, fn_output_signature=spec)


def _are_png(image_bytes: tf.Tensor) -> list[tf.Operation]:
  """Assertions, the second after the first."""
  padded = tf.strings.join(
    [image_bytes, tf.constant(b"\0" * _HEADER)]
  )  # so that every file has a header to look at
  is_png = tf.equal(tf.strings.substr(padded, 0, len(_MAGIC)), _MAGIC)
  is_png &= tf.strings.length(image_bytes) >= _HEADER
  count = tf.math.count_nonzero(~is_png)
  wrong = tf.debugging.Assert(
    tf.reduce_all(is_png), ["image_bytes must be PNG files; of these rows some are not:", count]
  )
  sizes = tf.io.decode_raw(tf.strings.substr(padded, _SIZE_AT, 8), tf.int32, little_endian=False)
  sizes = tf.where(is_png[:, tf.newaxis], tf.reshape(sizes, [-1, 2]), 1)
  fits = tf.reduce_all((sizes > 0) & (sizes <= MAX_SIDE))
  large = tf.debugging.Assert(
    fits, [f"a PNG must have 1 to {MAX_SIDE} pixels per side, received", tf.reduce_max(sizes)]
  )
  return [wrong, large]


def example_drawings(n: int, height: int, width: int) -> np.ndarray:
  """`n` different made-up strokes, float64 `[n, height, width]`, ink = 1: arcs, for gate and warm-up."""
  row, column = np.mgrid[0:height, 0:width]
  y, x = (row + 0.5) / height, (column + 0.5) / width
  angle = np.arange(n)[:, np.newaxis, np.newaxis] * 0.9
  center_y, center_x = 0.5 + 0.2 * np.sin(angle), 0.5 + 0.2 * np.cos(angle)
  distance = np.hypot(y - center_y, x - center_x)
  return (np.abs(distance - 0.25 - 0.02 * (np.arange(n) % 3)[:, np.newaxis, np.newaxis]) < 0.05).astype(float)


def example_values(n: int, shape: Sequence[int]) -> np.ndarray:
  """`n` different made-up images of levels, float32 `[n, *shape]`: strokes on a ground whose colour changes."""
  strokes = example_drawings(n, *shape[:2])[..., np.newaxis]
  ground = 0.5 + 0.4 * np.cos(np.arange(n)[:, np.newaxis] + 2.1 * np.arange(shape[-1]))
  values = strokes + (1 - strokes) * ground[:, np.newaxis, np.newaxis]
  return np.float32(np.round(255 * values) / 255)


def encode_levels(values: np.ndarray) -> bytes:
  """A PNG file of `[height, width, 1]` in [0, 1], ink = 1, or of colours `[height, width, 3]`."""
  if values.shape[-1] == 1:
    return encode_png(values[..., 0])
  data = io.BytesIO()
  Image.fromarray(np.uint8(np.round(255 * values))).save(data, "PNG")
  return data.getvalue()


def encode_png(ink: np.ndarray) -> bytes:
  """A PNG file of `[height, width]` in [0, 1], ink = 1, as a drawing: dark on light."""
  data = io.BytesIO()
  Image.fromarray(np.uint8(np.round(255 * (1 - ink)))).save(data, "PNG")
  return data.getvalue()
