"""A report of generated texts, in Markdown that also reads well in a terminal: texts are in indented blocks."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tf_savae.data.vocabulary import Vocabulary
from tf_savae.errors import UserError
from tf_savae.evaluation.posteriors import Posteriors
from tf_savae.generation.sentences import Sentence
from tf_savae.generation.writer import Versions

_WIDTH = 110


class Report:
  """Collects the parts of a report and prints each part as soon as it is added."""

  def __init__(self, show: Callable[[str], None]):
    self._show, self._parts = show, []

  def add(self, *lines: str) -> None:
    """Adds a part, given as lines of Markdown."""
    part = "\n".join([*lines, ""])
    self._parts.append(part)
    self._show(part)

  def text(self) -> str:
    """The whole report."""
    return "\n".join(self._parts)


def block(rows: list[tuple[str, str]]) -> str:
  """Labels with texts beside them, as an indented block of plain text in Markdown; long texts are wrapped."""
  width = max(len(label) for label, _ in rows) + 2
  lines = []
  for label, text in rows:
    start = f"    {label:{width}}"
    lines.append(
      textwrap.fill(
        text or "(no words)",
        _WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
      )
    )
  return "\n".join(lines)


def numbered(texts: list[str]) -> str:
  """Texts in a block, numbered from 1."""
  return block([(str(i), text) for i, text in enumerate(texts, 1)])


def sentence_rows(sentence: Sentence, vocabulary: Vocabulary) -> list[tuple[str, str]]:
  """Rows that show a sentence as given and as the model sees it."""
  seen = vocabulary.decode(sentence.ids)
  rows = [("seen", seen)]
  if sentence.text != seen:
    rows.insert(0, ("given", sentence.text))
  if sentence.is_lowered:
    rows.append(("", "in small letters, as is the vocabulary"))
  if sentence.unknown:
    rows.append(("unknown", f"{', '.join(sentence.unknown)}; each is _UNK to the model"))
  return rows


def bound_rows(posteriors: Posteriors, row: int, tokens: int) -> list[tuple[str, str]]:
  """Rows with the bounds of one document at λ_0 and λ_K, in nats, from one noise draw, and its KL."""
  last = len(posteriors.bounds) - 1
  stages = [(last, posteriors.kl[row])]
  if posteriors.kl_initial is not None and last:
    stages.insert(0, (0, posteriors.kl_initial[row]))
  rows = []
  for k, kl in stages:
    bound = float(posteriors.bounds[k, row])
    perplexity = np.exp(bound / tokens)
    rows.append(
      (
        f"at λ_{k}",
        f"bound on −log p(x) {bound:.2f} nats (perplexity {perplexity:.1f} of {tokens} tokens), KL {kl:.2f}",
      )
    )
  return rows


def version_rows(versions: Versions) -> list[tuple[str, str]]:
  """Rows with the documents decoded from one z."""
  beams = [
    (f"beam {i}", f"{text or '(no words)'}  [{score:.2f}]")
    for i, (text, score) in enumerate(versions.beams, 1)
  ]
  return [("greedy", versions.greedy), ("sampled", versions.sampled), *beams]


def new_file(directory: Path, ending: str) -> Path:
  """Makes the empty file `directory/<n>.<ending>`, where n is larger than that of all existing files.

  Raises:
    UserError: the file cannot be made.
  """
  try:
    directory.mkdir(exist_ok=True)
    while True:
      taken = [int(path.stem) for path in directory.iterdir() if path.stem.isdecimal()]
      path = directory / f"{max(taken, default=0) + 1}.{ending}"
      with contextlib.suppress(FileExistsError):  # another process was faster
        path.touch(exist_ok=False)
        return path
  except OSError as error:
    raise UserError(f"cannot write in {directory}: {error.strerror or error}; make it writable") from error


def fill(path: Path, content: bytes) -> None:
  """Writes `content` to a file that `new_file` made.

  Raises:
    UserError: the file cannot be written, for example because the disk is full. It is then removed.
  """
  try:
    path.write_bytes(content)
  except OSError as error:
    path.unlink(missing_ok=True)
    raise UserError(f"cannot write {path}: {error.strerror or error}; make room") from error
