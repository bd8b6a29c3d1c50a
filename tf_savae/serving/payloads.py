"""What x looks like to a client: its tensor, and the raw inputs that are turned into it."""

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
  """One way to hand in a batch of observations.

  Attributes:
    spec: of the input tensor, batched on dimension 0; its name is the signature's input name.
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
  """How observations are handed out.

  Attributes:
    name: of the output.
    of_x: graph from x to it.
    spec: of a row.
    text: what it is, for the model card.
  """

  name: str
  of_x: Callable[[tf.Tensor], tf.Tensor]
  spec: tf.TensorSpec
  text: str


@dataclasses.dataclass(frozen=True)
class FromLatent:
  """What is served of p(x | z).

  Attributes:
    signature: z → `output`.
    output: its name there.
    reconstruction: its name as an answer to x.
    of_z: graph from z `[batch, latent]`.
    text: what it is, for the model card.
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
    inputs: by the suffix that they give to a signature's name, as in `encode_png`.
    plain: suffix of the input that is x itself.
    drawn: x that was drawn.
    from_latent: x that z stands for.
    measures: further outputs of `elbo`: graphs from x, and what they are, by name.
    tables: what a SavedModel must hold besides variables.
  """

  inputs: Mapping[str, Input]
  plain: str
  drawn: Output
  from_latent: FromLatent
  measures: Mapping[str, tuple[Callable[[tf.Tensor], tf.Tensor], str]] = dataclasses.field(
    default_factory=dict
  )
  tables: tuple[tf.lookup.StaticHashTable, ...] = ()

  @property
  def x(self) -> Input:
    """The input that is x itself."""
    return self.inputs[self.plain]


def of(trained: Restored, seed: int) -> Payloads:
  """How what a run was trained on is served.

  Args:
    trained: the model; its `kind` decides.
    seed: of what is drawn at export, such as the thresholds of the binarisation.

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
  """`value` `[batch, *shape]`, once its shape at run time is sure: a server does not look at it."""
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
