"""Ancestral sampling from the gated PixelCNN at the cost of about one pass of the network.

Pixels are drawn in raster order. Every convolution's input is kept in a sliding window, so that drawing a pixel
computes each layer at that pixel only. The vertical stack is computed once per row, from a window of the rows above.
The horizontal stack is computed once per pixel, from a window of the columns to the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf
import tqdm

from tf_savae.ops.gate import gate


class Network(Protocol):
  """What sampling reads of a `GatedPixelCNN`: its sizes, and each layer's weights by name."""

  channels: int
  kernel_sizes: Sequence[int]
  image_shape: Sequence[int]
  compute_dtype: str
  variable_dtype: str
  vertical: Sequence[Any]
  vertical_bias: Sequence[Any]
  horizontal: Sequence[Any]
  horizontal_bias: Sequence[Any]
  across: Sequence[Any]
  across_bias: Sequence[Any]
  out: Sequence[Any]
  out_bias: Sequence[Any]
  logit_kernel: Any
  logit_bias: Any

  def as_input(self, x: tf.Tensor) -> tf.Tensor:
    """Images as the first layer sees them."""

  def row_noise(self, seed: tf.Tensor, num: tf.Tensor) -> tf.Tensor:
    """What the pixels of a row of `num` images are drawn with, `[width, …]`, a function of the seed."""

  def pixel_value(self, parameters: tf.Tensor, noise: tf.Tensor | None) -> tf.Tensor:
    """A pixel `[batch, channels]` of the likelihood's parameters `[batch, n]`.

    It is drawn with its column of `row_noise`; without noise it is the likelier value, or the expected one.
    """

  def cast(self, tensor: Any) -> tf.Tensor:
    """A tensor in `compute_dtype`."""

  def beside_image(self, z: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor] | None:
    """What the maps beside the image add to the first layer; None without any."""


