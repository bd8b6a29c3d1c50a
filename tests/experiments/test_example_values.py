"""A subset of examples is spread evenly over a split, whatever the order of its files."""

import types

import numpy as np
import pytest
import tensorflow as tf

from experiments.example_values import Measure
from tf_savae.evaluation import per_example


class Numbered:
  """Examples that are their own numbers."""

  kind = "tokens"

  def num_examples(self, split):
    return 103

  def eval_batches(self, split, batch_size):
    return tf.data.Dataset.range(103, output_type=tf.int32).map(lambda i: i[tf.newaxis]).batch(batch_size)


@pytest.fixture
def measured(monkeypatch):
  """The numbers of the examples that a measurement of `num` examples looks at."""
  monkeypatch.setattr(Measure, "_of_batch", lambda self, x, seen: {"number": x[:, 0]})
  settings = {"batch_size": 7, "bound_samples": 2, "iw_samples": 2}

  def measure(num):
    return Measure(types.SimpleNamespace(), Numbered(), "test", num=num, **settings)()

  return measure


def test_a_subset_is_every_nth_example(measured):
  found = measured(20)
  np.testing.assert_array_equal(found["number"], np.arange(0, 100, 5))
  np.testing.assert_array_equal(found["digest"], per_example.digests([found["number"][:, np.newaxis]]))


@pytest.mark.parametrize("num", [None, 103, 1000])
def test_all_examples_are_all(measured, num):
  np.testing.assert_array_equal(measured(num)["number"], np.arange(103))
