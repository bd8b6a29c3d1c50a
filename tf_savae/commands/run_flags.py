"""The settings shared by all commands that work on a finished run."""

from __future__ import annotations

import dataclasses
from typing import Any

from tf_savae.commands.flags import Flag, Given, of_fields
from tf_savae.errors import UserError
from tf_savae.runs.config import RunConfig
from tf_savae.runs.options import OnResume, one_of, optional, path, switch, whole


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


def device_flags() -> list[Flag]:
  """`--strategy` and `--cpu_devices`, for commands whose devices share the examples of a batch."""
  strategy, cpu_devices = of_fields(RunConfig, ["strategy", "cpu_devices"])
  about = (
    "devices that share the examples: one, or all GPUs of this machine (mirrored); auto: mirrored where several are"
    " visible"
  )
  return [
    dataclasses.replace(strategy, rule=one_of("auto", "one", "mirrored"), help=about, group="Devices"),
    dataclasses.replace(cpu_devices, group="Devices"),
  ]


def devices_of(given: Given, run_dir: str) -> tuple[Any, dict[str, Any]]:
  """The team that the `device_flags` of a command line name for a run, and its other settings. Raises UserError."""
  from tf_savae.training import team

  names = {flag.name for flag in device_flags()}
  settings = {name: value for name, value in given.settings.items() if name not in names}
  return team.of_command(run_dir, **{name: given.settings[name] for name in names}), settings


_RUN_DIR = Flag("run_dir", None, path(), "the directory of a trained run", is_needed=True)


def run_flags(num: int, batch_size: int = 50, takes_several: bool = False) -> list[Flag]:
  """`--run_dir`, `--split`, `--num`, `--spread`, `--batch_size`, `--data_dir`; with several runs also `--out`.

  Args:
    num: the default of `--num`.
    batch_size: the default of `--batch_size`.
    takes_several: whether further runs may be given as arguments; `several_runs` has them all.
  """
  several = [
    dataclasses.replace(_RUN_DIR, help=f"{_RUN_DIR.help}; several are given as arguments", is_needed=False),
    Flag(
      "out", None, optional(path()), "several runs: where to compare them", shown_default="the first run's"
    ),
  ]
  return [
    *(several if takes_several else [_RUN_DIR]),
    Flag("split", "test", one_of("train", "valid", "test"), "which examples"),
    Flag("num", num, whole(1), "how many of them, from the first on"),
    Flag(
      "spread",
      False,
      switch(),
      "take every n-th example instead, over the whole split; documents are in the order of their lengths",
    ),
    Flag("batch_size", batch_size, whole(1), "examples at a time"),
    Flag(
      "data_dir", None, optional(path()), "where the data are", shown_default="where they were in training"
    ),
  ]


def several_runs(given: Given) -> tuple[str, ...]:
  """The directories of a command's runs: `--run_dir`, and the arguments. Raises UserError if there are none."""
  found = (*([given.run_dir] if given.run_dir else []), *given.arguments)
  if not found:
    raise UserError(f"--run_dir is needed: {_RUN_DIR.help}; received none")
  return found
