"""Gradients as dense tensors."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def dense_gradients(
  tape: tf.GradientTape, value: tf.Tensor, sources: Sequence[tf.Tensor | tf.Variable]
) -> list[tf.Tensor]:
  """∂value/∂sources as dense tensors, including those of embeddings; zero for sources that are not connected."""
  return [tf.convert_to_tensor(g) for g in tape.gradient(value, sources, unconnected_gradients="zero")]
