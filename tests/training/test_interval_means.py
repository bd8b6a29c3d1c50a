"""Means between two looks are those of the updates between."""

import pytest
import tensorflow as tf

from tests import tiny_runs
from tf_savae.training import interval_means
from tf_savae.training.interval_means import IntervalMeans


def feed(model, bound, examples):
  model.means["bound"].update_state(tf.constant(bound), sample_weight=tf.constant(float(examples)))
  model.examples.update_state(float(examples))


@pytest.fixture
def clock(monkeypatch):
  """A clock that a test moves."""
  now = [100.0]
  monkeypatch.setattr(interval_means.time, "monotonic", lambda: now[0])
  return now


@pytest.fixture(scope="module")
def model():
  return tiny_runs.image_model("vae", 0)


def test_a_mean_is_over_the_examples_since_the_last_look_whatever_came_before(model, clock):
  feed(model, 1000.0, 50)  # for instance restored from a checkpoint
  means = IntervalMeans(model)
  feed(model, 10.0, 4)
  feed(model, 40.0, 2)
  clock[0] += 3
  assert means.since_last() == {"bound": pytest.approx(20.0, rel=1e-4), "examples_per_second": 2.0}
  assert means.since_last() == {}
  feed(model, 7.0, 4)
  clock[0] += 1
  assert means.since_last() == {"bound": pytest.approx(7.0, rel=1e-4), "examples_per_second": 4.0}


def test_examples_of_skipped_updates_count_for_speed_only(model, clock):
  means = IntervalMeans(model)
  model.examples.update_state(8.0)
  clock[0] += 2
  assert means.since_last() == {"examples_per_second": 4.0}
