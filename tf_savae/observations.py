"""Which observations a likelihood is defined for, and a look at data before they are trained on."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_savae.errors import UserError


@dataclasses.dataclass(frozen=True)
class Support:
  """The observations of a likelihood: numbers from `low` to `high`.

  NaN is not its concern: an update on NaN is skipped and counted.

  Attributes:
    low, high: both included.
    whole: whether they are whole numbers, such as token ids.
    remedy: what to do with others.
  """

  low: float
  high: float
  whole: bool = False
  remedy: str = "transform the data"

  def check(self, x: Any) -> None:
    """Raises a UserError that names range and remedy if an entry of array x lies outside."""
    x = np.asarray(x)
    if not x.size or x.dtype.kind not in "biuf":
      return
    with np.errstate(invalid="ignore"):
      low, high = np.fmin.reduce(x, axis=None), np.fmax.reduce(x, axis=None)
    outside = low < self.low or high > self.high
    fractions = self.whole and x.dtype.kind == "f" and bool(np.any(x[np.isfinite(x)] % 1))
    if outside or fractions:
      kind = "whole numbers" if self.whole else "numbers"
      what = f"numbers from {low:g} to {high:g}" + (", some with fractions" if fractions else "")
      raise UserError(
        f"the decoder's likelihood is of {kind} from {self.low:g} to {self.high:g}; received {what}; {self.remedy}"
      )


IMAGE, LABEL = "image", "label"  # parts of the observations of a conditional model of images


@dataclasses.dataclass(frozen=True)
class Conditional:
  """The observations of a conditional likelihood: what it covers, and the label that it is given.

  Attributes:
    observed: which values the likelihood covers; None: not known.
    name, label: names of both among the parts of an observation.
    num_labels: labels are whole numbers from 0 to this, less one.
  """

  observed: Any
  name: Any
  label: Any
  num_labels: int

  def check(self, x: Any) -> None:
    """Raises a UserError that names range and remedy if a part of x lies outside."""
    if self.observed is not None:
      observed = self.observed if isinstance(self.observed, Support) else Support(*self.observed)
      observed.check(part(x, self.name))
    Support(0, self.num_labels - 1, True, "number the labels from 0").check(part(x, self.label))


def part(x: Any, name: Any) -> Any:
  """The part of an observation, a dict or a tuple, that is called `name` or has that place.

  Raises:
    UserError: x has no such part.
  """
  if isinstance(x, dict) and name in x:
    return x[name]
  if isinstance(x, list | tuple) and isinstance(name, int) and name < len(x):
    return x[name]
  has = f"the parts {', '.join(map(repr, x))}" if isinstance(x, dict) else f"a {type(x).__name__}"
  raise UserError(
    f"a conditional model needs observations with a part {name!r}; received {has}; give both as a dict"
  )


def image_of(x: Any) -> Any:
  """The image of an observation, which may have a label beside it."""
  return x[IMAGE] if isinstance(x, dict) else x


BINARY = Support(0, 1, remedy="divide grey values by 255 and binarise them")


def token_ids(vocab_size: int) -> Support:
  """Ids of a vocabulary."""
  return Support(0, vocab_size - 1, True, "map words to ids below the decoder's vocab_size, or enlarge it")


def check(decoder: Any, x: Any) -> None:
  """Checks observations, an array or eager tensor, against a decoder's `support`; those of other types pass.

  Args:
    decoder: may have a `support`: a `Support`, a pair (low, high), or None.
    x: `[batch, ...]`.

  Raises:
    UserError: some are outside.
  """
  support = getattr(decoder, "support", None)
  if support is None or not (isinstance(x, np.ndarray) or (tf.is_tensor(x) and hasattr(x, "numpy"))):
    return
  (support if isinstance(support, Support) else Support(*support)).check(x)


def check_array(decoder: Any, x: Any) -> None:
  """`check` for NumPy arrays only: tensors come from code that checked already."""
  if isinstance(x, np.ndarray):
    check(decoder, x)


def first_batch(data: Any) -> tuple[Any, Any]:
  """The first observations of data as Keras takes them, and the data to go on with.

  An array is its own first batch. A generator is a new one afterwards, as its first batch was taken.

  Returns:
    x, None where it is no single array; and data.
  """
  if isinstance(data, tf.data.Dataset):
    first = next(iter(data), None)
  elif isinstance(data, keras.utils.PyDataset):
    first = data[0]
  elif hasattr(data, "__next__"):
    first = next(data, None)
    data = _again(first, data)
  else:
    first = data
  if isinstance(first, tuple):
    first = keras.utils.unpack_x_y_sample_weight(first)[0]
  return (first if isinstance(first, np.ndarray) or tf.is_tensor(first) else None), data


def _again(first, rest):
  if first is not None:
    yield first
  yield from rest
