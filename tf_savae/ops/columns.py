"""Convolutions of maps stored column by column, `[width, batch, height, channels]`.

With the width first, the columns of a kernel extend along the outermost axis. A matrix product, or a convolution of
one long image, handles that without moving data. The rows of a kernel are neighbours within a column.
"""

from __future__ import annotations

import tensorflow as tf

from tf_savae.ops import fourier


def look_above(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
  """Convolution in which row r of the result sees rows r − reach to r − 1 of `x`, and s // 2 columns on both sides.

  Args:
    x: maps, `[width, batch, height, channels in]`.
    kernel: `[reach, s, channels in, channels out]`, s odd.

  Returns:
    `[width, batch, height, channels out]`.
  """
  reach, side, seen, made = kernel.shape
  if by_fourier(side, seen):
    return fourier.look_above(x, kernel)
  height = x.shape[2]
  padded = tf.pad(x, [[side // 2, side // 2], [0, 0], [reach, 0], [0, 0]])
  rows = [tf.slice(padded, [0, 0, row, 0], [-1, -1, height, -1]) for row in range(reach)]
  stacked = tf.transpose(kernel, [1, 0, 2, 3])
  return _along(tf.concat(rows, axis=-1), tf.reshape(stacked, [side, 1, reach * seen, made]))


def look_left(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
  """Convolution in which column c sees columns c − reach + 1 to c of `x`; `kernel` is `[1, reach, in, out]`."""
  _, reach, seen, made = kernel.shape
  padded = tf.pad(x, [[reach - 1, 0], [0, 0], [0, 0], [0, 0]])
  return _along(padded, tf.reshape(kernel, [reach, 1, seen, made]))


def each(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
  """Convolution in which every pixel sees only itself; `kernel` is `[1, 1, in, out]`."""
  return tf.nn.conv2d(x, kernel, 1, "VALID")


def without_last(x: tf.Tensor) -> tf.Tensor:
  """All columns but the last."""
  # tf.slice is used because the gradient kernel of x[:-1] is slow.
  return tf.slice(x, [0] * x.shape.rank, [x.shape[0] - 1, *[-1] * (x.shape.rank - 1)])


def shifted(x: tf.Tensor) -> tf.Tensor:
  """`x` moved one column to the right, with a column of zeros first."""
  return tf.pad(x, [[1, 0], [0, 0], [0, 0], [0, 0]])


def by_fourier(side: int, seen: int) -> bool:
  """Whether to use spectra for kernels of `side` columns and `seen` channels: if both are large, and on a CPU."""
  return side >= 5 and seen >= 8 and not tf.config.list_physical_devices("GPU")


def _along(x, kernel):
  """Convolution along the columns, with kernel `[s, 1, in, out]`, of all rows of all examples as one image."""
  columns, _, height, seen = x.shape
  # Padding is done by tf.pad and not by the convolution, which would make oneDNN's gradients slower.
  flat = tf.nn.conv2d(tf.reshape(x, [1, columns, -1, seen]), kernel, 1, "VALID")
  return tf.reshape(flat, [columns - kernel.shape[0] + 1, -1, height, kernel.shape[-1]])
