"""Wide convolutions by the convolution theorem: the sum over a kernel's columns is a product of spectra.

Take a kernel of `reach` rows and s columns over maps `[width, batch, height, channels]`. Directly, it costs width · s
products per row of the map and pair of channels. In the spectra of rows it costs 2 · period, where period is at least
width + s // 2. That is about a quarter as much for 9 columns over a width of 28. The sum over the kernel's rows is
still one matrix product per frequency. The spectra are computed by real products with a matrix of cosines and sines,
because rows are so short that this takes less time than an FFT. The result is exact up to rounding.

The spectrum of `period` real numbers at the frequencies 0 … period/2 has `period` real parts, a cosine and a sine part
for each frequency. The first and the last frequency have no sine part, so the last one's cosine part is stored in
place of the first one's sine part.

The convolution and its transposes with respect to input and kernel are linear in both arguments, and the derivatives
of each are the other two. So derivatives of any order exist and cost equally little.

Source: Mathieu, Henaff and LeCun, *Fast Training of Convolutional Networks through FFTs*, 2014, along one axis.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from tf_savae.ops.owned_gradients import custom_gradient


def look_above(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
  """Convolution in which row r of the result sees rows r − reach to r − 1 of `x`, and s // 2 columns on both sides.

  Args:
    x: maps, `[width, batch, height, channels in]`.
    kernel: `[reach, s, channels in, channels out]`, s odd.

  Returns:
    `[width, batch, height, channels out]`, differentiable any number of times.
  """
  return _to_output(x, kernel)


@custom_gradient
def _to_output(x, kernel):
  reach, columns, _, _ = kernel.shape
  period = _period(x, columns)
  blocks = _kernel_spectrum(kernel, period)  # [frequency, reach, 2, in, 2, out]
  rows = _side_by_side(_spectrum(x, period), range(reach), above=reach)
  product = tf.matmul(rows, _matrix(blocks))
  return _from_spectrum(product, x), lambda upstream: (
    _to_input(upstream, kernel),
    _to_kernel(x, upstream, reach, columns),
  )


@custom_gradient
def _to_input(upstream, kernel):
  reach, columns, _, _ = kernel.shape
  period = _period(upstream, columns)
  blocks = tf.transpose(_kernel_spectrum(kernel, period), [0, 1, 4, 5, 2, 3])
  rows = _side_by_side(_spectrum(upstream, period), range(reach, 0, -1), below=reach)
  product = tf.matmul(rows, _matrix(blocks))
  return _from_spectrum(product, upstream), lambda direction: (
    _to_output(direction, kernel),
    _to_kernel(direction, upstream, reach, columns),
  )


def _to_kernel(x, upstream, reach, columns):
  @custom_gradient
  def apply(x, upstream):
    period = _period(x, columns)
    seen = _side_by_side(_spectrum(x, period), range(reach), above=reach)
    by_product = _side_by_side(_spectrum(upstream, period, inverse=True), [0])
    by_blocks = tf.matmul(seen, by_product, transpose_a=True)
    by_blocks = tf.reshape(by_blocks, [period // 2, reach, 2, x.shape[-1], 2, upstream.shape[-1]])
    return _from_kernel_spectrum(by_blocks, columns), lambda direction: (
      _to_input(upstream, direction),
      _to_output(x, direction),
    )

  return apply(x, upstream)


def _period(x, columns):
  """An even period, long enough that the circular convolution does not wrap around."""
  least = x.shape[0] + columns // 2
  return least + least % 2


@functools.lru_cache
def _waves(first: int, count: int, period: int) -> np.ndarray:
  """Cosines, then negative sines, at positions first, first + 1, …; `[period, count]`."""
  frequency = np.arange(period // 2)[:, np.newaxis]
  angle = 2.0 * np.pi * frequency * np.arange(first, first + count) / period
  cosines, sines = np.cos(angle), -np.sin(angle)
  sines[0] = np.cos(np.pi * np.arange(first, first + count))
  return np.concatenate([cosines, sines])


def _to_spectrum_matrix(width, period, dtype, inverse=False):
  waves = _waves(0, width, period)
  if inverse:
    # Every frequency except the first and the last stands for two.
    waves = waves * 2.0 / period
    waves[[0, period // 2]] /= 2.0
  return tf.constant(waves, dtype)


def _spectrum(x, period, inverse=False):
  """Spectra `[2, frequency, batch, height, channels]`; with `inverse`, the transpose of `_from_spectrum`."""
  to_spectrum = _to_spectrum_matrix(x.shape[0], period, x.dtype, inverse)
  flat = tf.matmul(to_spectrum, tf.reshape(x, [x.shape[0], -1]))
  return tf.reshape(flat, [2, period // 2, -1, *x.shape[2:]])


def _from_spectrum(product, like):
  """Maps of the width, batch and height of `like` from spectra `[frequency, batch · height, 2 · channels]`."""
  frequencies, _, channels = product.shape
  parts = tf.transpose(tf.reshape(product, [frequencies, -1, 2, channels // 2]), [2, 0, 1, 3])
  from_spectrum = _to_spectrum_matrix(like.shape[0], 2 * frequencies, product.dtype, inverse=True)
  flat = tf.matmul(from_spectrum, tf.reshape(parts, [2 * frequencies, -1]), transpose_a=True)
  return tf.reshape(flat, [like.shape[0], -1, like.shape[2], channels // 2])


def _side_by_side(spectrum, rows, above=0, below=0):
  """For each row r, the rows r + `rows` of the padded maps as channels, `[frequency, batch · height, channels]`."""
  _, frequencies, _, height, channels = spectrum.shape
  parts = tf.transpose(spectrum, [1, 2, 3, 0, 4])
  padded = tf.pad(parts, [[0, 0], [0, 0], [above, below], [0, 0], [0, 0]])
  # This takes one copy; slices and their concatenation would take two.
  seen = tf.gather(padded, np.add.outer(np.arange(height), rows).reshape(-1), axis=2)
  return tf.reshape(seen, [frequencies, -1, len(rows) * 2 * channels])


def _matrix(blocks):
  """One matrix for the products over rows, parts and channels, `[frequency, reach · 2 · channels, 2 · channels]`."""
  frequencies, reach, _, seen, _, made = blocks.shape
  return tf.reshape(blocks, [frequencies, reach * 2 * seen, 2 * made])


def _kernel_spectrum(kernel, period):
  """Multiplication by the kernel's spectrum as real matrices, `[frequency, reach, 2, in, 2, out]`."""
  reach, columns, seen, made = kernel.shape
  # A kernel's right-hand column reads from the right, so it counts as a negative position.
  waves = tf.constant(_waves(-(columns // 2), columns, period)[:, ::-1], kernel.dtype)
  flat = tf.matmul(waves, tf.reshape(tf.transpose(kernel, [1, 0, 2, 3]), [columns, -1]))
  real, imaginary = tf.unstack(tf.reshape(flat, [2, period // 2, reach, seen, made]))
  # The two parts stored at the first frequency belong to two frequencies, both real.
  mixed = tf.concat([tf.zeros_like(imaginary[:1]), imaginary[1:]], axis=0)
  second = tf.concat([imaginary[:1], real[1:]], axis=0)
  return tf.stack([tf.stack([real, mixed], axis=-2), tf.stack([-mixed, second], axis=-2)], axis=2)


def _from_kernel_spectrum(by_blocks, columns):
  """The transpose of `_kernel_spectrum`."""
  frequencies, reach, _, seen, _, made = by_blocks.shape
  (rr, ri), (ir, ii) = (tf.unstack(half, axis=3) for half in tf.unstack(by_blocks, axis=2))
  real = tf.concat([rr[:1], rr[1:] + ii[1:]], axis=0)
  imaginary = tf.concat([ii[:1], ri[1:] - ir[1:]], axis=0)
  waves = tf.constant(_waves(-(columns // 2), columns, 2 * frequencies)[:, ::-1], by_blocks.dtype)
  flat = tf.matmul(waves, tf.reshape(tf.stack([real, imaginary]), [2 * frequencies, -1]), transpose_a=True)
  return tf.transpose(tf.reshape(flat, [columns, reach, seen, made]), [1, 0, 2, 3])
