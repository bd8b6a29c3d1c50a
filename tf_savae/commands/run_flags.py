"""The settings shared by all commands that work on a finished run."""

from __future__ import annotations

import dataclasses
from typing import Any

from tf_savae.commands.flags import Flag, Given, of_fields
from tf_savae.runs.config import RunConfig
from tf_savae.runs.options import OnResume, one_of, optional, path, whole


def step_flags() -> list[Flag]:
  """The settings of SVI steps that may differ from those in training; None, the default, is the run's."""
  names = [f.name for f in dataclasses.fields(RunConfig) if f.metadata["on_resume"] is OnResume.EVALUATION]
  return [
    dataclasses.replace(
      flag, default=None, rule=optional(flag.rule), group="SVI steps", shown_default="as in training"
    )
    for flag in of_fields(RunConfig, names)
  ]


def changed_steps(given: Given) -> dict[str, Any]:
  """Those of `step_flags` that a command line has."""
  return {flag.name: given.typed[flag.name] for flag in step_flags() if flag.name in given.typed}


def run_flags(num: int, batch_size: int = 50) -> list[Flag]:
  """`--run_dir`, `--split`, `--num`, `--batch_size` and `--data_dir`.

  Args:
    num: the default of `--num`.
    batch_size: the default of `--batch_size`.
  """
  return [
    Flag("run_dir", None, path(), "the directory of a trained run", is_needed=True),
    Flag("split", "test", one_of("train", "valid", "test"), "which examples"),
    Flag("num", num, whole(1), "how many of them, from the first on"),
    Flag("batch_size", batch_size, whole(1), "examples at a time"),
    Flag(
      "data_dir", None, optional(path()), "where the data are", shown_default="where they were in training"
    ),
  ]
