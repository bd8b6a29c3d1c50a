"""Which files of a folder hold the splits of a corpus, and how one file is divided when others are missing."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from absl import logging

from tf_savae.data import text_columns, text_lines
from tf_savae.data.dataset import FIXED_SEED, SPLITS
from tf_savae.errors import UserError
from tf_savae.seeds import Purpose, stateless_seed

_STEMS = {"train": ("train",), "valid": ("val", "valid", "dev"), "test": ("test",)}
_ALL_STEMS = frozenset(stem for stems in _STEMS.values() for stem in stems)
_SUFFIXES = (".txt", ".txt.gz")
EXPECTED = "train.txt, val.txt, test.txt (or .txt.gz; one of them is enough), one document per line"


@dataclasses.dataclass(frozen=True)
class Corpus:
  """Documents of three splits in one to three files.

  Attributes:
    files: the file of each split that has its own.
    base: the split whose file is divided because other splits have no file; None if every split has one.
    labels: for each document of the base, the index of its split in `SPLITS`, uint8 `[documents of the base]`.
    column: of the documents in .csv and .tsv files; None: a document is a line.
  """

  files: dict[str, pathlib.Path]
  base: str | None
  labels: np.ndarray | None
  column: str | None = None

  def texts(self, only: str | None = None) -> Iterator[tuple[str, str]]:
    """Yields (split, text) of every document, in the order of the files.

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
        yield from ((split, text) for text in texts(path, self.column))

  def _divided(self, path: pathlib.Path) -> Iterator[tuple[str, str]]:
    number = 0
    for text in texts(path, self.column):
      if number < len(self.labels):
        yield SPLITS[self.labels[number]], text
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


def texts(path: pathlib.Path, column: str | None = None) -> Iterator[str]:
  """Yields the documents of a file.

  Args:
    path: the file.
    column: of a .csv or .tsv file, as for `text_columns.numbered`.

  Raises:
    UserError: the file is unusable, or has columns and none was named.
  """
  return (text for _, text in numbered(path, column))


def numbered(path: pathlib.Path, column: str | None = None) -> Iterator[tuple[int, str]]:
  """`texts`, each with the line on which it ends, from 1."""
  if not text_columns.is_table(path):
    return text_lines.numbered(path)
  if column is None:
    raise UserError(f"{path} has columns; name that of the documents with --text_column")
  return text_columns.numbered(path, column)


def find(folder: pathlib.Path, column: str | None = None) -> dict[str, pathlib.Path]:
  """The file of each split that has one in `folder`; empty if the folder does not exist.

  Args:
    folder: where to look.
    column: if it is given, for .csv and .tsv files; else for .txt files.

  Raises:
    UserError: the folder cannot be read, has two files for one split, or has tables and no column is named.
  """
  try:
    names = set(os.listdir(folder))
  except FileNotFoundError:
    return {}
  except OSError as error:
    raise UserError(f"data directory {folder} cannot be read: {error.strerror}") from error
  files = {}
  suffixes = _SUFFIXES if column is None else text_columns.SUFFIXES
  for split, stems in _STEMS.items():
    found = [stem + suffix for stem in stems for suffix in suffixes if stem + suffix in names]
    if len(found) > 1:
      raise UserError(f"{folder} has two files of {split} documents: {' and '.join(found)}; remove one")
    if found:
      files[split] = folder / found[0]
  others = _SUFFIXES if column is not None else text_columns.SUFFIXES
  beside = [name for name in sorted(names) if name.split(".")[0] in _ALL_STEMS and name.endswith(others)]
  if not files and column is None and beside:
    raise UserError(f"{folder} has {beside[0]}, a table; name the column of its documents with --text_column")
  if files and beside:
    why = "--text_column names the column of a table" if column else "tables need --text_column"
    logging.warning("%s: %s not read, because %s", folder, ", ".join(beside), why)
  return files


def divide(files: dict[str, pathlib.Path], column: str | None = None) -> Corpus:
  """The corpus in `files`, after dividing one of them if a split has none.

  The first of train, valid and test that has a file is the base. Each split without a file gets a tenth of the base's
  documents, at least one, and train gets the rest. The division depends only on the number of documents.

  Args:
    files: the files of one or more splits.
    column: of the documents in .csv and .tsv files.

  Raises:
    UserError: the base is unusable, or has too few documents.
  """
  if len(files) == len(SPLITS):
    return Corpus(files, None, None, column)
  base = next(split for split in SPLITS if split in files)
  parts = _parts(files, base)
  n = sum(1 for _ in texts(files[base], column))
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
  return Corpus(files, base, labels, column)


def _parts(files: dict[str, pathlib.Path], base: str) -> list[str]:
  """The splits that the file of `base` is divided into."""
  return [split for split in SPLITS if split == base or split not in files]


def _shuffled(n: int) -> np.ndarray:
  seed = stateless_seed(FIXED_SEED, 0, Purpose.SPLIT)
  with tf.device("CPU:0"):
    return tf.random.experimental.stateless_shuffle(tf.range(n), seed).numpy()
