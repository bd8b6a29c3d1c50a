"""Batch normalisation over the batch of all devices."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_savae import replicas


@keras.saving.register_keras_serializable(package="tf_savae")
class BatchNormalization(keras.layers.BatchNormalization):
  """Keras's, with the moments of all replicas' rows in training, in two passes.

  Keras's own `synchronized=True` computes E[x²] − E[x]², which loses digits. (The class has the name of Keras's,
  which names of weights come from.)
  """

  def _moments(self, inputs: tf.Tensor, mask: Any) -> tuple[tf.Tensor, tf.Tensor]:
    if mask is not None or not replicas.is_replica():
      return super()._moments(inputs, mask)
    axes, x = self._reduction_axes, tf.cast(inputs, self.variable_dtype)
    count = tf.cast(tf.reduce_prod(tf.gather(tf.shape(x), axes)), x.dtype)
    sums, count = replicas.total([tf.reduce_sum(x, axes), count])
    mean = sums / count
    variance = replicas.total(tf.reduce_sum(tf.math.squared_difference(x, mean), axes)) / count
    return tf.cast(mean, inputs.dtype), tf.cast(variance, inputs.dtype)
