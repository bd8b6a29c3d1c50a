"""Weights of a batch's examples: what Keras calls `sample_weight`."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_savae import replicas
from tf_savae.errors import UserError


class ExampleWeights:
  """How much each example of a batch counts in the loss and in metrics. The refinement of an example knows none.

  Args:
    weights: `[batch]` or `[batch, 1]`; None: each example counts once.

  Raises:
    UserError: weights of another shape, such as one for each token.
  """

  def __init__(self, weights: Any = None):
    self.weights = None if weights is None else tf.cast(weights, "float32")
    if self.weights is None:
      return
    shape = self.weights.shape
    if shape.rank == 2 and shape[1] == 1:
      self.weights = self.weights[:, 0]
    elif shape.rank not in (None, 1):
      raise UserError(f"sample_weight must hold one number per example; received the shape {tuple(shape)}")

  def loss(self, values: tf.Tensor) -> tf.Tensor:
    """Σ_i w_i values_i / batch, as Keras's losses; without weights the mean of values `[batch]`.

    In a step of several replicas this is one's part of it, see `replicas.mean`.
    """
    return replicas.mean(values if self.weights is None else tf.cast(self.weights, values.dtype) * values)

  def mean(self, values: tf.Tensor) -> tf.Tensor:
    """Σ_i w_i values_i / Σ_i w_i of values `[batch]`, as Keras's weighted metrics; 0 where all weights are 0."""
    if self.weights is None and replicas.share() is None:
      return tf.reduce_mean(values)
    weights = tf.ones_like(values) if self.weights is None else tf.cast(self.weights, values.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(weights * values), tf.reduce_sum(weights))

  def total(self, size: tf.Tensor) -> tf.Tensor:
    """Σ_i w_i, a scalar; `size`, the number of examples, without weights."""
    return size if self.weights is None else tf.reduce_sum(self.weights)


def unpack(data: Any) -> tuple[Any, ExampleWeights]:
  """x and weights of what Keras hands to a step: x, or (x, y, sample_weight). Targets y are not used."""
  x, _, weights = keras.utils.unpack_x_y_sample_weight(data)
  return x, ExampleWeights(weights)
