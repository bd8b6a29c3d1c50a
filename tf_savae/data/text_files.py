"""Which files of a folder hold the splits of a corpus, and how one file is divided when others are missing."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tf_savae.data import text_lines
from tf_savae.data.dataset import FIXED_SEED, SPLITS
from tf_savae.errors import UserError
from tf_savae.seeds import Purpose, stateless_seed

_STEMS = {"train": ("train",), "valid": ("val", "valid", "dev"), "test": ("test",)}
_SUFFIXES = (".txt", ".txt.gz")
EXPECTED = "train.txt, val.txt, test.txt (or .txt.gz; one of them is enough), one document per line"


@dataclasses.dataclass(frozen=True)
class Corpus:
  """Documents of three splits in one to three files.

  Attributes:
    files: the file of each split that has its own.
    base: the split whose file is divided because other splits have no file; None if every split has one.
    labels: for each document of the base, the index of its split in `SPLITS`, uint8 `[documents of the base]`.
  """

  files: dict[str, pathlib.Path]
  base: str | None
  labels: np.ndarray | None

  def documents(self, only: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """Yields (split, words) of every document, in the order of the files.

    Args:
      only: files without documents of this split are not read.

    Raises:
      UserError: a file is unusable, or has changed since it was divided.
    """
    for split, path in self.files.items():
      if only is not None and path != self.file_of(only):
        continue
      if split == self.base:
        yield from self._divided(path)
      else:
        yield from ((split, words) for words in text_lines.documents(path))

  def _divided(self, path: pathlib.Path) -> Iterator[tuple[str, list[str]]]:
    number = 0
    for words in text_lines.documents(path):
      if number < len(self.labels):
        yield SPLITS[self.labels[number]], words
      number += 1
    if number != len(self.labels):
      raise UserError(
        f"{path} changed while it was read: it had {len(self.labels)} documents and now has {number}; start again"
      )

  def file_of(self, split: str) -> pathlib.Path:
    """The file that the documents of `split` come from."""
    return self.files.get(split) or self.files[self.base]

  def describe(self) -> str:
    """A few words that say which file gives which split."""
    names = ", ".join(path.name for path in self.files.values())
    if self.base is None:
      return names
    *parts, last = _parts(self.files, self.base)
    shares = "80/10/10" if len(parts) == 2 else "90/10"
    divided = (
      f"{self.files[self.base].name} divided {shares} into {', '.join(parts)} and {last} by a fixed seed"
    )
    return divided if len(self.files) == 1 else f"{names}; {divided}"


def find(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """The file of each split that has one in `folder`; empty if the folder does not exist.

  Raises:
    UserError: the folder cannot be read, or has two files for one split.
  """
  try:
    names = set(os.listdir(folder))
  except FileNotFoundError:
    return {}
  except OSError as error:
    raise UserError(f"data directory {folder} cannot be read: {error.strerror}") from error
  files = {}
  for split, stems in _STEMS.items():
    found = [stem + suffix for stem in stems for suffix in _SUFFIXES if stem + suffix in names]
    if len(found) > 1:
      raise UserError(f"{folder} has two files of {split} documents: {' and '.join(found)}; remove one")
    if found:
      files[split] = folder / found[0]
  return files


def divide(files: dict[str, pathlib.Path]) -> Corpus:
  """The corpus in `files`, after dividing one of them if a split has none.

  The first of train, valid and test that has a file is the base. Each split without a file gets a tenth of the base's
  documents, at least one, and train gets the rest. The division depends only on the number of documents.

  Args:
    files: the files of one or more splits.

  Raises:
    UserError: the base is unusable, or has too few documents.
  """
  if len(files) == len(SPLITS):
    return Corpus(files, None, None)
  base = next(split for split in SPLITS if split in files)
  parts = _parts(files, base)
  n = text_lines.count(files[base])
  if n == 0:
    raise UserError(f"{files[base]} is empty: it has no documents; put one document on each line")
  if n < len(parts):
    raise UserError(
      f"{files[base]}: at least {len(parts)} documents are needed to divide it into {', '.join(parts)}. "
      f"Received: {n}"
    )
  tenth = max(1, n // 10)
  sizes = [n - tenth * (len(parts) - 1)] + [tenth] * (len(parts) - 1)
  labels = np.empty(n, np.uint8)
  labels[_shuffled(n)] = np.repeat([SPLITS.index(part) for part in parts], sizes)
  return Corpus(files, base, labels)


def _parts(files: dict[str, pathlib.Path], base: str) -> list[str]:
  """The splits that the file of `base` is divided into."""
  return [split for split in SPLITS if split == base or split not in files]


def _shuffled(n: int) -> np.ndarray:
  seed = stateless_seed(FIXED_SEED, 0, Purpose.SPLIT)
  with tf.device("CPU:0"):
    return tf.random.experimental.stateless_shuffle(tf.range(n), seed).numpy()
