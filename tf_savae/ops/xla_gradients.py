"""The gradient of `XlaDynamicUpdateSlice`, which TensorFlow lacks.

In a function compiled with `jit_compile=True`, TensorFlow writes the gradient of `tf.slice`, and with it the second
derivative of `tf.pad`, as a `XlaDynamicUpdateSlice`, and then knows no gradient of that. The adjoint needs one as soon
as a decoder pads. Importing this module registers it.
"""

from __future__ import annotations

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.python.framework import ops


def _xla_dynamic_update_slice_gradient(op, gradient):
  """For y = input with `update` written at `indices`: (∂/∂input, ∂/∂update, none for indices)."""
  _, update, indices = op.inputs
  d_input = xla.dynamic_update_slice(gradient, tf.zeros_like(update), indices)
  d_update = tf.slice(gradient, indices, tf.shape(update, out_type=indices.dtype))
  return d_input, d_update, None


try:
  ops.gradient_registry.lookup("XlaDynamicUpdateSlice")
except LookupError:
  tf.RegisterGradient("XlaDynamicUpdateSlice")(_xla_dynamic_update_slice_gradient)
