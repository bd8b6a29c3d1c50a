"""The settings shared by all commands that work on a finished run."""

from __future__ import annotations

from tf_savae.commands.flags import Flag
from tf_savae.runs.options import one_of, optional, path, whole


def run_flags(num: int) -> list[Flag]:
  """`--run_dir`, `--split`, `--num`, `--batch_size` and `--data_dir`.

  Args:
    num: the default of `--num`.
  """
  return [
    Flag("run_dir", None, path(), "the directory of a trained run", is_needed=True),
    Flag("split", "test", one_of("train", "valid", "test"), "which examples"),
    Flag("num", num, whole(1), "how many of them, from the first on"),
    Flag("batch_size", 50, whole(1), "examples at a time"),
    Flag(
      "data_dir", None, optional(path()), "where the data are", shown_default="where they were in training"
    ),
  ]
