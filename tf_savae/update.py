"""One optimiser step: clipping, the scale of the loss, and the guard against values that are not finite."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_savae import replicas


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


_REASONS = {
  "x": "the observations",
  "loss": "the loss",
  "gradient_norm_decoder": "the decoder's gradient",
  "gradient_norm_encoder": "the gradient of encoder and step sizes",
}


class SkipReasons:
  """Counts what was not finite in updates that were skipped. No part of a model's saved state."""

  def __init__(self):
    with tf.init_scope():
      # The same on all replicas, each of which assigns its own copy.
      self._counts = tf.Variable(
        tf.zeros([len(_REASONS)], tf.int64), trainable=False, aggregation=tf.VariableAggregation.NONE
      )

  def count(self, x: Any, loss: tf.Tensor, norms: Mapping[str, tf.Tensor]) -> None:
    """Adds one skipped update, in the graph."""
    observed = [part for part in map(tf.convert_to_tensor, tf.nest.flatten(x)) if part.dtype.is_floating]
    parts = [tf.reduce_sum(tf.cast(part, loss.dtype)) for part in observed]
    values = {"x": tf.add_n(parts) if parts else tf.zeros_like(loss), "loss": loss, **norms}
    wrong = [~tf.math.is_finite(values[name]) if name in values else tf.constant(False) for name in _REASONS]
    self._counts.assign(self._counts + tf.cast(tf.stack(wrong), tf.int64))

  def numbers(self) -> np.ndarray:
    """How often each was not finite, so far."""
    return self._counts.numpy()

  def text(self, numbers: np.ndarray) -> str:
    """What was not finite, and how often, given a difference of `numbers`."""
    return ", ".join(f"{name} ({n})" for name, n in zip(_REASONS.values(), numbers, strict=True) if n)


def unscaled(optimizer: keras.optimizers.Optimizer, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
  """Gradients of the loss from those of `optimizer.scale_loss(loss)`; the same tensors where it scales nothing."""
  one = tf.constant(1.0)
  scale = optimizer.scale_loss(one)
  return list(gradients) if scale is one else [g / tf.cast(scale, g.dtype) for g in gradients]


def apply_if_finite(
  optimizer: keras.optimizers.Optimizer,
  pairs: Sequence[tuple[tf.Tensor, keras.Variable]],
  norm: tf.Tensor,
  loss: tf.Tensor,
  clip_norm: float | None,
  on_update: Callable[[], None],
  on_skip: Callable[[], None],
  apply_to: Callable[[list[tuple[tf.Tensor, keras.Variable]]], None] | None = None,
) -> None:
  """Applies the gradients, scaled to a global norm of at most `clip_norm`; skips all of it if not finite.

  Args:
    optimizer: built for the variables.
    pairs: (gradient, variable), gradients of the loss itself.
    norm: global norm of the gradients.
    loss: scalar.
    clip_norm: bound on `norm`, or None.
    on_update, on_skip: what else to do in the graph when the update is applied, and when it is skipped.
    apply_to: applies pairs; default: `optimizer.apply_gradients`.
  """
  values, variables = [g for g, _ in pairs], [v for _, v in pairs]

  def clipped():
    clips = clip_norm is not None and pairs
    return tf.clip_by_global_norm(values, clip_norm, use_norm=norm)[0] if clips else values

  def apply(gradients):
    if pairs:  # an optimiser that scales the loss takes its scale out of gradients again
      scaled = list(zip(map(optimizer.scale_loss, gradients), variables, strict=True))
      (apply_to or optimizer.apply_gradients)(scaled)

  def update():
    apply(clipped())
    on_update()

  def skip():
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
      apply([np.nan * g for g in values])  # by which it learns that its scale is too large
    on_skip()

  def then(work):
    # Both branches of a condition give something.
    return lambda: (work(), tf.constant(0))[1]

  is_finite = tf.math.is_finite(norm) & tf.math.is_finite(loss)
  if not replicas.is_replica():
    tf.cond(is_finite, then(update), then(skip))
    return
  # All replicas decide alike, since norm and loss are those of the whole batch. A strategy updates variables outside
  # of conditions only, so the update is made, and taken back where it must not be.
  with _taken_back_unless(is_finite, variables, optimizer), _gradients_are_sums(optimizer):
    apply(clipped())
  tf.cond(is_finite, then(on_update), then(on_skip))


@contextlib.contextmanager
def _taken_back_unless(
  condition: tf.Tensor, variables: Sequence[keras.Variable], optimizer: keras.optimizers.Optimizer
) -> Iterator[None]:
  """Puts variables, and the optimiser's, back at the end to what they were, unless the condition holds."""
  moved = [v.value for v in (*variables, *optimizer.variables) if v is not optimizer.learning_rate]
  before = [tf.identity(v) for v in moved]
  yield
  for variable, value in zip(moved, before, strict=True):
    variable.assign(tf.where(condition, variable, value))


@contextlib.contextmanager
def _gradients_are_sums(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
  """Keeps an optimiser of Keras from summing gradients over replicas, which they are already."""
  # Replicas run in threads of their own, which take turns within this.
  vars(optimizer)["_all_reduce_sum_gradients"] = list
  try:
    yield
  finally:
    vars(optimizer).pop("_all_reduce_sum_gradients", None)
