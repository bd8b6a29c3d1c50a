"""One batch over several devices, by `tf.distribute`: the rows that a replica has, and sums over all replicas.

A step computes what one device would compute for the whole batch. For this, a replica draws the noise of the whole
batch and takes the part of its own rows, and sums over examples are sums over all replicas. Everything here leaves
its arguments as they are where no strategy is in use.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

# (x, more) → values by name.
Function = Callable[[Any, Any], Mapping[str, tf.Tensor]]


class Share(NamedTuple):
  """A replica's rows of a batch, which are rows first to first + size − 1 of total; each a scalar int32."""

  first: tf.Tensor
  size: tf.Tensor
  total: tf.Tensor


_current = threading.local()  # a replica has its own thread


def is_replica() -> bool:
  """Whether this is the code of one replica of a strategy, whose devices may be only one."""
  return tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context()


def share() -> Share | None:
  """The rows of the step that is being computed; None where no strategy is in use."""
  return getattr(_current, "share", None)


@contextlib.contextmanager
def sharing(x: Any) -> Iterator[None]:
  """Within it, `x` `[batch, ...]` are this replica's rows of the batch; replicas have them in their order."""
  if not is_replica():
    yield
    return
  context = tf.distribute.get_replica_context()
  size, number = tf.shape(tf.nest.flatten(x)[0])[0], context.replica_id_in_sync_group
  replicas = tf.range(context.num_replicas_in_sync)
  # As floats, which every device can add up.
  own = tf.where(replicas == number, tf.cast(size, tf.float32), 0.0)
  sizes = tf.cast(context.all_reduce(tf.distribute.ReduceOp.SUM, own), tf.int32)
  with _having(Share(tf.reduce_sum(tf.where(replicas < number, sizes, 0)), size, tf.reduce_sum(sizes))):
    yield


@contextlib.contextmanager
def _having(rows: Share) -> Iterator[None]:
  outer = share()
  _current.share = rows
  try:
    yield
  finally:
    _current.share = outer


def on_all(function: Function, strategy: tf.distribute.Strategy) -> Function:
  """`function` of a batch, computed by all replicas of a strategy: each has some rows, and none has two.

  Args:
    function: (x, more) → values by name, each `[batch, ...]`. A row's values depend on no other row, and random
      numbers come from `draw_rows`. A `tf.function` would be traced once for all replicas, so it is none.
    strategy: whose replicas; with one of them `function` is returned.

  Returns:
    A function of a whole batch, to be called in a graph. All workers call it with the same batch, and all of them get
    the values of all rows, in the order of the batch.
  """
  number = strategy.num_replicas_in_sync
  if number == 1:
    return function

  def own(x, more):
    i = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)
    total = tf.shape(tf.nest.flatten(x)[0])[0]
    first, end = i * total // number, (i + 1) * total // number
    with _having(Share(first, end - first, total)):
      return dict(function(tf.nest.map_structure(lambda part: part[first:end], x), more))

  def whole(x, more):
    values = strategy.run(own, (x, more))
    return {name: strategy.gather(value, axis=0) for name, value in values.items()}

  return whole


def draw_rows(draw: Callable[[list[Any]], tf.Tensor], shape: Sequence[Any], axis: int = 0) -> tf.Tensor:
  """`draw(shape)` of random numbers, in which a row has those of its place in the batch of all replicas.

  Args:
    draw: gives numbers of a shape.
    shape: that of a replica's rows.
    axis: the dimension of rows.
  """
  rows, shape = share(), list(shape)
  if rows is None:
    return draw(shape)
  shape[axis] = rows.total
  part = (*[slice(None)] * axis, slice(rows.first, rows.first + rows.size))
  return draw(shape)[part]


def total(values: Any) -> Any:
  """Tensors, summed over replicas: a nest of them."""
  if not is_replica():
    return values
  flat = tf.nest.flatten(values)
  if not flat:
    return values
  summed = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, flat)
  return tf.nest.pack_sequence_as(values, summed)


def without_rows_zero(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
  """Values that a replica without rows computed from nothing, such as NaN, as 0; others as they are."""
  rows = share()
  if rows is None:
    return list(values)
  return [tf.math.multiply_no_nan(value, tf.cast(rows.size > 0, value.dtype)) for value in values]


def totals_of_scalars(values: Sequence[tf.Tensor], dtype: str = "float32") -> list[tf.Tensor]:
  """Scalars and vectors, summed over replicas in one message; with `dtype`."""
  sizes = [value.shape.num_elements() for value in values]
  packed = total(tf.concat([tf.reshape(tf.cast(value, dtype), [-1]) for value in values], axis=0))
  parts = tf.split(packed, sizes)
  return [tf.reshape(part, value.shape) for part, value in zip(parts, values, strict=True)]


def step_output(results: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  """Scalars as Keras takes them from a step: as vectors, where it averages them over workers."""
  strategy = tf.distribute.get_strategy()
  of_workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
  if not (is_replica() and of_workers and strategy.extended._in_multi_worker_mode()):
    return results
  return {name: value[tf.newaxis] for name, value in results.items()}


def mean(values: tf.Tensor) -> tf.Tensor:
  """The mean of values `[batch]`; in a step of several replicas this one's part of it, which `total` completes."""
  rows = share()
  if rows is None:
    return tf.reduce_mean(values)
  return tf.reduce_sum(values) / tf.cast(rows.total, values.dtype)


def part_of(value: tf.Tensor) -> tf.Tensor:
  """Of what each replica has, such as a penalty on weights, this one's part by the number of its rows."""
  rows = share()
  return value if rows is None else value * tf.cast(rows.size / rows.total, value.dtype)
