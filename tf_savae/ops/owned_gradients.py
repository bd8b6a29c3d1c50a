"""Custom gradients that are freed with the graph that they belong to.

TensorFlow registers every custom gradient of a graph under a name of its own, for as long as the process lives. The
function that it registers closes over tensors, and tensors hold their graph. So a program that builds many models
would keep the graphs of all of them. Here the graph holds its functions, and TensorFlow's registry refers to them
weakly: they live as long as the graph does.
"""

from __future__ import annotations

import contextvars
import functools
import weakref
from collections.abc import Callable, MutableMapping
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops  # has the registry; TensorFlow has no public name for it

# Whether an object that is being traced has taken charge of what is registered.
_has_owner = contextvars.ContextVar("has_owner", default=False)


def custom_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
  """`tf.custom_gradient`, whose gradient is freed with the graph."""
  return owned(tf.custom_gradient(function))


def owned(function: Callable[..., Any]) -> Callable[..., Any]:
  """The same function; gradients that TensorFlow registers while it runs are freed with the current graph."""

  @functools.wraps(function)
  def run(*args, **kwargs):
    if tf.executing_eagerly() or _has_owner.get():  # eagerly, TensorFlow registers nothing
      return function(*args, **kwargs)
    before = ops.uid()
    result = function(*args, **kwargs)
    for name in _registered_since(before):
      _hand_over(_registry(), name, tf.compat.v1.get_default_graph())
    return result

  return run


def freed_with_self(method: Callable[..., Any]) -> Callable[..., Any]:
  """The same method; gradients that are registered while it is traced are freed with the object that has it.

  For the steps of a Keras model. Keras calls their graphs from graphs of its own, and its optimizers register
  gradients of theirs, so that the graph alone could not free them.
  """

  @functools.wraps(method)
  def run(self, *args, **kwargs):
    if tf.executing_eagerly():
      return method(self, *args, **kwargs)
    before, token = ops.uid(), _has_owner.set(True)
    try:
      return method(self, *args, **kwargs)
    finally:
      _has_owner.reset(token)
      weakref.finalize(self, _forget, _registered_since(before)).atexit = False

  return run


def _registered_since(before: int) -> list[str]:
  """Names of the custom gradients whose numbers, which TensorFlow counts up, are above `before`."""
  names = []
  for name in reversed(list(_registry())):  # a copy, for the garbage collector may remove entries meanwhile
    kind, _, number = name.rpartition("-")
    if kind == "CustomGradient":
      if int(number) <= before:
        break
      names.append(name)
  return names


def _forget(names: list[str]) -> None:
  registry = _registry()
  for name in names:
    registry.pop(name, None)


def _registry() -> MutableMapping[str, dict[str, Any]]:
  """Name → registered function, of TensorFlow; an empty one where TensorFlow keeps it otherwise."""
  return getattr(ops.gradient_registry, "_registry", {})


def _hand_over(registry: MutableMapping[str, dict[str, Any]], name: str, graph: tf.Graph) -> None:
  """Lets `graph` alone hold the function registered as `name`, and removes the entry once the graph is gone."""
  if name not in registry:
    return  # its graph is gone already
  entry = registry[name]
  function = entry["type"]
  if getattr(function, "is_weak", False):
    return  # handed over by a call inside this one
  if not hasattr(graph, "_savae_gradients"):
    graph._savae_gradients = []
  graph._savae_gradients.append(function)
  reference = weakref.ref(function, lambda _: registry.pop(name, None))

  def gradient(op, *upstream):
    return reference()(op, *upstream)

  gradient.is_weak = True  # type: ignore[attr-defined]
  registry[name] = {**entry, "type": gradient}


swish = owned(tf.nn.silu)  # x σ(x)
