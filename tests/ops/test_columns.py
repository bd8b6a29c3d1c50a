"""Convolutions of maps that lie column by column equal TensorFlow's, whichever way they are computed."""

import numpy as np
import pytest
import tensorflow as tf

from tf_savae.ops import columns, fourier

BATCH, HEIGHT, WIDTH, SEEN, MADE = 3, 6, 9, 4, 5

modes = pytest.mark.parametrize("wrap", [lambda f: f, tf.function(autograph=False)], ids=["eager", "graph"])
kernels = pytest.mark.parametrize(("reach", "side"), [(2, 3), (3, 5), (4, 7), (5, 9), (1, 1), (7, 5)])


def normal(*shape, seed):
  return tf.random.stateless_normal(shape, [seed, 7], dtype=tf.float64)


def in_rows(maps):
  """From `[width, batch, height, channels]` to `[batch, height, width, channels]`."""
  return tf.transpose(maps, [1, 2, 0, 3])


def in_columns(maps):
  return tf.transpose(maps, [2, 0, 1, 3])


def above_by_definition(x, kernel):
  reach, side = kernel.shape[:2]
  padded = tf.pad(in_rows(x)[:, :-1], [[0, 0], [reach, 0], [side // 2, side // 2], [0, 0]])
  return in_columns(tf.nn.conv2d(padded, kernel, 1, "VALID"))


def left_by_definition(x, kernel):
  padded = tf.pad(in_rows(x), [[0, 0], [0, 0], [kernel.shape[1] - 1, 0], [0, 0]])
  return in_columns(tf.nn.conv2d(padded, kernel, 1, "VALID"))


def three_orders(function, kernel, width=WIDTH):
  """The result and derivatives up to the third, so that each transpose is differentiated by each argument."""
  x = normal(width, BATCH, HEIGHT, SEEN, seed=1)
  weight = normal(width, BATCH, HEIGHT, MADE, seed=2)
  with tf.GradientTape() as outer:
    outer.watch([x, kernel, weight])
    with tf.GradientTape() as middle:
      middle.watch([x, kernel, weight])
      with tf.GradientTape() as inner:
        inner.watch([x, kernel])
        y = function(x, kernel)
        loss = tf.reduce_sum(weight * y)
      by_x, by_kernel = inner.gradient(loss, [x, kernel])
      along = tf.reduce_sum(normal(*by_x.shape, seed=3) * by_x)
      along += tf.reduce_sum(normal(*by_kernel.shape, seed=4) * by_kernel)
    second = middle.gradient(along, [x, kernel, weight])
    loss = tf.add_n([tf.reduce_sum(tf.square(g)) for g in second])
  return [y, by_x, by_kernel, *second, *outer.gradient(loss, [x, kernel, weight])]


def assert_equal(received, expected):
  for a, b in zip(received, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * np.max(np.abs(b)))


@modes
@kernels
@pytest.mark.parametrize("by", [fourier.look_above, columns.look_above], ids=["fourier", "chosen"])
def test_looking_above_and_its_derivatives(by, reach, side, wrap):
  kernel = normal(reach, side, SEEN, MADE, seed=5)
  assert_equal(wrap(lambda: three_orders(by, kernel))(), three_orders(above_by_definition, kernel))


@pytest.mark.parametrize("width", [1, 2, 5, 8, 28])
def test_maps_of_any_width_even_narrower_than_the_kernel(width):
  kernel = normal(3, 9, SEEN, MADE, seed=6)
  x = normal(width, BATCH, HEIGHT, SEEN, seed=7)
  np.testing.assert_allclose(fourier.look_above(x, kernel), above_by_definition(x, kernel), atol=1e-12)


@modes
@pytest.mark.parametrize("reach", [1, 2, 5])
def test_looking_left_and_its_derivatives(reach, wrap):
  kernel = normal(1, reach, SEEN, MADE, seed=8)
  assert_equal(
    wrap(lambda: three_orders(columns.look_left, kernel))(), three_orders(left_by_definition, kernel)
  )


def test_no_row_sees_itself_or_one_below_not_even_by_rounding():
  """Spectra mix the columns of a row: what is not above must stay out exactly, or a sample would see its future."""
  kernel, x = normal(3, 9, SEEN, MADE, seed=9), normal(WIDTH, BATCH, HEIGHT, SEEN, seed=10)
  changed = tf.concat([x[:, :, :4], 1e6 * x[:, :, 4:]], axis=2)
  received, expected = fourier.look_above(changed, kernel), fourier.look_above(x, kernel)
  np.testing.assert_array_equal(received[:, :, :5], expected[:, :, :5])
  assert np.all(received[:, :, 5] != expected[:, :, 5])


def test_wide_kernels_with_channels_are_products_of_spectra_and_small_ones_are_convolutions():
  def operations(side, seen):
    x, kernel = tf.ones([28, 2, 28, seen]), tf.ones([3, side, seen, 4])
    graph = tf.function(columns.look_above).get_concrete_function(x, kernel).graph
    return {op.type for op in graph.get_operations()}

  assert "Conv2D" not in operations(5, 32)
  assert "Conv2D" in operations(3, 32)
  assert "Conv2D" in operations(9, 1)


def test_rounding_in_float32_is_that_of_a_convolution():
  kernel = 0.05 * tf.random.stateless_normal([5, 9, 32, 64], [1, 1], dtype=tf.float64)
  x = tf.random.stateless_normal([28, 2, 27, 32], [1, 2], dtype=tf.float64)
  expected = above_by_definition(x, kernel)

  def error(by):
    received = tf.cast(by(tf.cast(x, tf.float32), tf.cast(kernel, tf.float32)), tf.float64)
    return float(tf.norm(received - expected) / tf.norm(expected))

  assert error(fourier.look_above) < 1e-6
  assert error(fourier.look_above) < 5 * error(above_by_definition)


def test_a_batch_of_unknown_size():
  kernel = normal(3, 5, SEEN, MADE, seed=11)
  spec = tf.TensorSpec([WIDTH, None, HEIGHT, SEEN], tf.float64)
  for by in (fourier.look_above, columns.look_above):
    traced = tf.function(lambda x, by=by: by(x, kernel), input_signature=[spec])
    for batch in (1, 4):
      x = normal(WIDTH, batch, HEIGHT, SEEN, seed=12)
      np.testing.assert_allclose(traced(x), above_by_definition(x, kernel), atol=1e-12)
