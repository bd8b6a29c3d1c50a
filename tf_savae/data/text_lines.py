"""Reads documents from a text file, one per line, and holds only one line in memory at a time."""

from __future__ import annotations

import gzip
import pathlib
import zlib
from collections.abc import Iterator

from tf_savae.errors import UserError, reason

# Far longer than any document a model is trained on. Otherwise a file without line breaks would be read whole.
MAX_LINE_BYTES = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def documents(path: pathlib.Path) -> Iterator[list[str]]:
  """Yields the words of each document of `path`, in the order of the file.

  Words are separated by white space of any kind. Lines without words are skipped.

  Args:
    path: a text file, compressed by gzip if its name ends in ".gz".

  Raises:
    UserError: the file cannot be read, is damaged, is not UTF-8, or has a line beyond `MAX_LINE_BYTES`.
  """
  return (text.split() for text in _texts(path))


def count(path: pathlib.Path) -> int:
  """Number of documents in `path`.

  Raises:
    UserError: as `documents`.
  """
  return sum(1 for _ in _texts(path))


def _texts(path: pathlib.Path) -> Iterator[str]:
  """Yields the lines of `path` that contain words."""
  for number, line in _lines(path):
    try:
      text = line.decode("utf-8")
    except UnicodeDecodeError as error:
      raise UserError(
        f"{path} is not UTF-8: line {number} has byte 0x{line[error.start]:02x} at position {error.start + 1}; "
        f"convert it (iconv -t UTF-8), or remove that line"
      ) from error
    if text and not text.isspace():
      yield text


def _lines(path: pathlib.Path) -> Iterator[tuple[int, bytes]]:
  """Yields (line number from 1, line) for each line of `path`."""
  compressed = path.name.endswith(".gz")
  try:
    with gzip.open(path, "rb") if compressed else open(path, "rb") as file:
      number = 0
      while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
          raise UserError(
            f"{path}: line {number} is longer than {MAX_LINE_BYTES:,} bytes; "
            f"put one document on each line, its words separated by spaces"
          )
        yield number, line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
  # gzip raises EOFError for missing data, and zlib.error or a kind of OSError for wrong data.
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise UserError(f"{path} is damaged, or not a gzip file: {reason(error)}; replace it") from error
  except OSError as error:
    raise UserError(f"{path} cannot be read: {reason(error)}") from error
