"""One optimiser step: gradients, clipping, and the guard against values that are not finite."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf


def dense_gradients(
  tape: tf.GradientTape, loss: tf.Tensor, variables: Sequence[tf.Variable]
) -> list[tf.Tensor]:
  """∂loss/∂variables, zero where unconnected, dense where embeddings give `tf.IndexedSlices`."""
  return [tf.convert_to_tensor(g) for g in tape.gradient(loss, variables, unconnected_gradients="zero")]


def apply_if_finite(
  optimizer: keras.optimizers.Optimizer,
  pairs: Sequence[tuple[tf.Tensor, keras.Variable]],
  norm: tf.Tensor,
  loss: tf.Tensor,
  clip_norm: float | None,
  on_update: Callable[[], None],
  on_skip: Callable[[], None],
) -> None:
  """Applies the gradients, scaled to a global norm of at most `clip_norm`; skips all of it if not finite.

  Args:
    optimizer: built for the variables.
    pairs: (gradient, variable).
    norm: global norm of the gradients.
    loss: scalar.
    clip_norm: bound on `norm`, or None.
    on_update: what else to do in the graph when the update is applied.
    on_skip: what to do in the graph when it is skipped.
  """

  def update():
    values = [g for g, _ in pairs]
    if clip_norm is not None and pairs:
      values, _ = tf.clip_by_global_norm(values, clip_norm, use_norm=norm)
    if pairs:
      optimizer.apply_gradients(zip(values, [v for _, v in pairs], strict=True))
    on_update()
    return tf.constant(0)

  def skip():
    on_skip()
    return tf.constant(0)

  tf.cond(tf.math.is_finite(norm) & tf.math.is_finite(loss), update, skip)
