"""`python -m tf_savae COMMAND [--name=value ...]`."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

import tf_savae
from tf_savae.commands import COMMANDS, terminal
from tf_savae.commands.flags import Command
from tf_savae.errors import exit_status

_USAGE = """usage: python -m tf_savae COMMAND [--name=value ...], or tf-savae COMMAND where it was installed by pip

Semi-amortized variational autoencoders. python -m tf_savae COMMAND --help lists the settings of a command.
"""


def command(name: str) -> Command:
  """The command of that name, one of `COMMANDS`."""
  return importlib.import_module(f"tf_savae.commands.{name}").COMMAND


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command that a command line names first; returns the exit status, 2 for a wrong name.

  Args:
    argv: the program's name and its arguments; default: those of this process.
  """
  terminal.transliterate()
  _, *words = sys.argv if argv is None else argv
  first = words[0] if words else ""
  if first in COMMANDS:
    return command(first).main(words)
  if first.lstrip("-") in ("h", "help", "helpshort", "helpfull"):
    return exit_status(_print_help)
  if first == "--version":
    return exit_status(lambda: print(f"tf_savae {tf_savae.__version__}"))
  close = difflib.get_close_matches(first, COMMANDS, n=1)
  hint = f"did you mean {close[0]}? " if close else ""
  print(
    f"error: a command must come first; received {first or 'none'}; {hint}one of {', '.join(COMMANDS)}",
    file=sys.stderr,
  )
  return 2


def _print_help() -> None:
  print(_USAGE)
  print("\n".join(f"  {name:16}{command(name).about.partition('. ')[0].rstrip('.')}" for name in COMMANDS))


if __name__ == "__main__":
  sys.exit(main())
