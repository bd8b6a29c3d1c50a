"""Reads a user's sentences into the tokens that a model sees."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tf_savae.data import text_lines
from tf_savae.data.vocabulary import UNKNOWN_NAMES, Vocabulary
from tf_savae.errors import UserError
from tf_savae.tokens import END, PAD, SPECIAL, UNKNOWN

_MULTIPLE = 8  # rows are padded to a multiple of this length


@dataclasses.dataclass(frozen=True)
class Sentence:
  """A sentence and its tokens.

  Attributes:
    text: the sentence as given.
    ids: ids of its words and END.
    unknown: words that are not in the vocabulary, each once.
    is_lowered: whether capital letters were changed to lower case.
  """

  text: str
  ids: tuple[int, ...]
  unknown: tuple[str, ...] = ()
  is_lowered: bool = False


class Reader:
  """Turns texts into sentences, whose words are separated by spaces.

  Capital letters are changed to lower case if and only if the vocabulary has no capital letters.

  Args:
    vocabulary: the model's vocabulary.
    max_length: the largest number of tokens, including END.
  """

  def __init__(self, vocabulary: Vocabulary, max_length: int):
    self._vocabulary, self._max_length = vocabulary, max_length
    self.lowers = all(word == word.lower() for word in vocabulary.words[len(SPECIAL) :])

  def read(self, text: str, where: str = "--sentence") -> Sentence:
    """Reads one sentence.

    Raises:
      UserError: it is empty or too long; the message begins with `where`.
    """
    if not text.split():
      raise UserError(f"{where} has no words; received {text!r}")
    words, is_lowered = self._vocabulary.split(text), False
    if len(words) >= self._max_length:
      start = f"{text[:40]}…" if len(text) > 40 else text
      raise UserError(
        f"{where} may have at most {self._max_length - 1} {self._vocabulary.plural} for this model; received"
        f" {len(words)}: {start!r}"
      )
    if self.lowers:
      lowered = [word if word in UNKNOWN_NAMES else word.lower() for word in words]
      # Pieces are cut again, since a word in small letters may have others.
      is_lowered, words = lowered != words, self._vocabulary.split(self._vocabulary.join(lowered))
    ids = self._vocabulary.encode(words)
    unknown = (word for word, i in zip(words, ids, strict=True) if i == UNKNOWN and word not in UNKNOWN_NAMES)
    return Sentence(text, (*ids, END), tuple(dict.fromkeys(unknown)), is_lowered)

  def read_file(self, path: str | os.PathLike[str], num: int) -> list[Sentence]:
    """The first `num` sentences of a file with one per line, which is compressed if its name ends in ".gz".

    Raises:
      UserError: the file is unusable or has no words, or a sentence is too long.
    """
    found = [
      self.read(" ".join(text.split()), f"sentence {i} of {path}")
      for i, text in enumerate(itertools.islice(text_lines.texts(Path(path)), num), 1)
    ]
    if not found:
      raise UserError(f"{path} has no words; write one sentence per line")
    return found

  def of_rows(self, rows: np.ndarray) -> list[Sentence]:
    """Sentences from documents `[n, length]` that are already tokens."""
    kept = ([int(i) for i in row if i != PAD] for row in rows)
    return [Sentence(self._vocabulary.decode(ids), tuple(ids)) for ids in kept]


def padded(sentences: Sequence[Sentence]) -> np.ndarray:
  """The tokens of sentences, int32 `[n, length]`, padded with PAD to a common length."""
  longest = max(len(sentence.ids) for sentence in sentences)
  x = np.full([len(sentences), -(-longest // _MULTIPLE) * _MULTIPLE], PAD, np.int32)
  for row, sentence in zip(x, sentences, strict=True):
    row[: len(sentence.ids)] = sentence.ids
  return x
