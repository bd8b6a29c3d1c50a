"""What the commands that evaluate runs share: flags, exit status. No TensorFlow."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from tf_savae import startup
from tf_savae.errors import UserError, exit_status
from tf_savae.runs.options import Rule, one_of, optional, path, whole


class Parser(argparse.ArgumentParser):
  """Flags `--name=value`, each with a rule.

  Args:
    command: the module, as in `python -m`.
    description: what it does, for `--help`.
  """

  def __init__(self, command: str, description: str):
    super().__init__(f"python -m {command}", description=description, allow_abbrev=False)

  def flag(self, name: str, default: object, rule: Rule, help_text: str) -> None:
    """Adds a flag that must keep to `rule`."""

    def value(text: str) -> object:
      try:
        parsed = rule.parse(text)
      except ValueError:
        parsed = None
      if parsed is None or not rule.accepts(parsed):
        raise argparse.ArgumentTypeError(f"must be {rule.expected}; received {text}")
      return parsed

    shown = "" if default is None else f" (default {_shown(default)})"
    self.add_argument(f"--{name}", type=value, default=default, metavar="…", help=help_text + shown)

  def error(self, message: str) -> NoReturn:
    raise UserError(message.replace("argument --", "--").replace(": must be", " must be", 1))

  def parse(self, argv: Sequence[str]) -> argparse.Namespace:
    """The values. Raises UserError, one line."""
    return self.parse_args(argv)


class Flags(Parser):
  """What commands about a finished run have: `--run_dir`, `--split`, `--num`, `--batch_size` and `--data_dir`.

  Args:
    command: the module, as in `python -m`.
    description: what it does, for `--help`.
    num: default of `--num`.
  """

  def __init__(self, command: str, description: str, num: int):
    super().__init__(command, description)
    self.flag("run_dir", None, path(), "directory of a trained run; needed")
    self.flag("split", "test", one_of("train", "valid", "test"), "which examples")
    self.flag("num", num, whole(1), "how many of them, from the first on")
    self.flag("batch_size", 50, whole(1), "examples at a time")
    self.flag("data_dir", None, optional(path()), "where the data are; default: where they were in training")

  def parse(self, argv: Sequence[str]) -> argparse.Namespace:
    """The values. Raises UserError, one line."""
    given = super().parse(argv)
    if given.run_dir is None:
      raise UserError("--run_dir is needed: the directory of a trained run; received none")
    given.run_dir = Path(os.path.expanduser(given.run_dir))
    return given


def run(
  flags: Parser,
  argv: Sequence[str],
  work: Callable[[argparse.Namespace], None],
  *,
  needs_tensorflow: bool = True,
) -> int:
  """Parses `argv`, imports TensorFlow where it is needed, and does the work; returns the exit status.

  Returns:
    0; 1 (the run), 2 (the flags), 130 (Ctrl-C), the cause being a line on stderr.
  """
  try:
    given = flags.parse(argv)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2

  def evaluate():
    if needs_tensorflow:
      startup.import_tensorflow()
    work(given)

  return exit_status(evaluate)


def _shown(value: object) -> str:
  return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
