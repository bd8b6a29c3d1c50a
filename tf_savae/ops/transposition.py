"""Transposition that XLA can differentiate twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_savae.ops.owned_gradients import custom_gradient


def transpose(x: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
  """`tf.transpose` with constant axes in derivatives of any order, as XLA requires in a loop under a tape."""

  @custom_gradient
  def apply(x):
    return tf.transpose(x, axes), lambda upstream: transpose(upstream, np.argsort(axes).tolist())

  return apply(x)
