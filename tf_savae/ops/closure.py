"""Finds the tensors that a function closes over.

`tf.custom_gradient` gives no gradient to tensors that its function merely closes over, and does not warn about it.
`refine` therefore finds those tensors here and makes them arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


class _RecordingGraph(tf.__internal__.FuncGraph):
  """A scratch graph that remembers which outside tensors were brought into it."""

  def __init__(self):
    super().__init__("closure")
    self.outside: dict[int, tf.Tensor] = {}

  def capture(self, tensor, name=None, shape=None):
    if getattr(tensor, "graph", None) is not self:
      self.outside[id(tensor)] = tensor
    return super().capture(tensor, name=name, shape=shape)


def needs_gradient(tensor: tf.Tensor) -> bool:
  """Whether a gradient with respect to `tensor` can matter: it is floating and not a result of `tf.stop_gradient`.

  Eager tensors do not record how they were made, so every floating one counts as needing a gradient.
  """
  if not tensor.dtype.is_floating:
    return False
  return isinstance(tensor, tf.__internal__.EagerTensor) or tensor.op.type not in ("StopGradient", "Const")


def closed_over_tensors(function: Callable[..., Any], *args: Any) -> list[tf.Tensor]:
  """The floating tensors that `function(*args)` uses but does not receive as arguments.

  The function is traced once in a scratch graph and never run. Variables are left out, because tapes find them.

  Args:
    function: the function to inspect.
    *args: arguments with which it can be called; only their shapes and dtypes matter.
  """
  graph = _RecordingGraph()
  with graph.as_default():
    placeholders = tf.nest.map_structure(_placeholder, args)
    function(*placeholders)
  return [t for t in graph.outside.values() if needs_gradient(t)]


def _placeholder(value):
  if not tf.is_tensor(value):
    return value
  return tf.compat.v1.placeholder(value.dtype, value.shape)
