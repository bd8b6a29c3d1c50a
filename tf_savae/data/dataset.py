"""What every data set offers: sizes, resumable training batches, and evaluation batches in a fixed order."""

from __future__ import annotations

import abc
import types
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from tf_savae.data import batches
from tf_savae.errors import UserError

#: The names of the splits.
SPLITS = ("train", "valid", "test")

# Splits, and the fixed binarisation of evaluation images, use this seed and never the seed of a training run. So runs
# with different seeds are compared on the same examples.
FIXED_SEED = 20180201


class DataSet(abc.ABC):
  """Three splits of examples, served in batches.

  Attributes:
    name: its name for `--dataset`.
    source: one line that says where the data came from; it contains "stand-in" for a stand-in.
    is_stand_in: whether generated data stand in for the real data set of that name.
    seed: the training run's seed, which decides the order and the dynamic binarisation of the training examples.
    facts: more that may not change while a run goes on, such as how it was split: JSON values by name. They are kept
      with the run and in its results.
    counts: what was counted in the data, for the results: JSON values by name.
    notes: further lines about the data, which a run prints below its source.
    oracle: the `tf_savae.data.oracle.Oracle` that drew the data; None if it is not known.
    labels: what is known about each example besides what the model sees, such as its class: name → split → one value
      per example. They are shown in TensorBoard's projector, and enter training only if a model is conditional on them.
    kind: a name in `tf_savae.kind.KINDS`; built in: "image" (float32 `[batch, height, width, channels]` in [0, 1]),
      "tokens" (int32 `[batch, length]`, all of one length), "text" (int32 `[batch, length]`, padded, see
      `tf_savae.tokens`). Conditional models have {"image": …, "label": int32 `[batch]`}.

  Example:
    A data set of constants, with the three methods that it must have:

    >>> import tensorflow as tf
    >>> from tf_savae.data import DataSet
    >>> class Constants(DataSet):
    ...   kind = "tokens"
    ...   def num_examples(self, split):
    ...     return 6
    ...   def _train_batch(self, rows, step):
    ...     return tf.zeros([tf.size(rows), 3], tf.int32)
    ...   def _eval_batch(self, split, rows):
    ...     return tf.zeros([tf.size(rows), 3], tf.int32)
    >>> data = Constants(name="constants", source="all zeros", is_stand_in=True, seed=0)
    >>> data.steps_per_epoch(batch_size=4)
    2
    >>> data.examples("test", 2).shape
    (2, 3)
  """

  kind: ClassVar[str]
  facts: Mapping[str, Any] = types.MappingProxyType({})
  counts: Mapping[str, Any] = types.MappingProxyType({})
  notes: Sequence[str] = ()
  labels: Mapping[str, Mapping[str, Sequence[object]]] = types.MappingProxyType({})
  oracle: Any = None

  def __init__(self, *, name: str, source: str, is_stand_in: bool, seed: int):
    self.name = name
    self.source = source
    self.is_stand_in = is_stand_in
    self.seed = seed

  @abc.abstractmethod
  def num_examples(self, split: str) -> int:
    """Number of examples in `split`, one of "train", "valid", "test"."""

  @abc.abstractmethod
  def _train_batch(self, rows: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Training examples `rows` `[batch]` as the model sees them at `step`; a pure function."""

  @abc.abstractmethod
  def _eval_batch(self, split: str, rows: tf.Tensor) -> tf.Tensor:
    """Examples `rows` `[batch]` of `split` in their one fixed form."""

  def steps_per_epoch(self, batch_size: int) -> int:
    """Batches in one pass over the training examples; the last one may be short and is not dropped."""
    return batches.steps_per_epoch(self.num_examples("train"), batch_size)

  def train_batches(self, batch_size: int, start_step: int, num_steps: int) -> tf.data.Dataset:
    """Training batches number `start_step` to `start_step + num_steps - 1` of the run.

    Batch `step` belongs to epoch `step // steps_per_epoch` and is a pure function of (seed, step). A run that
    resumes at any step therefore sees the batches that the uninterrupted run would have seen.

    Args:
      batch_size: examples per batch; the last batch of an epoch holds what remains.
      start_step: number of the first batch, counted over the whole run.
      num_steps: how many batches to serve.

    Returns:
      A prefetched dataset of known cardinality whose elements have batch dimension None.
    """
    return batches.train(
      self._train_batch, self.seed, self.num_examples("train"), batch_size, start_step, num_steps
    )

  def eval_batches(self, split: str, batch_size: int) -> tf.data.Dataset:
    """`split` once, in a fixed order and a fixed form that do not depend on the seed of the run."""
    return batches.evaluation(
      lambda rows: self._eval_batch(split, rows), self.num_examples(split), batch_size
    )

  def examples(self, split: str, n: int) -> Any:
    """The first `n` examples of `split` (all, if there are fewer) in the form the model takes."""
    x = self._eval_batch(split, tf.range(min(n, self.num_examples(split)), dtype=tf.int64))
    return tf.nest.map_structure(lambda part: part.numpy(), x)


def check_split(split: str) -> str:
  """Returns `split`; raises UserError if it is not the name of a split."""
  if split not in SPLITS:
    raise UserError(f"unknown split: expected one of {', '.join(SPLITS)}. Received: {split!r}")
  return split
