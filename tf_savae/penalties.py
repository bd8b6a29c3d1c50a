"""What Keras layers add to a loss by themselves: regularisers of weights, and `add_loss`."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import tensorflow as tf


def take_added(layer: keras.layers.Layer) -> list[tf.Tensor]:
  """What the last calls of a layer and its parts gave to `add_loss`; they forget it.

  A decoder is called in every SVI step, inside loops. What it adds there means nothing outside of them.
  """
  added = [loss for part in layer._flatten_layers() for loss in part._losses]
  layer._clear_losses()
  return added


def of_weights(layers: Iterable[keras.layers.Layer]) -> list[tf.Tensor]:
  """What the regularisers of trainable weights say, each once: θ's of θ, φ's of φ."""
  weights = {id(v): v for layer in layers for v in layer.trainable_weights if v.regularizer is not None}
  return [v.regularizer(v) for v in weights.values()]


def total(parts: list[tf.Tensor], dtype: str) -> tf.Tensor | None:
  """Their sum, a scalar; None without any."""
  return tf.add_n([tf.reduce_sum(tf.cast(part, dtype)) for part in parts]) if parts else None