class Head(Protocol):
  """What z adds to the logits, in a network that it enters late."""

  def pixel_weights(self, z: tf.Tensor) -> tf.Tensor:
    """What each pixel's part is made of, `[height, width, batch, n]`."""

  def pixel_logit(self, features: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """z's part of one pixel's logit, `[batch]`, of its features `[batch, channels]` and weights `[batch, n]`."""


class Known(NamedTuple):
  """Pixels that are not drawn.

  Attributes:
    x: images `[batch, height, width, channels]`, of which the kept pixels count.
    mask: 1 for pixels to keep and 0 for those to draw, `[batch, height, width, 1]`, or for each channel.
  """

  x: tf.Tensor
  mask: tf.Tensor


class _Fixed(NamedTuple):
  """What does not depend on the pixels drawn.

  Attributes:
    vertical, horizontal: what maps beside the image add to the first layer, `[height, batch, width, 2 channels]`.
    head: None, or the head's weights `[height, width, batch, n]`.
    known: None, or the pixels to keep, each `[height, width, batch, channels]`.
  """

  vertical: tf.Tensor
  horizontal: tf.Tensor
  head: tf.Tensor | None
  known: Known | None


def draw(
  decoder: Network,
  z: tf.Tensor | None,
  num: tf.Tensor,
  seed: tf.Tensor | None,
  progress: bool = False,
  head: Head | None = None,
  known: Known | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Draws images pixel by pixel.

  Args:
    decoder: the network.
    z: `[batch, latent]`, or None.
    num: number of images; z's batch where z is given.
    seed: stateless seed, `[2]` int32; None takes each pixel's more probable, or expected, value.
    progress: shows a progress bar of rows (only outside tf.function).
    head: adds to each logit what z says of it there.
    known: pixels that keep their values.

  Returns:
    The images `[batch, height, width, channels]` and the likelihood's parameters that they were drawn from,
    `[batch, height, width, n]`; of binary images these are logits.
  """
  if not (progress and tf.executing_eagerly()):
    rows, logits = _all_rows(decoder, z, num, seed, head, known)
  else:
    fixed, windows = _begin_all(decoder, z, num, head, known)
    done = []
    for row in tqdm.trange(decoder.image_shape[0], desc="sampling", unit="row"):
      pixels, row_logits, windows = _one_row(decoder, fixed, windows, tf.constant(row), seed, head)
      done.append((pixels, row_logits))
    rows, logits = (tf.stack(parts) for parts in zip(*done, strict=True))
  # [height, width, batch, channels] to [batch, height, width, channels]
  return tuple(tf.transpose(t, [2, 0, 1, 3]) for t in (rows, logits))


def _begin(decoder: Network, z: tf.Tensor | None, num: tf.Tensor, head: Head | None, known: Known | None):
  """What is fixed, and the empty windows, one per layer: `[batch, reach, width, channels]`."""
  height, width, channels = decoder.image_shape
  dtype = decoder.compute_dtype
  beside = decoder.beside_image(z)
  if beside is None:
    vertical = horizontal = tf.zeros([height, 1, width, 2 * decoder.channels], dtype)
  else:
    vertical, horizontal = beside
    vertical = tf.pad(vertical, [[0, 0], [0, 0], [1, 0], [0, 0]])  # the first row, which sees nothing
    vertical, horizontal = (tf.transpose(t, [2, 0, 1, 3]) for t in (vertical, horizontal))
  if known is not None:
    known = Known(*(tf.transpose(t, [1, 2, 0, 3]) for t in known))
  fixed = _Fixed(vertical, horizontal, None if head is None else head.pixel_weights(z), known)
  windows = [
    tf.zeros([num, k // 2 + 1, width, decoder.channels if i else channels], dtype)
    for i, k in enumerate(decoder.kernel_sizes)
  ]
  return fixed, windows


def _row(
  decoder: Network,
  fixed: _Fixed,
  windows: list,
  row: tf.Tensor,
  seed: tf.Tensor | None,
  head: Head | None,
):
  """Draws row `row`. Returns its pixels and parameters, each `[width, batch, …]`, and the windows for the next row."""
  from_above, gated = _vertical_stack(decoder, fixed, windows, row)

  def with_head(logits, features, column):
    if head is None:
      return logits
    return logits + head.pixel_logit(features, fixed.head[row, column])[:, tf.newaxis]

  def kept(drawn, column):
    if fixed.known is None:
      return drawn
    x, mask = (t[row, column] for t in fixed.known)
    return tf.where(mask > 0, x, drawn)

  pixels, logits = _horizontal_stack(decoder, from_above, row, seed, with_head, kept)
  image_row = tf.cast(decoder.as_input(tf.transpose(pixels, [1, 0, 2])), decoder.compute_dtype)
  new_rows = [image_row, *gated[:-1]]
  windows = [
    tf.concat([window[:, 1:], new[:, tf.newaxis]], axis=1)
    for window, new in zip(windows, new_rows, strict=True)
  ]
  return pixels, logits, windows


def _vertical_stack(decoder, fixed, windows, row):
  """All vertical layers at one row, which need the rows above only.

  Returns:
    What each layer's horizontal stack gets that does not depend on this row's pixels,
    `[width, layers, batch, 2 channels]`, and each layer's gated vertical row `[batch, width, channels]`.
  """
  has_above = tf.cast(row > 0, decoder.compute_dtype)  # the first row sees nothing: no bias either
  first_column = tf.reshape(tf.one_hot(0, decoder.image_shape[1], dtype=decoder.compute_dtype), [1, -1, 1])
  to_horizontal, gated = [], []
  for i, window in enumerate(windows):
    kernel = decoder.cast(decoder.vertical[i])
    side = kernel.shape[1] // 2
    vertical = tf.nn.conv2d(tf.pad(window, [[0, 0], [0, 0], [side, side], [0, 0]]), kernel, 1, "VALID")[:, 0]
    vertical = tf.nn.bias_add(vertical, decoder.cast(decoder.vertical_bias[i])) * has_above
    bias = decoder.cast(decoder.horizontal_bias[i])
    if i == 0:
      vertical += fixed.vertical[row]
      # Strictly left of the first column there is nothing: no bias either.
      bias = fixed.horizontal[row] + bias * (1.0 - first_column)
    across = tf.tensordot(vertical, decoder.cast(decoder.across[i])[0, 0], 1)
    to_horizontal.append(across + bias + decoder.cast(decoder.across_bias[i]))
    gated.append(gate(vertical))
  return tf.transpose(tf.stack(to_horizontal), [2, 0, 1, 3]), gated


def _horizontal_stack(decoder, from_above, row, seed, with_head, kept):
  """Draws the pixels of one row from left to right. Returns pixels and parameters, each `[width, batch, …]`."""
  _, width, channels = decoder.image_shape
  num = tf.shape(from_above)[2]
  layers = len(decoder.kernel_sizes)
  kernels = [
    tf.reshape(decoder.cast(k), [-1, 2 * decoder.channels]) for k in decoder.horizontal
  ]  # [reach * channels in, 2 channels]
  outs = [decoder.cast(k)[0, 0] for k in decoder.out]
  out_biases = [decoder.cast(b) for b in decoder.out_bias]
  logit_kernel = decoder.cast(decoder.logit_kernel)[0, 0]
  logit_bias = decoder.cast(decoder.logit_bias)
  dtype = decoder.variable_dtype
  if seed is not None:
    seed = tf.random.experimental.stateless_fold_in(seed, row)
    noise = decoder.row_noise(seed, num)

  def pixel(column, windows, pixels, logits):
    windows = list(windows)
    h = None
    for i in range(layers):
      if i == 0:
        seen = windows[0]  # strictly left
      else:
        seen = tf.concat([windows[i], h], axis=1)
        windows[i] = seen[:, decoder.channels :]
      o = gate(from_above[column, i] + tf.matmul(seen, kernels[i]))
      o = tf.matmul(o, outs[i]) + out_biases[i]
      h = o if i == 0 else h + o
    parameters = with_head(tf.cast(tf.matmul(h, logit_kernel) + logit_bias, dtype), h, column)
    drawn = kept(decoder.pixel_value(parameters, None if seed is None else noise[column]), column)
    seen_next = tf.cast(decoder.as_input(drawn), decoder.compute_dtype)
    windows[0] = tf.concat([windows[0][:, channels:], seen_next], axis=1)
    return column + 1, windows, pixels.write(column, drawn), logits.write(column, parameters)

  reaches = [k // 2 + 1 for k in decoder.kernel_sizes]
  windows = [
    tf.zeros(
      [num, reaches[0] * channels if i == 0 else (reach - 1) * decoder.channels], decoder.compute_dtype
    )
    for i, reach in enumerate(reaches)
  ]
  pixels, logits = (
    tf.TensorArray(dtype, width, element_shape=[None, size]) for size in (channels, logit_bias.shape[0])
  )
  _, _, pixels, logits = tf.while_loop(
    lambda column, *_: column < width,
    pixel,
    (tf.constant(0), windows, pixels, logits),
    maximum_iterations=width,
  )
  return pixels.stack(), logits.stack()


def _every_row(decoder, z, num, seed, head, known=None):
  height, width, channels = decoder.image_shape
  fixed, windows = _begin(decoder, z, num, head, known)

  def one(row, windows, pixels, logits):
    new_pixels, new_logits, windows = _row(decoder, fixed, windows, row, seed, head)
    return row + 1, windows, pixels.write(row, new_pixels), logits.write(row, new_logits)

  pixels, logits = (
    tf.TensorArray(decoder.variable_dtype, height, element_shape=[width, None, size])
    for size in (channels, decoder.logit_bias.shape[0])
  )
  _, _, pixels, logits = tf.while_loop(
    lambda row, *_: row < height, one, (tf.constant(0), windows, pixels, logits), maximum_iterations=height
  )
  return pixels.stack(), logits.stack()


# Traced for each decoder and its first number of images, and then once for all numbers.
_all_rows = tf.function(_every_row, autograph=False, reduce_retracing=True)
_begin_all = tf.function(_begin, autograph=False)
_one_row = tf.function(_row, autograph=False)
