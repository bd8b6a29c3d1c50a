"""Metrics that Keras lacks."""

from __future__ import annotations

import keras
import tensorflow as tf


class MeanVector(keras.metrics.Metric):
  """The mean of a vector over examples: `update_state` takes `[length, batch]`, `result` is `[length]`."""

  def __init__(self, length: int, name: str = "mean_vector"):
    super().__init__(name=name)
    self.total = self.add_variable((length,), initializer="zeros", name="total")
    self.count = self.add_variable((), initializer="zeros", name="count")

  def update_state(self, values: tf.Tensor) -> None:
    values = tf.cast(values, self.total.dtype)
    self.total.assign_add(tf.reduce_sum(values, axis=1))
    self.count.assign_add(tf.cast(tf.shape(values)[1], self.count.dtype))

  def result(self) -> tf.Tensor:
    return tf.math.divide_no_nan(self.total.value, self.count.value)
