"""Words and their ids: the special tokens of `tf_savae.tokens`, then the words of a corpus, most frequent first."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from tf_savae.atomic_files import atomic_write_text
from tf_savae.errors import UserError, reason
from tf_savae.tokens import END, PAD, SPECIAL, UNKNOWN

# How corpora write a word that was replaced. Each of these means the unknown token and is not itself a word.
UNKNOWN_NAMES = frozenset({SPECIAL[UNKNOWN], "UNK", "<unk>"})
_NOT_WORDS = UNKNOWN_NAMES | set(SPECIAL)


class Vocabulary:
  """The words a model knows; word number i has id i.

  No word of a text becomes padding, a start or an end. In a text, "<pad>", "<s>" and "</s>" are unknown words, like
  "_UNK", "UNK" and "<unk>".

  Args:
    words: the special tokens in the order of their ids, then the words.

  Attributes:
    words: all words, including the special tokens, as a tuple.
    units: what a word is here: a value of `--units`.
    plural: the same in words, for messages.

  Raises:
    UserError: the special tokens are missing, there are no other words, or a word is repeated, empty, or
      contains white space.

  Example:
    >>> from tf_savae.data import Vocabulary
    >>> from tf_savae.tokens import SPECIAL
    >>> vocabulary = Vocabulary([*SPECIAL, "cat", "dog"])
    >>> vocabulary.decode(vocabulary.encode("cat dog bird".split()))
    'cat dog _UNK'
  """

  units, plural = "word", "words"

  def __init__(self, words: Iterable[str]):
    self.words = tuple(words)
    first = self.words[: len(SPECIAL)]
    if first != SPECIAL:
      raise UserError(
        f"a vocabulary begins with {' '.join(SPECIAL)}. Received: {' '.join(first) or 'nothing'}"
      )
    if len(self.words) == len(SPECIAL):
      raise UserError(f"a vocabulary needs words besides {' '.join(SPECIAL)}. Received: none")
    self._ids: dict[str, int] = {}
    for i, word in enumerate(self.words):
      if word.split() != [word]:
        raise UserError(f"word number {i} of a vocabulary is empty or has white space. Received: {word!r}")
      if self._ids.setdefault(word, i) != i:
        raise UserError(
          f"word number {i} of a vocabulary repeats number {self._ids[word]}. Received: {word!r}"
        )
    for name in _NOT_WORDS:
      self._ids.pop(name, None)

  @classmethod
  def from_counts(
    cls, counts: Mapping[str, int], *, max_size: int | None = None, min_count: int = 1
  ) -> Vocabulary:
    """A vocabulary of the most frequent words; equally frequent words are sorted by their characters.

    Args:
      counts: how often each word occurs.
      max_size: how many words to keep besides the special ones; None: all.
      min_count: words that occur less often are left out.

    Raises:
      UserError: no word is left.
    """
    if (max_size is not None and max_size < 1) or min_count < 1:
      raise UserError(
        f"vocabulary: size and minimum count must be at least 1. "
        f"Received: max_size={max_size}, min_count={min_count}"
      )
    words = [word for word, count in counts.items() if count >= min_count and word not in _NOT_WORDS]
    if not words:
      known = [count for word, count in counts.items() if word not in _NOT_WORDS]
      what = (
        f"{len(known)} different words, the most frequent one {max(known)} times" if known else "no words"
      )
      raise UserError(
        f"the vocabulary is empty: no word occurs at least {min_count} times in the training documents; "
        f"lower the minimum count, or give more text. Received: {what}"
      )
    words.sort(key=lambda word: (-counts[word], word))
    return cls((*SPECIAL, *words[:max_size]))

  def __len__(self) -> int:
    return len(self.words)

  def __eq__(self, other: object) -> bool:
    return isinstance(other, Vocabulary) and (self.units, self.words) == (other.units, other.words)

  def __hash__(self) -> int:
    return hash(self.words)

  def __repr__(self) -> str:
    return f"Vocabulary of {len(self)} words"

  def split(self, text: str) -> list[str]:
    """The words of a text, which white space separates."""
    return text.split()

  def join(self, entries: Iterable[str]) -> str:
    """The text that words make."""
    return " ".join(entries)

  def encode(self, tokens: Iterable[str]) -> list[int]:
    """Ids of the words of a text, without END."""
    ids = self._ids
    return [ids.get(token, UNKNOWN) for token in tokens]

  def decode(self, ids: Sequence[int]) -> str:
    """The words of `ids` `[length]` up to the first END, separated by spaces, without padding."""
    words = []
    for i in map(int, ids):
      if i == END:
        break
      if i != PAD:
        words.append(self.words[i])
    return self.join(words)

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes one word per line, UTF-8, so that the line number, counted from 0, is the id.

    `tf.lookup.TextFileInitializer` can read the file. Whatever happens, `path` holds either its old content or the new.

    Raises:
      UserError: the file cannot be written.
    """
    text = "".join(f"{word}\n" for word in self.words)
    atomic_write_text(path, text, called=f"the vocabulary {os.fspath(path)}")

  @classmethod
  def load(cls, path: str | os.PathLike[str]) -> Vocabulary:
    """Reads a vocabulary that `save` wrote.

    Raises:
      UserError: the file cannot be read or is damaged.
    """
    try:
      text = pathlib.Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
      raise UserError(
        f"vocabulary {path} is damaged: it is not UTF-8 at byte {error.start}; restore it"
      ) from error
    except OSError as error:
      raise UserError(f"vocabulary {path} cannot be read: {reason(error)}") from error
    if text and not text.endswith("\n"):
      raise UserError(f"vocabulary {path} is damaged: it ends in the middle of a line; restore it")
    try:
      return cls(text.split("\n")[:-1])
    except UserError as error:
      raise UserError(f"vocabulary {path} is damaged: {error}; restore it") from error
