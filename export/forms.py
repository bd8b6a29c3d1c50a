"""What x looks like to a client, for each kind of data: its tensor, and the raw inputs that are turned into it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from export import images
from tf_savae.model import SAVAE


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
class Form:
  """How a kind of data is served.

  Attributes:
    x: the plain input of signatures such as `encode`.
    raw: further inputs, by the suffix that they give to a signature's name, as in `encode_png`.
    decoded: what `decode` returns, for the model card.
  """

  x: Input
  raw: Mapping[str, Input]
  decoded: str


def of(kind: str, model: SAVAE, seed: int) -> Form:
  """The form of a kind of data (`DataSet.kind`) for a trained model.

  Args:
    kind: a key of `FORMS`.
    model: gives sizes.
    seed: of what the form draws at export, such as the thresholds of the binarisation.
  """
  return FORMS[kind](model, seed)


def checked(name: str, value: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
  """`value` `[batch, *shape]`, once its shape at run time is sure: a server does not look at it."""
  message = f"{name} must have the shape [{', '.join(['batch', *map(str, shape)])}]; received:"
  # The static shape is what the client promised; unless it is forgotten here, the check is optimised away.
  actual = tf.shape(tf.raw_ops.PlaceholderWithDefault(input=value, shape=None))
  # As text, because it may have any number of dimensions.
  row = tf.strings.reduce_join(tf.strings.as_string(actual[1:]), separator=",")
  fits = (tf.size(actual) > 0) & tf.equal(row, ",".join(map(str, shape)))
  with tf.control_dependencies([tf.debugging.Assert(fits, [message, actual])]):
    return tf.ensure_shape(tf.identity(value), [None, *shape])


def _images(model: SAVAE, seed: int) -> Form:
  height, width, _ = shape = model.decoder.image_shape
  thresholds = images.thresholds(shape, seed)

  def drawings(n):
    return (images.example_drawings(n, height, width) > 0.5).astype(np.float32)[..., np.newaxis]

  def pngs(n):
    return np.array([images.encode_png(grey) for grey in images.example_drawings(n, 105, 105)], dtype=object)

  pixels = Input(
    tf.TensorSpec([None, *shape], tf.float32, "x"),
    lambda x: checked("x", x, shape),
    drawings,
    f"image `[{height}, {width}, 1]`, float32: 1 where there is ink, 0 elsewhere",
  )
  png = Input(
    tf.TensorSpec([None], tf.string, "image_bytes"),
    lambda data: images.from_png(data, thresholds),
    pngs,
    f"PNG file of any size up to {images.MAX_SIDE}×{images.MAX_SIDE}, dark ink on light or transparent ground; reduced"
    f" to {height}×{width} by area averaging and binarised with a fixed threshold for each pixel, drawn from U(0, 1):"
    " P(ink) is the grey value, as in training",
  )
  decoded = (
    f"probability of ink of each pixel `[{height}, {width}, 1]`, the pixels before it at their likelier value"
  )
  return Form(pixels, {"png": png}, decoded)


def _tokens(model: SAVAE, seed: int) -> Form:
  del seed
  length, vocab_size = model.decoder.length, model.decoder.vocab_size

  def sequences(n):
    return np.random.default_rng(0).integers(0, vocab_size, [n, length]).astype(np.int32)

  tokens = Input(
    tf.TensorSpec([None, length], tf.int32, "x"),
    lambda x: checked("x", x, [length]),
    sequences,
    f"token ids `[{length}]`, int32",
  )
  return Form(tokens, {}, f"probabilities of the tokens `[{length}, {vocab_size}]` along the greedy path")


FORMS: dict[str, Callable[[SAVAE, int], Form]] = {"image": _images, "tokens": _tokens}
