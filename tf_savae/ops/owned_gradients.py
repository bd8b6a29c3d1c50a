"""Custom gradients that are freed with the graph that they belong to.

TensorFlow registers every custom gradient of a graph under a name of its own, for as long as the process lives. The
function that it registers closes over tensors, and tensors hold their graph. So a program that builds many models
would keep the graphs of all of them. Here the graph holds its functions, and TensorFlow's registry refers to them
weakly: they live as long as the graph does.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, MutableMapping
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops  # has the registry; TensorFlow has no public name for it


def custom_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
  """`tf.custom_gradient`, whose gradient is freed with the graph."""
  return owned(tf.custom_gradient(function))


def owned(function: Callable[..., Any]) -> Callable[..., Any]:
  """The same function; gradients that TensorFlow registers while it runs are freed with the current graph."""

  @functools.wraps(function)
  def run(*args, **kwargs):
    if tf.executing_eagerly():
      return function(*args, **kwargs)  # registers nothing
    registry = _registry()
    before = len(registry)
    result = function(*args, **kwargs)
    new = list(itertools.islice(reversed(registry), max(len(registry) - before, 0)))
    for name in new:
      if name.startswith("CustomGradient-"):
        _hand_over(registry, name, tf.compat.v1.get_default_graph())
    return result

  return run


def _registry() -> MutableMapping[str, dict[str, Any]]:
  """Name → registered function, of TensorFlow; an empty one where TensorFlow keeps it otherwise."""
  return getattr(ops.gradient_registry, "_registry", {})


def _hand_over(registry: MutableMapping[str, dict[str, Any]], name: str, graph: tf.Graph) -> None:
  """Lets `graph` alone hold the function registered as `name`, and removes the entry once the graph is gone."""
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
