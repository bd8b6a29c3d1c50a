"""One optimiser step: clipping, and the guard against values that are not finite."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf


class BatchStatistics:
  """What networks keep beside their weights, such as moving means, as it was when this was made.

  A forward pass in training moves it; an update that is skipped puts it back.
  """

  def __init__(self, networks: Sequence[keras.layers.Layer]):
    self._moving = [v for net in networks if net.trainable for v in net.non_trainable_variables]
    self._before = [tf.identity(v.value) for v in self._moving]

  def put_back(self) -> None:
    """Assigns the values of before, in the graph."""
    for variable, value in zip(self._moving, self._before, strict=True):
      variable.assign(value)


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
    on_update, on_skip: what else to do in the graph when the update is applied, and when it is skipped.
  """

  def update():
    values = [g for g, _ in pairs]
    if clip_norm is not None and pairs:
      values, _ = tf.clip_by_global_norm(values, clip_norm, use_norm=norm)
    if pairs:
      optimizer.apply_gradients(zip(values, [v for _, v in pairs], strict=True))
    on_update()

  def then(work):
    # Both branches of a condition give something.
    return lambda: (work(), tf.constant(0))[1]

  tf.cond(tf.math.is_finite(norm) & tf.math.is_finite(loss), then(update), then(on_skip))
