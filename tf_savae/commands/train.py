"""Trains a model: `python train.py --dataset=omniglot --k=20`, or `python -m tf_savae train`.

The flags are made from the fields of `RunConfig`.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import Any

from absl import logging

from tf_savae import startup
from tf_savae.commands.flags import Command, Flag, Given, of_fields, show_default
from tf_savae.data.sources import DATASETS
from tf_savae.errors import UserError
from tf_savae.runs import presets
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory, no_run
from tf_savae.runs.options import concerns, one_of
from tf_savae.runs.settings import PRESETS


def build_config(typed: dict[str, Any]) -> tuple[RunConfig, str]:
  """The configuration for the settings that a command line mentions, which override the preset's values.

  With `eval_only`, all other settings are taken from the run in the run directory, so that `--eval_only --run_dir=DIR`
  is enough.

  Returns:
    The configuration, and the line to print first: the preset, the reason for it, and the run directory.

  Raises:
    UserError: settings do not fit together, or the run directory is unusable.
  """
  preset, why = typed.get("preset", "auto"), "as asked for"
  stored = _config_of(typed["run_dir"]) if "run_dir" in typed else None
  if preset == "auto":
    preset, why = (stored.preset, "the run's") if stored else presets.choose("auto")
  asked = {**typed, "preset": preset}
  if stored is not None:
    asked.setdefault("plugin", stored.plugin)
  if typed.get("eval_only"):
    run_dir = typed.get("run_dir")
    if stored is None:  # either the settings determine the directory, or there is no run
      asked.pop("eval_file", None)
      config = presets.make_config(**asked)
      run_dir, stored = config.run_dir, _config_of(config.run_dir)
    if stored is None:
      raise UserError(no_run(run_dir))
    own = {name: value for name, value in typed.items() if value != "auto"}
    config = RunConfig.from_dict({**stored.to_dict(), **own, "run_dir": run_dir})
  else:
    config = presets.make_config(**asked)
  task = "evaluate" if config.eval_only else "train"
  line = f"{task} {config.model} on {config.dataset}, K = {config.k}, preset {config.preset} ({why})"
  return config, f"{line}; run directory {config.run_dir}"


def flags() -> list[Flag]:
  """A flag for every setting of a run."""
  fields = dataclasses.fields(RunConfig)
  made = [
    dataclasses.replace(flag, shown_default=_default_text(field))
    for flag, field in zip(of_fields(RunConfig), fields, strict=True)
  ]
  # A run has a definite preset; `auto` exists only on the command line.
  rules = {"preset": one_of(*presets.NAMES)}
  return [dataclasses.replace(flag, rule=rules.get(flag.name, flag.rule)) for flag in made]


def work(given: Given) -> None:
  """Trains or evaluates as the command line says. Raises UserError, or KeyboardInterrupt with a message."""
  try:
    startup.import_tensorflow()
    config, first_line = build_config(given.typed)
    print(first_line, flush=True)
    if why := startup.missing_gpu():
      print(f"warning: {why}", file=sys.stderr)
    from tf_savae import training
    from tf_savae.runs.unused import unused

    for name, by in unused(config, given.typed).items():
      logging.warning("--%s is not used by %s", name, by)
    training.run(config)
  except KeyboardInterrupt as stop:
    if not stop.args:
      stop.args = ("the same command resumes the run",)
    raise


def _config_of(run_dir: str) -> RunConfig | None:
  return RunDirectory(os.path.expanduser(run_dir)).read_config()


def _default_text(field: dataclasses.Field) -> str:
  """The default of a setting, for each preset and data set where they differ."""
  if field.name == "preset":
    return "auto, which is paper when a GPU is visible, else small"
  if field.default is None:
    return ""
  if field.default == ():
    return "none"
  rows = {
    dataset: [presets.values(dataset, preset).get(field.name, field.default) for preset in PRESETS]
    for dataset in DATASETS
    if concerns(field, DATASETS.get(dataset).kind)
  }
  if len({str(value) for row in rows.values() for value in row}) == 1:
    return show_default(next(iter(rows.values()))[0])
  alike: dict[str, list[str]] = {}  # data sets by their defaults
  for dataset, row in rows.items():
    same = all(value == row[0] for value in row)
    named = zip(PRESETS, row, strict=True)
    text = show_default(row[0]) if same else ", ".join(f"{show_default(v)} ({name})" for name, v in named)
    alike.setdefault(text, []).append(dataset)
  if len(alike) == 1:
    return next(iter(alike))
  return "; ".join(f"{_together(datasets, list(rows))}: {text}" for text, datasets in alike.items())


def _together(datasets: list[str], among: list[str]) -> str:
  """Words for data sets: "image data" instead of the names of all that are of images."""
  words = {"image": "image data", "text": "text"}
  of_kind: dict[str, list[str]] = {}
  for dataset in datasets:
    of_kind.setdefault(DATASETS.get(dataset).kind, []).append(dataset)
  names = []
  for kind, members in of_kind.items():
    is_whole = members == [dataset for dataset in among if DATASETS.get(dataset).kind == kind]
    names += [words[kind]] if is_whole and kind in words else members
  return " and ".join(names)


COMMAND = Command(
  "train",
  "Trains a variational autoencoder whose posterior is refined by K gradient steps. The same command goes on with an"
  " interrupted run. A setting that is not given takes its preset's value.",
  flags,
  work,
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
