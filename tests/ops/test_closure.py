"""What a loss closes over, and which of it needs a gradient."""

from __future__ import annotations

import tensorflow as tf

from tests import tiny
from tf_savae.ops.closure import closed_over_tensors, needs_gradient


def test_finds_floats_that_may_need_a_gradient():
  small, large, whole = tiny.normal(2), tiny.normal(300), tf.constant([1, 2])

  def function(x):
    return x + tf.reduce_sum(small) + tf.reduce_sum(large) + tf.cast(tf.reduce_sum(whole), tf.float64)

  found = closed_over_tensors(function, tiny.normal(4))
  assert {id(t) for t in found} == {id(small), id(large)}


def test_runs_nothing():
  ran = tf.Variable(0)

  def function(x):
    ran.assign_add(1)
    return x

  assert closed_over_tensors(function, tiny.normal(4)) == []
  assert ran.numpy() == 0


def test_in_a_graph_constants_and_stopped_tensors_need_none():
  answers = {}

  @tf.function
  def f(x):
    candidates = {
      "x": x,
      "stopped": tf.stop_gradient(x),
      "constant": tf.constant(1.0),
      "whole": tf.constant(1),
    }
    answers.update({name: needs_gradient(t) for name, t in candidates.items()})
    return x

  f(tf.constant(2.0))
  assert answers == {"x": True, "stopped": False, "constant": False, "whole": False}
