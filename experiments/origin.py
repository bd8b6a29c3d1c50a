"""Where a table's results come from if its own command did not make them: `origin.json` in the table's directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tf_savae.atomic_files import read_json
from tf_savae.errors import UserError

FILE = "origin.json"


@dataclasses.dataclass(frozen=True)
class Origin:
  """How results were made that another program wrote.

  Attributes:
    title: heading of the page.
    made: Markdown in place of the sentence that names the command.
    trained: Markdown in place of the sentence on processor time.
    columns: heading of a column of the page → name of the number in each result, whose mean over the seeds it shows.
      They stand in place of the column of milliseconds.
  """

  title: str
  made: str
  trained: str
  columns: Mapping[str, str] = dataclasses.field(default_factory=dict)


def read(out: Path) -> Origin | None:
  """What the directory of a table says about its results; None: its command made them.

  Raises:
    UserError: the file has other names than those of `Origin`.
  """
  found: Any = read_json(out / FILE)
  if found is None:
    return None
  try:
    return Origin(**found)
  except TypeError as error:
    raise UserError(f"{out / FILE} does not say how its results were made: {error}") from error


def check_not_trained(out: Path, jobs: int) -> None:
  """Raises UserError if a command would add its own trainings to results of another program.

  Args:
    out: directory of the table.
    jobs: processes of the command; 0: it trains nothing.
  """
  if jobs and read(out) is not None:
    raise UserError(
      f"the results in {out} were not made by this command ({FILE} says how); --jobs=0 writes their page anew, for"
      " new trainings use another --out"
    )
