"""From sentences to the token ids that the networks were trained on and back, inside the graph."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_savae import tokens
from tf_savae.data.vocabulary import Vocabulary
from tf_savae.tokens import END, PAD, START, UNKNOWN


class Tokenizer:
  """`Vocabulary.encode` and `decode` as graphs, over a file that a SavedModel takes along as an asset.

  Words are what Python's `str.split` makes of a sentence, as in training; nothing is made small.

  Args:
    vocabulary: of the run.
    path: its file.
    max_length: most tokens of a document, END included.

  Attributes:
    tables: what a module must hold so that a SavedModel has the file.
  """

  def __init__(self, vocabulary: Vocabulary, path: str | os.PathLike[str], max_length: int):
    self._vocabulary, self._max_length = vocabulary, max_length
    self._vocab_size = len(vocabulary)
    # Words of the file that no text has: there "</s>" ends nothing, it is a word that is not known.
    self._hidden = [i for i, read in enumerate(vocabulary.encode(vocabulary.words)) if i != read]
    line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
    path = os.fspath(path)
    self._ids = tf.lookup.StaticHashTable(
      tf.lookup.TextFileInitializer(path, tf.string, line, tf.int64, number), UNKNOWN
    )
    self._words = tf.lookup.StaticHashTable(
      tf.lookup.TextFileInitializer(path, tf.int64, number, tf.string, line), tokens.SPECIAL[UNKNOWN]
    )
    self.tables = (self._ids, self._words)

  @property
  def max_words(self) -> int:
    """Most words of a sentence."""
    return self._max_length - 1

  def encode(self, sentences: tf.Tensor) -> tf.Tensor:
    """Documents of sentences `[batch]`: words, END, PAD up to the longest, `[batch, length]` int32.

    A sentence without words is END alone. One with more than `max_words` fails the batch.
    """
    words = tf.strings.split(tf.strings.regex_replace(sentences, _WHITE_SPACE, " "))
    longest = tf.reduce_max(tf.concat([words.row_lengths(), [0]], 0))
    message = f"sentence must have at most {self.max_words} words; received:"
    short = tf.debugging.Assert(longest <= self.max_words, [message, longest])
    with tf.control_dependencies([short]):
      ids = self._ids.lookup(words.flat_values)
    is_hidden = tf.reduce_any(ids[:, tf.newaxis] == tf.constant(self._hidden, tf.int64), axis=1)
    ids = tf.where(is_hidden, tf.constant(UNKNOWN, tf.int64), ids)
    x = tf.pad(words.with_flat_values(tf.cast(ids, tf.int32)).to_tensor(PAD), [[0, 0], [0, 1]])
    return tf.where(_places(x) == tf.cast(words.row_lengths(), tf.int32)[:, tf.newaxis], END, x)

  def decode(self, x: tf.Tensor) -> tf.Tensor:
    """Sentences `[batch]` of documents `[batch, length]`: the words up to END, spaces between."""
    words = self._words.lookup(tf.cast(x, tf.int64))
    before_end = tf.cumsum(tf.cast(x == END, tf.int32), axis=1) == 0
    return tf.strings.reduce_join(tf.ragged.boolean_mask(words, before_end & (x != PAD)), 1, separator=" ")

  def checked(self, x: tf.Tensor) -> tf.Tensor:
    """Documents `[batch, length]` of a client, once they are sure to be some; no longer than the longest."""
    lengths = tokens.lengths(x)[:, tf.newaxis]
    place = _places(x)
    fits = (x >= 0) & (x < self._vocab_size) & (x != START)
    fits &= (tokens.is_token(x) == (place < lengths)) & ((x == END) == (place == lengths - 1))
    are_documents = tf.reduce_all(fits) & tf.reduce_all((lengths > 0) & (lengths <= self._max_length))
    message = (
      f"x must have rows of ids below {self._vocab_size}: at most {self.max_words} words, END = {END}, then PAD ="
      f" {PAD}; received:"
    )
    with tf.control_dependencies([tf.debugging.Assert(are_documents, [message, x], summarize=20)]):
      longest = tf.reduce_max(tf.concat([lengths[:, 0], [0]], 0))
      # Of no documents, too, a length above 0.
      return tf.pad(x[:, :longest], [[0, 0], [0, tf.cast(longest == 0, tf.int32)]])

  def example_sentences(self, n: int) -> np.ndarray:
    """`n` made-up sentences of different lengths, the first word of each unknown, for gate and warm-up."""
    rng = np.random.default_rng(0)
    known = self._vocabulary.words[len(tokens.SPECIAL) :]
    rows = [rng.choice(known, min(2 + 3 * i, self.max_words - 1)) for i in range(n)]
    return np.array([" ".join((tokens.SPECIAL[UNKNOWN], *row)).encode() for row in rows], object)

  def example_documents(self, n: int) -> np.ndarray:
    """`example_sentences` as token ids."""
    return self.encode(tf.constant(self.example_sentences(n))).numpy()


def _places(x):
  return tf.range(tf.shape(x)[1])


def _characters(codes: Sequence[int]) -> str:
  return "[" + "".join(f"\\x{{{code:x}}}" for code in codes) + "]"


# What separates words for Python; tf.strings.split knows the ASCII ones only.
_WHITE_SPACE = _characters([code for code in range(sys.maxunicode + 1) if chr(code).isspace()])
