"""Documents in a column of a .csv or .tsv file."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Iterator

from tf_savae.data import text_lines
from tf_savae.errors import UserError, reason

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")

csv.field_size_limit(text_lines.MAX_LINE_BYTES)


def is_table(path: pathlib.Path) -> bool:
  """Whether a file has columns, by its name."""
  return path.name.lower().endswith(SUFFIXES)


def numbered(path: pathlib.Path, column: str) -> Iterator[tuple[int, str]]:
  """Yields the documents in a column, each with the line on which it ends, from 1; those without words are skipped.

  Fields of a .csv are quoted as in RFC 4180, and may have line breaks. Quotation marks in a .tsv are what they are.

  Args:
    path: the file, compressed by gzip if its name ends in ".gz".
    column: its name in the first line; or a number from 1, for a file whose first line is a document.

  Raises:
    UserError: as `text_lines.documents`; or the column is not there.
  """
  is_csv = ".csv" in path.name.lower()
  lines = (text for _, text in text_lines.decoded(path))
  form = {"strict": True} if is_csv else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
  reader = csv.reader(lines, **form)
  index = None
  try:
    for row in reader:
      if index is None:
        index, is_head = _index(path, row, column)
        if is_head:
          continue
      if not row:
        continue
      if len(row) <= index:
        raise UserError(
          f"{path}: line {reader.line_num} has {len(row)} columns, and --text_column={column} is number"
          f" {index + 1}; repair it"
        )
      if text_lines.has_words(row[index]):
        yield reader.line_num, row[index]
  except csv.Error as error:
    raise UserError(f"{path}: line {reader.line_num} cannot be read: {reason(error)}; repair it") from error


def _index(path: pathlib.Path, first: list[str], column: str) -> tuple[int, bool]:
  """The place of a column, from 0, and whether the first line is a heading."""
  if column.isascii() and column.isdigit():
    if not 1 <= int(column) <= len(first):
      raise UserError(f"{path} has {len(first)} columns; --text_column is one of them; received {column}")
    return int(column) - 1, False
  names = [name.strip() for name in first]
  if names.count(column) != 1:
    what = "two columns" if column in names else "no column"
    raise UserError(
      f"{path} has {what} called {column!r}; name one of {', '.join(names) or 'none'} with --text_column, or its"
      " number, from 1, if the first line is no heading"
    )
  return names.index(column), True
