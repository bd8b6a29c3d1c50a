"""The form of x for a client: its tensor, and the raw inputs that are turned into it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.kind import KINDS
from tf_savae.runs.restore import Restored


@dataclasses.dataclass(frozen=True)
class Input:
  """One form in which a client can send a batch of observations, as one tensor or as several by name.

  Attributes:
    spec: of the input tensor, batched on dimension 0, whose name is the signature's input name. Or a mapping from names
      to specs; what is said of a tensor below is then said of a mapping with the same names.
    to_x: graph from that tensor to x, row by row.
    examples: maps n to an array of n inputs, for the gate and for warm-up.
    text: what the input is, for the model card.
  """

  spec: tf.TensorSpec | Mapping[str, tf.TensorSpec]
  to_x: Callable[[Any], Any]
  examples: Callable[[int], Any]
  text: str | Mapping[str, str]

  @property
  def specs(self) -> dict[str, tf.TensorSpec]:
    """Specs by name, also of a single tensor."""
    return named(self.spec, self.spec)

  def beside(self, *others: Input) -> Input:
    """This input together with others of one tensor each, whose values `to_x` passes over."""
    names = list(self.specs)

    def to_x(raw):
      return self.to_x(raw[names[0]] if isinstance(self.spec, tf.TensorSpec) else {n: raw[n] for n in names})

    def every(of):
      return {name: part for each in (self, *others) for name, part in named(each.spec, of(each)).items()}

    return Input(
      every(lambda each: each.spec),
      to_x,
      lambda n: every(lambda each: each.examples(n)),
      every(lambda each: each.text),
    )


def named(spec: Any, value: Any) -> dict[str, Any]:
  """What belongs to a spec or to a mapping of specs, by the names of the tensors."""
  return {spec.name: value} if isinstance(spec, tf.TensorSpec) else dict(value)


@dataclasses.dataclass(frozen=True)
class Output:
  """The form in which observations are sent to a client.

  Attributes:
    name: name of the output.
    of_x: graph from x to the output.
    spec: spec of one row.
    text: description for the model card.
  """

  name: str
  of_x: Callable[[tf.Tensor], tf.Tensor]
  spec: tf.TensorSpec
  text: str


@dataclasses.dataclass(frozen=True)
class FromLatent:
  """The form in which p(x | z) is served.

  Attributes:
    signature: name of the signature that maps z to `output`.
    output: name of its output.
    reconstruction: name of the same output in an answer to x.
    of_z: graph from z `[batch, latent]`, and from what `SAVAE.given` gives of x, to the output.
    text: description for the model card.
  """

  signature: str
  output: str
  reconstruction: str
  of_z: Callable[..., tf.Tensor]
  text: str


@dataclasses.dataclass(frozen=True)
class Payloads:
  """How a kind of data is served.

  Attributes:
    inputs: suffix of a signature's name, as in `encode_png` → the form of its input.
    plain: suffix of the input that is x itself.
    drawn: form of an x that was sampled; None: samples are not served.
    from_latent: form of p(x | z); None: it is not served.
    measures: further outputs of `elbo` by name: a graph from x, and a description.
    tables: lookup tables that a SavedModel must hold besides variables.
    condition: form of the label that a conditional model is given, one of the inputs of x; None: there is none.
    mask: form of a mask of x, 1 where it was seen; None: masks are not served.
  """

  inputs: Mapping[str, Input]
  plain: str
  drawn: Output | None
  from_latent: FromLatent | None
  measures: Mapping[str, tuple[Callable[[tf.Tensor], tf.Tensor], str]] = dataclasses.field(
    default_factory=dict
  )
  tables: tuple[tf.lookup.StaticHashTable, ...] = ()
  condition: Input | None = None
  mask: Input | None = None

  @property
  def x(self) -> Input:
    """The input that is x itself."""
    return self.inputs[self.plain]


def of(trained: Restored, seed: int) -> Payloads:
  """The form in which the observations of a trained model are served.

  Args:
    trained: the model; its `kind` decides.
    seed: seed of whatever is drawn at export, such as the thresholds of the binarisation.

  Raises:
    UserError: data of this kind cannot be served.
  """
  try:
    return KINDS.get(trained.kind).payloads(trained, seed)
  except NotImplementedError:
    raise UserError(
      f"data of the kind {trained.kind!r} cannot be exported: give its class a method `payloads`; received"
      f" --run_dir={trained.config.run_dir}"
    ) from None


def checked(name: str, value: tf.Tensor, shape: Sequence[int | None]) -> tf.Tensor:
  """`value` `[batch, *shape]` after checking its shape at run time, because a server does not check it."""
  described = ", ".join(["batch", *("length" if size is None else str(size) for size in shape)])
  # The static shape is what the client promised; unless it is forgotten here, the check is optimised away.
  actual = tf.shape(tf.raw_ops.PlaceholderWithDefault(input=value, shape=None))
  # As many sizes as there should be, because it may have any number of dimensions.
  sizes = tf.concat([actual[1:], tf.fill([len(shape)], -1)], 0)[: len(shape)]
  wanted = tf.constant([-1 if size is None else size for size in shape], tf.int32)
  fits = tf.equal(tf.size(actual), len(shape) + 1) & tf.reduce_all((sizes == wanted) | (wanted < 0))
  message = f"{name} must have the shape [{described}]; received:"
  with tf.control_dependencies([tf.debugging.Assert(fits, [message, actual])]):
    return tf.ensure_shape(tf.identity(value), [None, *shape])


def label_input(name: str, num_labels: int, label_names: Sequence[str] = ()) -> Input:
  """The form of the labels of a conditional model, whole numbers.

  Args:
    name: of the input.
    num_labels: how many there are.
    label_names: what they stand for, as far as it is known.
  """

  def checked_labels(label):
    label = checked(name, label, [])
    fits = tf.reduce_all((label >= 0) & (label < num_labels))
    message = f"{name} must be from 0 to {num_labels - 1}; received some from"
    with tf.control_dependencies(
      [tf.debugging.Assert(fits, [message, tf.reduce_min(label), "to", tf.reduce_max(label)])]
    ):
      return tf.identity(label)

  meanings = "".join(f", {i} {label}" for i, label in enumerate(label_names))
  return Input(
    tf.TensorSpec([None], tf.int32, name),
    checked_labels,
    lambda n: (np.arange(n) % num_labels).astype(np.int32),
    f"what the model is given, a whole number from 0 to {num_labels - 1}, int32{':' if meanings else ''}{meanings[1:]}",
  )


def mask_input(shape: Sequence[int | None]) -> Input:
  """The form of masks of observations of `shape`, without channels."""
  described = ", ".join("length" if size is None else str(size) for size in shape)

  def examples(n):
    flat = np.arange(n)[:, np.newaxis] + np.arange(int(np.prod(shape)))
    return (flat % 3 > 0).astype(np.float32).reshape([n, *shape])

  return Input(
    tf.TensorSpec([None, *shape], tf.float32, "mask"),
    lambda mask: tf.cast(checked("mask", mask, shape) > 0.5, tf.float32),
    examples,
    f"which parts of the observation were seen `[{described}]`, float32: 1 where they were, 0 elsewhere; the others may"
    " have any value",
  )


def drawn_as_it_is(plain: Input, name: str = "x") -> Output:
  """The output of x that was drawn, where x itself, or the input `name` of it, is handed out."""
  spec, text = plain.specs[name], named(plain.spec, plain.text)[name]
  return Output(name, lambda x: x, tf.TensorSpec(spec.shape[1:], spec.dtype), f"x ~ p(x): {text}")
