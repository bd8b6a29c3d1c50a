"""From sentences to the token ids that the networks were trained on and back, inside the graph."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_savae import tokens
from tf_savae.data.units import MODEL_FILE, SPACE, UNKNOWN_CHARACTER, PieceVocabulary
from tf_savae.data.vocabulary import Vocabulary
from tf_savae.serving.sentencepiece_op import SentencePieces
from tf_savae.tokens import END, PAD, START, UNKNOWN


def tokenizer_for(vocabulary: Vocabulary, path: str | os.PathLike[str], max_length: int) -> Tokenizer:
  """The tokenizer for the units of a vocabulary; arguments as of `Tokenizer`."""
  kinds = {"word": Tokenizer, "char": CharTokenizer, "sentencepiece": PieceTokenizer}
  return kinds[vocabulary.units](vocabulary, path, max_length)


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

  _unknown = tokens.SPECIAL[UNKNOWN]  # a word that no vocabulary has

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

  @property
  def plural(self) -> str:
    """What words are called here."""
    return self._vocabulary.plural

  def encode(self, sentences: tf.Tensor) -> tf.Tensor:
    """Documents of sentences `[batch]`: words, END, PAD up to the longest, `[batch, length]` int32.

    A sentence without words is END alone. One with more than `max_words` fails the batch.
    """
    ids = self._cut(tf.strings.regex_replace(sentences, _WHITE_SPACE, " "))
    lengths = tf.cast(ids.row_lengths(), tf.int32)
    longest = tf.reduce_max(tf.concat([lengths, [0]], 0))
    message = f"sentence must have at most {self.max_words} {self.plural}; received:"
    with tf.control_dependencies([tf.debugging.Assert(longest <= self.max_words, [message, longest])]):
      x = tf.pad(ids.to_tensor(PAD), [[0, 0], [0, 1]])
    return tf.where(_places(x) == lengths[:, tf.newaxis], END, x)

  def _cut(self, sentences: tf.Tensor) -> tf.RaggedTensor:
    """Ids of the words of sentences whose white space are spaces, int32 `[batch, words]`."""
    words = tf.strings.split(sentences)
    ids = self._ids.lookup(words.flat_values)
    is_hidden = tf.reduce_any(ids[:, tf.newaxis] == tf.constant(self._hidden, tf.int64), axis=1)
    ids = tf.where(is_hidden, tf.constant(UNKNOWN, tf.int64), ids)
    return words.with_flat_values(tf.cast(ids, tf.int32))

  def decode(self, x: tf.Tensor) -> tf.Tensor:
    """Sentences `[batch]` of documents `[batch, length]`: the words up to END, spaces between."""
    words = self._words.lookup(tf.cast(x, tf.int64))
    before_end = tf.cumsum(tf.cast(x == END, tf.int32), axis=1) == 0
    return self._join(tf.ragged.boolean_mask(words, before_end & (x != PAD)))

  def _join(self, words: tf.RaggedTensor) -> tf.Tensor:
    return tf.strings.reduce_join(words, 1, separator=" ")

  def checked(self, x: tf.Tensor) -> tf.Tensor:
    """Documents `[batch, length]` of a client, once they are sure to be some; no longer than the longest."""
    lengths = tokens.lengths(x)[:, tf.newaxis]
    place = _places(x)
    fits = (x >= 0) & (x < self._vocab_size) & (x != START)
    fits &= (tokens.is_token(x) == (place < lengths)) & ((x == END) == (place == lengths - 1))
    are_documents = tf.reduce_all(fits) & tf.reduce_all((lengths > 0) & (lengths <= self._max_length))
    message = (
      f"x must have rows of ids below {self._vocab_size}: at most {self.max_words} {self.plural}, END = {END}, then"
      f" PAD = {PAD}; received:"
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
    texts = (self._vocabulary.join((self._unknown, *row)) for row in rows)
    return np.array([text.encode() for text in texts], object)

  def example_documents(self, n: int) -> np.ndarray:
    """`example_sentences` as token ids."""
    return self.encode(tf.constant(self.example_sentences(n))).numpy()


class CharTokenizer(Tokenizer):
  """The same for characters, a space among them."""

  _unknown = UNKNOWN_CHARACTER

  def _cut(self, sentences: tf.Tensor) -> tf.RaggedTensor:
    one_space = tf.strings.strip(tf.strings.regex_replace(sentences, " +", " "))
    characters = tf.strings.unicode_split(tf.strings.regex_replace(one_space, " ", SPACE), "UTF-8")
    return characters.with_flat_values(tf.cast(self._ids.lookup(characters.flat_values), tf.int32))

  def _join(self, words: tf.RaggedTensor) -> tf.Tensor:
    return tf.strings.strip(tf.strings.regex_replace(tf.strings.reduce_join(words, 1), SPACE, " "))


class PieceTokenizer(CharTokenizer):
  """The same for the pieces of a SentencePiece model, cut by an operation of TensorFlow Text, which servers have."""

  def __init__(self, vocabulary: PieceVocabulary, path: str | os.PathLike[str], max_length: int):
    super().__init__(vocabulary, path, max_length)
    self._pieces = SentencePieces(vocabulary.model)
    # The model is in the graph, and lies beside the vocabulary for whoever looks for it.
    model = tf.saved_model.Asset(os.fspath(Path(path).with_name(MODEL_FILE)))
    self.tables = (*self.tables, self._pieces, model)

  def _cut(self, sentences: tf.Tensor) -> tf.RaggedTensor:
    return self._pieces.tokenize(
      tf.strings.regex_replace(sentences, tokens.SPECIAL[UNKNOWN], UNKNOWN_CHARACTER)
    )


def _places(x):
  return tf.range(tf.shape(x)[1])


def _characters(codes: Sequence[int]) -> str:
  return "[" + "".join(f"\\x{{{code:x}}}" for code in codes) + "]"


# What separates words for Python; tf.strings.split knows the ASCII ones only.
_WHITE_SPACE = _characters([code for code in range(sys.maxunicode + 1) if chr(code).isspace()])
