"""One pass over a split serves every evaluation: the right examples, once each, with one graph."""

import numpy as np
import pytest
import tensorflow as tf

from tf_savae.evaluation import examples


def batches(n=10, size=4):
  return tf.data.Dataset.range(n).map(lambda i: tf.fill([2], i)).batch(size)


@pytest.mark.parametrize(("num", "expected"), [(None, 10), (100, 10), (10, 10), (7, 7), (4, 4), (1, 1)])
def test_the_first_examples_come_in_order_and_no_other(num, expected):
  told = []
  rows = examples.rows(
    lambda x, seen: {"x": x[:, 0], "seen": seen + 0 * x[:, 0]}, batches(), num, told.append
  )
  np.testing.assert_array_equal(rows["x"], np.arange(expected))
  np.testing.assert_array_equal(rows["seen"], np.arange(expected) // 4 * 4)
  assert sum(told) == expected


def test_a_short_last_batch_is_not_traced_again_nor_is_a_second_pass():
  traces = []

  @tf.function(autograph=False)
  def values(x, seen):
    traces.append(x.shape)
    return {"sum": tf.reduce_sum(x, axis=1)}

  for n in (10, 7):
    rows = examples.rows(examples.traced(values, batches(n)), batches(n), n - 1)
    np.testing.assert_array_equal(rows["sum"], 2 * np.arange(n - 1))
  assert len(traces) == 1


def test_what_is_observed_of_x_comes_beside_and_x_may_have_parts():
  pairs = tf.data.Dataset.zip(batches(), batches())
  rows = examples.rows(
    lambda x, _: {"sum": x[0][:, 0] + x[1][:, 0]}, pairs, 6, observe=lambda x: {"first": x[0][:, 0].numpy()}
  )
  np.testing.assert_array_equal(rows["sum"], 2 * np.arange(6))
  np.testing.assert_array_equal(rows["first"], np.arange(6))


def test_a_value_of_some_batches_only_has_their_rows():
  rows = examples.rows(lambda x, seen: {"x": x[:, 0]} | ({"best": x[:, 0]} if seen < 4 else {}), batches())
  assert (len(rows["x"]), len(rows["best"])) == (10, 4)
