"""Reads documents from a text file, one per line, and holds only one line in memory at a time."""

from __future__ import annotations

import codecs
import gzip
import pathlib
import zlib
from collections.abc import Iterator

from tf_savae.errors import UserError, reason

# Far longer than any document a model is trained on. Otherwise a file without line breaks would be read whole.
MAX_LINE_BYTES = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# What DOS puts at the end of a file, and characters without width: alone on a line they are no words.
_NOTHING = "\x1a\u200b\u200c\u200d\u2060\ufeff"
_LOOKED_AT = 256  # first bytes of a file that tell its encoding


def documents(path: pathlib.Path) -> Iterator[list[str]]:
  """Yields the words of each document of `path`, in the order of the file.

  Words are separated by white space of any kind. Lines without words are skipped, and so are byte order marks at the
  start of any line.

  Args:
    path: a text file, compressed by gzip if its name ends in ".gz".

  Raises:
    UserError: the file cannot be read, is damaged, is not UTF-8, has a line beyond `MAX_LINE_BYTES`, or has no line
      ends but carriage returns.
  """
  return (text.split() for text in texts(path))


def without_mark(line: bytes) -> bytes:
  """`line` without byte order marks at its start, which files that were put together have in their middle."""
  while line.startswith(_BYTE_ORDER_MARK):
    line = line[len(_BYTE_ORDER_MARK) :]
  return line


def texts(path: pathlib.Path) -> Iterator[str]:
  """Yields the documents of `path` as they are; errors as of `documents`."""
  return (text for _, text in numbered(path))


def numbered(path: pathlib.Path) -> Iterator[tuple[int, str]]:
  """Yields the lines of `path` that contain words, each with its number, from 1; errors as of `documents`."""
  return ((number, text) for number, text in decoded(path) if has_words(text))


def has_words(text: str) -> bool:
  """Whether a text has more than white space and characters without width."""
  return bool(text.strip().strip(_NOTHING).strip())


def decoded(path: pathlib.Path) -> Iterator[tuple[int, str]]:
  """Yields all lines of `path`, each with its number, from 1; errors as of `documents`."""
  for number, line in _lines(path):
    try:
      yield number, line.decode("utf-8")
    except UnicodeDecodeError as error:
      raise UserError(
        f"{path} is not UTF-8: line {number} has byte 0x{line[error.start]:02x} at position {error.start + 1}; "
        f"convert it (iconv -t UTF-8), or remove that line"
      ) from error


def _lines(path: pathlib.Path) -> Iterator[tuple[int, bytes]]:
  """Yields (line number from 1, line) for each line of `path`."""
  compressed = path.name.endswith(".gz")
  try:
    with gzip.open(path, "rb") if compressed else open(path, "rb") as file:
      number = 0
      while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
          _check_form(path, line)
        if len(line) > MAX_LINE_BYTES:
          raise UserError(
            f"{path}: line {number} is longer than {MAX_LINE_BYTES:,} bytes; "
            f"put one document on each line, its words separated by spaces"
          )
        yield number, without_mark(line)
  # gzip raises EOFError for missing data, and zlib.error or a kind of OSError for wrong data.
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise UserError(f"{path} is damaged, or not a gzip file: {reason(error)}; replace it") from error
  except OSError as error:
    raise UserError(f"{path} cannot be read: {reason(error)}") from error


def _check_form(path: pathlib.Path, line: bytes) -> None:
  """Raises UserError if the first line of a file shows that its encoding or its line ends are others."""
  if encoding := _wide_encoding(line[:_LOOKED_AT]):
    raise UserError(f"{path} is not UTF-8 but {encoding}; convert it (iconv -f {encoding} -t UTF-8)")
  if not line.endswith(b"\n") and b"\r" in line.rstrip(b"\r"):
    raise UserError(
      f"{path} has carriage returns (CR) and no line feeds (LF): its lines cannot be told apart; convert it"
      " (tr '\\r' '\\n')"
    )


def _wide_encoding(start: bytes) -> str | None:
  """The encoding of text whose characters have two or four bytes, by its mark or by its zeros; None: it is another."""
  for encoding, mark in (("UTF-32", codecs.BOM_UTF32_LE), ("UTF-32", codecs.BOM_UTF32_BE)):
    if start.startswith(mark):
      return encoding
  if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    return "UTF-16"
  # Spaces and Latin letters have a zero as their second byte, or as their first.
  even, odd = start[::2].count(0), start[1::2].count(0)
  if 4 * max(even, odd) > len(start) and min(even, odd) == 0:
    return "UTF-16LE" if odd else "UTF-16BE"
  return None
