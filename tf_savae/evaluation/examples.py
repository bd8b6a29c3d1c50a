"""One pass over the first examples of a split, which collects what is computed for each example as arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae import replicas
from tf_savae.data.dataset import DataSet

# (x, number of examples before x) → values by name, each `[batch, ...]`.
Values = Callable[[Any, tf.Tensor], Mapping[str, tf.Tensor]]


def spread(data: DataSet, split: str, num: int | None, batch_size: int) -> tf.data.Dataset:
  """Batches of every n-th example of a split, with the largest n that leaves `num` of them; None: all.

  Files are in some order, such as that of alphabets, and documents come from the shortest to the longest. The first
  examples therefore stand for no others.
  """
  stride = 1 if num is None else max(1, data.num_examples(split) // num)
  batches = data.eval_batches(split, batch_size * stride)
  return batches.map(lambda x: tf.nest.map_structure(lambda part: part[::stride], x))


def chosen(data: DataSet, split: str, num: int, batch_size: int, is_spread: bool) -> tf.data.Dataset:
  """Batches of which the first `num` examples are wanted: spread evenly over a split, or its own first ones."""
  return spread(data, split, num, batch_size) if is_spread else data.eval_batches(split, batch_size)


def function(values: Values, strategy: tf.distribute.Strategy | None, jit_compile: bool = False) -> Values:
  """`values` as a `tf.function` in which all devices of a strategy share the examples of a batch.

  Args:
    values: a Python function. The values of an example must not depend on the other ones of its batch.
    strategy: that of the model, `model.distribute_strategy`; None: one device. All workers of it must call the result
      alike, and each gets all values.
    jit_compile: whether to compile with XLA, which takes one device.
  """
  shared = values if strategy is None else replicas.on_all(values, strategy)
  return tf.function(shared, autograph=False, jit_compile=jit_compile)


def traced(
  values: Values, batches: tf.data.Dataset, strategy: tf.distribute.Strategy | None = None
) -> Values:
  """`values` as one graph for any number of examples and any length, so that a short last batch is not traced again.

  Args:
    values: a Python function, or a `tf.function`, which keeps its graphs for later calls.
    batches: batches of the examples that it will receive.
    strategy: as for `function`; None: one device.
  """
  if not isinstance(values, tf.types.experimental.PolymorphicFunction):
    values = function(values, strategy)
  return values.get_concrete_function(batches.element_spec, tf.TensorSpec([], tf.int64))


def rows(
  values: Values,
  batches: tf.data.Dataset,
  num: int | None = None,
  progress: Callable[[int], None] | None = None,
  observe: Callable[[Any], Mapping[str, np.ndarray]] | None = None,
) -> dict[str, np.ndarray]:
  """The results of `values` for each example, `[examples, ...]` by name.

  A result that only some batches have covers the examples of those batches.

  Args:
    values: computes the results of a batch.
    batches: all examples of a split once, in a fixed order.
    num: number of examples, from the first on, or all if there are fewer; default: all.
    progress: called after each batch with the number of examples so far.
    observe: computes further results from the observation x alone.
  """
  parts: dict[str, list[np.ndarray]] = {}
  seen = 0
  for x in batches:
    if num is not None:
      x = tf.nest.map_structure(lambda part: part[: num - seen], x)
    found = {name: value.numpy() for name, value in values(x, tf.constant(seen, tf.int64)).items()}
    for name, value in (found | (dict(observe(x)) if observe else {})).items():
      parts.setdefault(name, []).append(value)
    size = len(tf.nest.flatten(x)[0])
    seen += size
    if progress is not None:
      progress(size)
    if num is not None and seen >= num:
      break
  return {name: np.concatenate(pieces) for name, pieces in parts.items()}
