"""The form of x for a client: its tensor, and the raw inputs that are turned into it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.kind import KINDS
from tf_savae.runs.restore import Restored


@dataclasses.dataclass(frozen=True)
class Input:
  """One form in which a client can send a batch of observations.

  Attributes:
    spec: spec of the input tensor, batched on dimension 0; its name is the signature's input name.
    to_x: graph from that tensor to x, row by row.
    examples: maps n to an array of n inputs, for the gate and for warm-up.
    text: what the input is, for the model card.
  """

  spec: tf.TensorSpec
  to_x: Callable[[tf.Tensor], tf.Tensor]
  examples: Callable[[int], np.ndarray]
  text: str


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
    of_z: graph from z `[batch, latent]` to the output.
    text: description for the model card.
  """

  signature: str
  output: str
  reconstruction: str
  of_z: Callable[[tf.Tensor], tf.Tensor]
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
  """

  inputs: Mapping[str, Input]
  plain: str
  drawn: Output | None
  from_latent: FromLatent | None
  measures: Mapping[str, tuple[Callable[[tf.Tensor], tf.Tensor], str]] = dataclasses.field(
    default_factory=dict
  )
  tables: tuple[tf.lookup.StaticHashTable, ...] = ()

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


def drawn_as_it_is(plain: Input) -> Output:
  """The output of x that was drawn, where x itself is handed out."""
  return Output(
    "x", lambda x: x, tf.TensorSpec(plain.spec.shape[1:], plain.spec.dtype), f"x ~ p(x): {plain.text}"
  )
