"""The command line of train.py: absl flags made from the fields of `RunConfig`."""

from __future__ import annotations

import dataclasses
import difflib
import os
import textwrap
from collections.abc import Sequence
from typing import Any

from absl import flags

from tf_savae.errors import UserError
from tf_savae.runs import presets
from tf_savae.runs.config import RunConfig, show
from tf_savae.runs.directory import RunDirectory
from tf_savae.runs.names import DATASETS, PRESETS
from tf_savae.runs.options import Rule, one_of

_HELP_NAMES = ("help", "helpshort", "helpfull")


class HelpWanted(Exception):
  """`--help` was given; the text is what to print."""


class _RuleParser(flags.ArgumentParser):
  """absl's parser and validator for a `Rule`."""

  def __init__(self, rule: Rule):
    self.syntactic_help = rule.expected
    self._rule = rule

  def parse(self, argument: str) -> Any:
    try:
      value = self._rule.parse(argument)
    except ValueError:
      value = None
    if value is None or not self._rule.accepts(value):
      raise ValueError(f"must be {self._rule.expected}")
    return value


def parse(argv: Sequence[str]) -> dict[str, Any]:
  """The settings that a command line gives, by name; what it does not mention is absent.

  Args:
    argv: the program's name and its arguments, as in sys.argv. `--flagfile=FILE` is understood.

  Raises:
    UserError: one line that names the flag, what was received and what it must be.
    HelpWanted: `--help` is among them.
  """
  values = _define()
  try:
    rest = values(list(argv))[1:]
  except (flags.Error, OSError, UnicodeError) as error:
    raise UserError(_one_line(error)) from None
  if any(values[name].value for name in _HELP_NAMES):
    raise HelpWanted(help_text())
  if rest:
    raise UserError(f"unexpected argument {rest[0]!r}: settings are given as --name=value; see --help")
  given = {name: values[name] for name in _rules()}
  return {name: flag.value for name, flag in given.items() if flag.present}


def build_config(given: dict[str, Any]) -> tuple[RunConfig, str]:
  """The configuration for the settings given: they override the preset's values.

  With `eval_only`, what is not given is taken from the run in the run directory, so that
  `--eval_only --run_dir=DIR` is enough.

  Returns:
    The configuration, and the line to print first: preset, why this one, and run directory.

  Raises:
    UserError: settings that do not fit each other, or a run directory that cannot be understood.
  """
  preset, why = given.get("preset", "auto"), "as asked for"
  stored = _config_of(given["run_dir"]) if "run_dir" in given else None
  if preset == "auto":
    preset, why = (stored.preset, "that of the run found there") if stored else presets.choose("auto")
  asked = {**given, "preset": preset}
  if given.get("eval_only"):
    run_dir = given.get("run_dir")
    if stored is None:  # the settings name the directory, or there is no run
      asked.pop("eval_file", None)
      config = presets.make_config(**asked)
      run_dir, stored = config.run_dir, _config_of(config.run_dir)
    if stored is not None:
      own = {name: value for name, value in given.items() if value != "auto"}
      config = RunConfig.from_dict({**stored.to_dict(), **own, "run_dir": run_dir})
  else:
    config = presets.make_config(**asked)
  task = "evaluate" if config.eval_only else "train"
  line = f"{task} {config.model} on {config.dataset}, K = {config.k}, preset {config.preset} ({why})"
  return config, f"{line}; run directory {config.run_dir}"


def help_text(width: int = 100) -> str:
  """What `--help` prints: every flag with its values, unit and default, in groups."""
  lines = [
    "usage: python train.py [--name=value ...]",
    "",
    "Trains a variational autoencoder whose posterior is refined by K gradient steps. The same command",
    "goes on with an interrupted run. A setting that is not given takes its preset's value.",
  ]
  groups: dict[str, list[dataclasses.Field]] = {}
  for field in dataclasses.fields(RunConfig):
    groups.setdefault(field.metadata["group"], []).append(field)
  for group, fields in groups.items():
    lines += ["", f"{group}:"]
    for field in fields:
      rule = _rules()[field.name]
      name = f"--[no]{field.name}" if rule.is_switch else f"--{field.name}"
      values = "" if rule.is_switch else f" {rule.expected[0].upper()}{rule.expected[1:]}."
      text = f"{field.metadata['help']}.{values}{_default_text(field)}"
      lines.append(f"  {name}")
      lines += textwrap.wrap(text, width, initial_indent="      ", subsequent_indent="      ")
  lines += [
    "",
    "Flags of absl:",
    "  --flagfile",
    "      a file with one flag a line",
    "  --help",
    "      this text",
  ]
  return "\n".join(lines)


def _config_of(run_dir: str) -> RunConfig | None:
  return RunDirectory(os.path.expanduser(run_dir)).read_config()


def _rules() -> dict[str, Rule]:
  rules = {field.name: field.metadata["rule"] for field in dataclasses.fields(RunConfig)}
  return rules | {"preset": one_of(*presets.NAMES)}  # a run has a preset; only the command line has `auto`


def _define() -> flags.FlagValues:
  """Fresh flags, all without a value: absent must differ from default, which depends on the preset."""
  values = flags.FlagValues()
  texts = {field.name: field.metadata["help"] for field in dataclasses.fields(RunConfig)}
  for name, rule in _rules().items():
    parser, serializer = _RuleParser(rule), flags.ArgumentSerializer()
    flag = flags.Flag(parser, serializer, name, None, texts[name], boolean=rule.is_switch)
    flags.DEFINE_flag(flag, flag_values=values)
  for name in _HELP_NAMES:
    flags.DEFINE_boolean(name, False, "show all flags", flag_values=values)
  return values


def _default_text(field: dataclasses.Field) -> str:
  """The default of a flag, for each preset and data set where they differ."""
  if field.name == "preset":
    return " Default: auto, which is paper when a GPU is visible, else small."
  if field.default is None:
    return ""
  rows = {
    dataset: [presets.values(dataset, preset).get(field.name, field.default) for preset in PRESETS]
    for dataset in DATASETS
    if dataset in field.metadata["only"]
  }
  if len({str(value) for row in rows.values() for value in row}) == 1:
    return f" Default: {_show(next(iter(rows.values()))[0])}."
  alike: dict[str, list[str]] = {}  # data sets by their defaults
  for dataset, row in rows.items():
    same = all(value == row[0] for value in row)
    named = zip(PRESETS, row, strict=True)
    text = _show(row[0]) if same else ", ".join(f"{name} {_show(value)}" for name, value in named)
    alike.setdefault(text, []).append(dataset)
  texts = [f"{' and '.join(datasets)} {text}" for text, datasets in alike.items()]
  return f" Default: {'; '.join(texts)}."


def _show(value: Any) -> str:
  return str(value).lower() if isinstance(value, bool) else show(value)


def _one_line(error: Exception) -> str:
  if isinstance(error, flags.UnrecognizedFlagError):
    close = difflib.get_close_matches(error.flagname, _rules(), n=1)
    hint = f"did you mean --{close[0]}? " if close else ""
    return f"unknown flag --{error.flagname}; {hint}--help lists them all"
  return " ".join(str(error).split()).removeprefix("flag ").removeprefix("ERROR:: ")
