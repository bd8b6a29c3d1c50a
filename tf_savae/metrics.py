"""Metrics that Keras lacks."""

from __future__ import annotations

import keras
import tensorflow as tf


class Mean(keras.metrics.Mean):
  """A mean that is NaN where nothing was averaged, such as the loss of an epoch without an applied update.

  Keras's own is 0 there, which reads like a perfect loss. (Its name is Keras's: saved models hold it under that name.)
  """

  def __init__(self, name: str = "mean", dtype: str = "float32"):
    super().__init__(name=name, dtype=dtype)

  def result(self) -> tf.Tensor:
    return self.total.value / self.count.value


class MeanVector(keras.metrics.Metric):
  """The mean of a vector over examples: `update_state` takes `[length, batch]`, `result` is `[length]`."""

  def __init__(self, length: int, name: str = "mean_vector"):
    super().__init__(name=name, dtype="float32")
    self.total = self.add_variable((length,), initializer="zeros", name="total")
    self.count = self.add_variable((), initializer="zeros", name="count")

  def update_state(self, values: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
    """Adds examples `[length, batch]` with weights `[batch]`; None: each counts once."""
    values = tf.cast(values, self.total.dtype)
    count = tf.cast(tf.shape(values)[1], self.count.dtype)
    if sample_weight is not None:
      weights = tf.cast(sample_weight, values.dtype)
      values, count = values * weights, tf.reduce_sum(weights)
    self.total.assign_add(tf.reduce_sum(values, axis=1))
    self.count.assign_add(count)

  def result(self) -> tf.Tensor:
    return tf.math.divide_no_nan(self.total.value, self.count.value)
