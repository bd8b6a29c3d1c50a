"""Training's time is counted over all starts; a budget is never overdrawn twice."""

import time

import numpy as np
import pytest
import tensorflow as tf

from tf_savae.training.clock import Budget, Stopwatch


@pytest.fixture
def clock(monkeypatch):
  """A clock that a test moves."""
  now = [100.0]
  monkeypatch.setattr(time, "monotonic", lambda: now[0])
  return now


def test_a_stopwatch_adds_to_what_was_there_and_leaves_out_what_is_no_training(clock):
  total = tf.Variable(7.0, dtype=tf.float64)
  watch = Stopwatch(total)
  clock[0] += 2
  assert watch.seconds == 9
  watch.take()
  assert float(total) == watch.seconds == 9
  clock[0] += 50
  watch.restart()
  clock[0] += 1
  watch.take()
  assert float(total) == 10


def test_a_budget_spends_its_share_and_the_first_time_is_free(clock):
  budget, spent = Budget(0.1), []
  for epoch in range(40):
    clock[0] += 10
    budget.earn(10.0)
    if budget.allows():
      with budget.spending():
        clock[0] += 5.0
      spent.append(epoch)
  assert spent[0] == 0
  # Five seconds each time, one second earned per epoch.
  np.testing.assert_array_equal(np.diff(spent[1:]), 5)
