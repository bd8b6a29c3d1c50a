"""How often the tagger of `saliency` is right, on sentences tagged by hand: `python -m experiments.tagger`."""

from __future__ import annotations

import collections
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tf_savae.commands.flags import Command, Flag, Given
from tf_savae.errors import UserError
from tf_savae.evaluation import saliency_groups
from tf_savae.evaluation.tables import markdown
from tf_savae.runs.options import one_of, path

_SENTENCES = str(Path(__file__).resolve().parent.parent / "testdata" / "tagged_sentences.txt")
_NOT_COUNTED = "*"


class Accuracy(NamedTuple):
  """How often a tagger agrees with tags made by hand.

  Attributes:
    sentences: number of documents.
    tokens: number of tokens that count.
    right: those whose tag is right.
    right_class: those whose first two letters are right, which are the class of a word: NNS and NNP are nouns.
    mistakes: (tag by hand, tag of the tagger) → how often, for tags that differ.
  """

  sentences: int
  tokens: int
  right: int
  right_class: int
  mistakes: collections.Counter


def read(file: str) -> list[list[tuple[str, str]]]:
  """Sentences of (word, tag): a sentence per line, `word/TAG` separated by spaces; lines with # are comments.

  Raises:
    UserError: the file cannot be read, or a token has no tag.
  """
  try:
    lines = Path(file).read_text(encoding="utf-8").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"--sentences={file} cannot be read ({error}); name a file of word/TAG lines") from error
  found = []
  for line in lines:
    if line.strip() and not line.startswith("#"):
      pairs = [token.rpartition("/") for token in line.split()]
      if not all(word and tag for word, _, tag in pairs):
        raise UserError(
          f"--sentences={file} has a token without a tag; received {line[:60]!r}; write word/TAG"
        )
      found.append([(word, tag) for word, _, tag in pairs])
  return found


def accuracy(sentences: Sequence[Sequence[tuple[str, str]]], tagger: str) -> Accuracy:
  """Compares a tagger with the tags of sentences; those tagged * do not count."""
  found = saliency_groups.parts_of_speech([[word for word, _ in pairs] for pairs in sentences], tagger) or []
  both = [
    (hand, tag)
    for pairs, tags in zip(sentences, found, strict=True)
    for (_, hand), tag in zip(pairs, tags, strict=True)
    if hand != _NOT_COUNTED
  ]
  mistakes = collections.Counter(pair for pair in both if pair[0] != pair[1])
  same_class = sum(hand[:2] == tag[:2] for hand, tag in both)
  return Accuracy(len(sentences), len(both), len(both) - mistakes.total(), same_class, mistakes)


def _flags() -> list[Flag]:
  return [
    Flag("tagger", "textblob", one_of("textblob"), "who tells parts of speech"),
    Flag(
      "sentences", _SENTENCES, path(), "file of word/TAG lines", shown_default="testdata/tagged_sentences.txt"
    ),
  ]


def _work(given: Given) -> None:
  found = accuracy(read(given.sentences), given.tagger)
  print(
    f"{found.sentences} documents, {found.tokens} tokens: {found.right} tags are right"
    f" ({100 * found.right / found.tokens:.1f} %), {found.right_class} word classes"
    f" ({100 * found.right_class / found.tokens:.1f} %)\n"
  )
  rows = [[hand, tag, f"{n}"] for (hand, tag), n in found.mistakes.most_common(8)]
  print(markdown(["by hand", f"by {given.tagger}", "tokens"], rows))


COMMAND = Command(
  "tagger",
  "How often the tagger of `saliency` is right, on documents of Yahoo Answers that were tagged by hand.",
  _flags,
  _work,
  program="python -m experiments.tagger",
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
