"""Images of one size in memory, or on disk where they are many."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae.errors import UserError, reason

IN_MEMORY_BYTES = 2**30  # of a data set; larger ones stay on disk
_BYTES = 255.0  # what 8-bit values are divided by


class Images:
  """Images of one split: rows of an array in memory or of a file mapped into it.

  Args:
    array: `[n, height, width, channels]`, uint8 from 0 to 255 or float32 from 0 to 1; a `np.memmap` stays on disk.
    rows: those of the array that belong to the split, in order; None: all.
  """

  def __init__(self, array: np.ndarray, rows: np.ndarray | None = None):
    self.on_disk = isinstance(array, np.memmap)
    self._rows = np.arange(len(array)) if rows is None else np.asarray(rows)
    self.shape = (len(self._rows), *array.shape[1:])
    if self.on_disk:
      self._array = array
      return
    # A tensor in host memory even when a GPU is visible: batches are gathered from it.
    with tf.device("CPU:0"):
      self._tensor = tf.constant(array if rows is None else array[rows])

  def __len__(self) -> int:
    return self.shape[0]

  def take(self, rows: tf.Tensor) -> tf.Tensor:
    """Images `[batch, height, width, channels]` in [0, 1], float32."""
    if self.on_disk:
      images = tf.numpy_function(self._read, [rows], self._array.dtype, stateful=False)
      images = tf.ensure_shape(images, [None, *self.shape[1:]])
    else:
      images = tf.gather(self._tensor, rows)
    return tf.cast(images, tf.float32) / _BYTES if images.dtype == tf.uint8 else images

  def _read(self, rows):
    return np.ascontiguousarray(self._array[self._rows[rows]])


def as_images(images: Any) -> Images:
  """`Images` of an array, or the object itself."""
  return images if isinstance(images, Images) else Images(np.asarray(images))


def empty(num: int, shape: Sequence[int], dtype: Any) -> np.ndarray:
  """An array `[num, *shape]` to be filled: in memory, or in an unnamed temporary file if it is large.

  The file disappears with the array.

  Raises:
    UserError: the disk has no room for it.
  """
  size = num * int(np.prod(shape)) * np.dtype(dtype).itemsize
  if size <= IN_MEMORY_BYTES:
    return np.empty([num, *shape], dtype)
  try:
    with tempfile.TemporaryFile() as file:
      file.truncate(size)
      return np.memmap(file, dtype, "r+", shape=(num, *shape))
  except OSError as error:
    raise UserError(
      f"images of {size / 2**30:.1f} GiB need room in {tempfile.gettempdir()}: {reason(error)}; set TMPDIR"
    ) from error
