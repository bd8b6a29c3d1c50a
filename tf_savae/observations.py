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


def observed_of(decoder: Any, x: Any) -> Any:
  """What a decoder's likelihood covers: x, or the part of it that a conditional decoder's `observed` names."""
  return part(x, decoder.observed) if isinstance(x, dict | list | tuple) else x


def with_observed(decoder: Any, x: Any, value: Any) -> Any:
  """x with `value` in the place of what the likelihood covers."""
  if isinstance(x, dict):
    return {**x, decoder.observed: value}
  if isinstance(x, list | tuple):
    return type(x)(value if i == decoder.observed else each for i, each in enumerate(x))
  return value


def size(x: Any) -> int:
  """How many observations there are in x, an array or a nest of arrays."""
  return len(tf.nest.flatten(x)[0])


def take(x: Any, rows: Any) -> Any:
  """Some rows of x, an array or a nest of arrays; `rows` is what an array takes in brackets."""
  return tf.nest.map_structure(lambda each: each[rows], x)


def described(x: Any) -> dict[str, Any]:
  """Shapes without the batch, and names of dtypes, of x or of its specs: JSON values in the structure of x."""
  if isinstance(x, dict | list | tuple):
    items = x.items() if isinstance(x, dict) else enumerate(x)
    parts = {name: described(each) for name, each in items}
    found = {key: {name: each[key] for name, each in parts.items()} for key in ("shape", "dtype")}
    return found if isinstance(x, dict) else {key: list(each.values()) for key, each in found.items()}
  return {"shape": [None, *x.shape[1:]], "dtype": tf.as_dtype(x.dtype).name}


def specs(shape: Any, dtype: Any) -> Any:
  """The inverse of `described`: specs of observations."""
  if isinstance(dtype, str):
    return tf.TensorSpec(shape, dtype)
  if isinstance(dtype, dict):
    return {name: specs(shape[name], dtype[name]) for name in dtype}
  return tuple(specs(*each) for each in zip(shape, dtype, strict=True))


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
    x: `[batch, ...]`, or a nest of such arrays, which a `Conditional` support knows.

  Raises:
    UserError: some are outside.
  """
  support = getattr(decoder, "support", None)
  if support is None or not all(map(_has_values, tf.nest.flatten(x))):
    return
  if isinstance(support, Conditional):
    support.check(x)
    return
  if isinstance(x, dict | list | tuple):
    return
  (support if isinstance(support, Support) else Support(*support)).check(x)


def _is_array(x: Any) -> bool:
  return isinstance(x, np.ndarray) or tf.is_tensor(x)


def _has_values(x: Any) -> bool:
  return isinstance(x, np.ndarray) or (tf.is_tensor(x) and hasattr(x, "numpy"))


def check_array(decoder: Any, x: Any) -> None:
  """`check` for NumPy arrays only: tensors come from code that checked already."""
  if all(isinstance(each, np.ndarray) for each in tf.nest.flatten(x)):
    check(decoder, x)


def first_batch(data: Any) -> tuple[Any, Any]:
  """The first observations of data as Keras takes them, and the data to go on with.

  An array is its own first batch. A generator is a new one afterwards, as its first batch was taken.

  Returns:
    x, None where it is no array and no nest of arrays; and data.
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
  return (first if all(_is_array(each) for each in tf.nest.flatten(first)) else None), data


def _again(first, rest):
  if first is not None:
    yield first
  yield from rest
