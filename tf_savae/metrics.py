"""Metrics that Keras lacks."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class _EqualOnReplicas(keras.metrics.Metric):
  """A metric whose updates are those of the whole batch on every replica, so that any replica has its state.

  Keras's own hold a replica's part, and to read them needs all workers at once.
  """

  def add_variable(
    self,
    shape: Any,
    initializer: Any,
    dtype: Any = None,
    aggregation: str = "only_first_replica",
    name: str | None = None,
  ) -> keras.Variable:
    del aggregation
    return super().add_variable(shape, initializer, dtype, aggregation="only_first_replica", name=name)


class Mean(_EqualOnReplicas, keras.metrics.Mean):
  """A mean that is NaN where nothing was averaged, such as the loss of an epoch without an applied update.

  Keras's own is 0 there, which reads like a perfect loss. (Its name is Keras's: saved models hold it under that name.)
  """

  def __init__(self, name: str = "mean", dtype: str = "float32"):
    super().__init__(name=name, dtype=dtype)

  def result(self) -> tf.Tensor:
    return self.total.value / self.count.value


class LossTracker(_EqualOnReplicas, keras.metrics.Mean):
  """What Keras keeps beside a model's own metrics; a SAVAE does not use it."""


class Sum(_EqualOnReplicas, keras.metrics.Sum):
  """Keras's sum."""


class MeanVector(_EqualOnReplicas):
  """The mean of a vector over examples: `update_state` takes `[length, batch]`, `result` is `[length]`."""

  def __init__(self, length: int, name: str = "mean_vector"):
    super().__init__(name=name, dtype="float32")
    self.total = self.add_variable((length,), initializer="zeros", name="total")
    self.count = self.add_variable((), initializer="zeros", name="count")

  def update_state(self, values: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
    """Adds examples `[length, batch]` with weights `[batch]`; None: each counts once."""
    self.add(*self.sums(values, sample_weight))

  @staticmethod
  def sums(values: tf.Tensor, sample_weight: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
    """What `update_state` adds up: the weighted sum `[length]`, and the sum of weights."""
    values = tf.cast(values, tf.float32)
    count = tf.cast(tf.shape(values)[1], tf.float32)
    if sample_weight is not None:
      weights = tf.cast(sample_weight, values.dtype)
      values, count = values * weights, tf.reduce_sum(weights)
    return tf.reduce_sum(values, axis=1), count

  def add(self, sums: tf.Tensor, count: tf.Tensor) -> None:
    """Adds sums of examples, as `sums` gives them."""
    self.total.assign_add(sums)
    self.count.assign_add(count)

  def result(self) -> tf.Tensor:
    return tf.math.divide_no_nan(self.total.value, self.count.value)
