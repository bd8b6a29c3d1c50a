"""The gradient of `XlaDynamicUpdateSlice`, which TensorFlow lacks.

In a function compiled with `jit_compile=True`, TensorFlow writes the gradient of `tf.slice`, and so the second
derivative of `tf.pad`, as an `XlaDynamicUpdateSlice`, for which it has no gradient. The adjoint needs one as soon as a
decoder pads. Importing this module registers it.
"""

from __future__ import annotations

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.python.framework import ops


def _xla_dynamic_update_slice_gradient(op, gradient):
  """Gradients of y, which is input with `update` written at `indices`: (for input, for `update`, None for indices)."""
  _, update, indices = op.inputs
  d_input = xla.dynamic_update_slice(gradient, tf.zeros_like(update), indices)
  d_update = tf.slice(gradient, indices, tf.shape(update, out_type=indices.dtype))
  return d_input, d_update, None


try:
  ops.gradient_registry.lookup("XlaDynamicUpdateSlice")
except LookupError:
  tf.RegisterGradient("XlaDynamicUpdateSlice")(_xla_dynamic_update_slice_gradient)
