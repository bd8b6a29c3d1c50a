"""What x looks like to a client, for each kind of data: its tensor, and the raw inputs that are turned into it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_savae import tokens
from tf_savae.data.vocabulary import UNKNOWN_NAMES
from tf_savae.networks import decoding
from tf_savae.runs.restore import Restored
from tf_savae.serving import images
from tf_savae.serving.sentences import Tokenizer

VOCABULARY = "vocabulary.txt"  # of a run directory, and among a SavedModel's assets


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
class Form:
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


def of(trained: Restored, seed: int) -> Form:
  """The form of what a run was trained on.

  Args:
    trained: its `kind` is a key of `FORMS`; gives sizes and the vocabulary.
    seed: of what the form draws at export, such as the thresholds of the binarisation.
  """
  return FORMS[trained.kind](trained, seed)


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


def _images(trained: Restored, seed: int) -> Form:
  model = trained.model
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
    lambda data: images.from_png(checked("image_bytes", data, []), thresholds),
    pngs,
    f"PNG file of any size up to {images.MAX_SIDE}×{images.MAX_SIDE}, dark ink on light or transparent ground; reduced"
    f" to {height}×{width} by area averaging and binarised with a fixed threshold for each pixel, drawn from U(0, 1):"
    " P(ink) is the grey value, as in training",
  )
  probabilities = (
    f"probability of ink of each pixel `[{height}, {width}, 1]`, the pixels before it at their likelier value"
  )
  return Form(
    {"": pixels, "_png": png},
    "",
    _drawn_as_it_is(pixels),
    FromLatent("decode", "probabilities", "image", model.decode, probabilities),
  )


def _tokens(trained: Restored, seed: int) -> Form:
  del seed
  model = trained.model
  length, vocab_size = model.decoder.length, model.decoder.vocab_size

  def sequences(n):
    return np.random.default_rng(0).integers(0, vocab_size, [n, length]).astype(np.int32)

  ids = Input(
    tf.TensorSpec([None, length], tf.int32, "x"),
    lambda x: checked("x", x, [length]),
    sequences,
    f"token ids `[{length}]`, int32",
  )
  probabilities = f"probabilities of the tokens `[{length}, {vocab_size}]` along the greedy path"
  return Form(
    {"": ids},
    "",
    _drawn_as_it_is(ids),
    FromLatent("decode", "probabilities", "probabilities", model.decode, probabilities),
  )


def _drawn_as_it_is(plain: Input) -> Output:
  return Output(
    "x", lambda x: x, tf.TensorSpec(plain.spec.shape[1:], plain.spec.dtype), f"x ~ p(x): {plain.text}"
  )


def _text(trained: Restored, seed: int) -> Form:
  del seed
  model, path = trained.model, Path(trained.config.run_dir) / VOCABULARY
  tokenizer = Tokenizer(trained.vocabulary, path, model.decoder.max_length)
  words = trained.vocabulary.words[len(tokens.SPECIAL) :]
  small = all(word == word.lower() for word in words)
  unknown = ", ".join(f"`{name}`" for name in sorted(UNKNOWN_NAMES))
  sentence = Input(
    tf.TensorSpec([None], tf.string, "sentence"),
    lambda sentence: tokenizer.encode(checked("sentence", sentence, [])),
    tokenizer.example_sentences,
    f"sentence, UTF-8, of at most {tokenizer.max_words} words; more are an error. Words are what white space separates,"
    f" as in training, looked up as they are among the {len(words):,} of `assets/{VOCABULARY}`"
    f"{', which has no capital letters: send small ones' if small else ''}. Others count as unknown, and so do"
    f" {unknown} and whatever else names a special token. No words at all is an empty document, END alone",
  )
  ids = Input(
    tf.TensorSpec([None, None], tf.int32, "x"),
    lambda x: tokenizer.checked(checked("x", x, [None])),
    tokenizer.example_documents,
    f"token ids `[length]`, int32, line numbers from 0 of `assets/{VOCABULARY}`: words, END = {tokens.END}, then PAD ="
    f" {tokens.PAD} up to any common length (with server-side batching one that all clients share); unknown words are"
    f" {tokens.UNKNOWN}",
  )
  text = "sentence, UTF-8: words with spaces between, unknown ones as `_UNK`"

  def greedy(z):
    return tokenizer.decode(decoding.generate(model.decoder, z))

  return Form(
    {"": sentence, "_ids": ids},
    "_ids",
    Output("sentence", tokenizer.decode, tf.TensorSpec([], tf.string), f"x ~ p(x): {text}"),
    FromLatent("sample", "sentence", "sentence", greedy, f"{text}; the likeliest word after word"),
    {"tokens": (tokens.lengths, "words and END, int32: perplexity is exp(−Σ elbo / Σ tokens)")},
    tokenizer.tables,
  )


FORMS: dict[str, Callable[[Restored, int], Form]] = {"image": _images, "tokens": _tokens, "text": _text}
