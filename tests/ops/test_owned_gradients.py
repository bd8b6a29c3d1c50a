"""Graphs with custom gradients are freed, and their gradients stay right."""

from __future__ import annotations

import gc
import weakref

import keras
import numpy as np
import tensorflow as tf

from tests import tiny
from tf_savae import SAVAE, SVISettings
from tf_savae.ops.owned_gradients import custom_gradient, swish
from tf_savae.ops.transposition import transpose


@custom_gradient
def doubled_gradient(x):
  return tf.square(x), lambda upstream: 4.0 * x * upstream


def traced(function):
  """Gradient function of `function`, traced for three numbers."""

  @tf.function
  def gradient(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = tf.reduce_sum(function(x))
    return tape.gradient(y, x)

  return gradient.get_concrete_function(tf.TensorSpec([3]))


def test_gradient_is_the_custom_one_in_graphs_and_eagerly():
  x = tf.constant([1.0, -2.0, 0.5])
  np.testing.assert_allclose(traced(doubled_gradient)(x), 4 * x)
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = doubled_gradient(x)
  np.testing.assert_allclose(tape.gradient(y, x), 4 * x)


def test_gradient_is_found_after_the_trace_has_ended():
  """A function's own gradient is built later, from its graph: the graph must still hold what was registered."""
  function = tf.function(lambda x: swish(doubled_gradient(x)))
  function.get_concrete_function(tf.TensorSpec([3]))
  gc.collect()
  x = tf.constant([1.0, -2.0, 0.5])
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = function(x)
  square = tf.square(x)
  slope = tf.sigmoid(square) * (1 + square * (1 - tf.sigmoid(square)))
  np.testing.assert_allclose(tape.gradient(y, x), slope * 4 * x, rtol=1e-5)


def test_graph_is_freed_with_its_function():
  for function in (doubled_gradient, swish, lambda x: transpose(tf.reshape(x, [3, 1]), [1, 0])):
    concrete = traced(function)
    graph = weakref.ref(concrete.graph)
    del concrete
    gc.collect()
    assert graph() is None


def test_model_is_freed_after_training():
  """With all that it was made of; TensorFlow alone would keep its decoder and every graph of its steps."""
  model = keras_fit()
  decoder = weakref.ref(model.decoder)
  del model
  keras.utils.clear_session()
  gc.collect()
  assert decoder() is None


def keras_fit() -> SAVAE:
  model = SAVAE(tiny.PairEncoder(), tiny.BernoulliDecoder(), svi=SVISettings(num_steps=2, step_size=0.1))
  model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
  model.fit(tiny.bits(dtype="float32"), batch_size=3, verbose=0)
  return model
