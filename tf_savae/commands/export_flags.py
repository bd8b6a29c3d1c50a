"""What the command lines of `export` share: absl flags, one line for an error, an exit status. No TensorFlow here."""

from __future__ import annotations

import difflib
import signal
import sys
from collections.abc import Callable, Sequence

from absl import flags

from tf_savae.errors import UserError, exit_status

_HELP_NAMES = ("help", "helpshort", "helpfull")


def main(
  define: Callable[[flags.FlagValues], None],
  run: Callable[[flags.FlagValues, list[str]], None],
  usage: str,
  argv: Sequence[str],
) -> int:
  """Parses `argv` and runs the command; no error of the user's shows a traceback.

  Args:
    define: defines the command's flags on the values it is given.
    run: the command; gets the flags' values and the arguments that are not flags.
    usage: the first lines of `--help`.
    argv: the program's name and its arguments, as in sys.argv.

  Returns:
    The exit status: 0, 1 (a UserError of `run`), 2 (the flags), 130 (Ctrl-C).
  """
  values = flags.FlagValues()
  define(values)
  for name in _HELP_NAMES:
    flags.DEFINE_boolean(name, False, "show this text", flag_values=values)
  try:
    rest = values(list(argv))[1:]
  except (flags.Error, OSError, UnicodeError) as error:
    print(f"error: {_one_line(error, values)}", file=sys.stderr)
    return 2
  if any(values[name].value for name in _HELP_NAMES):
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--help | head` ends quietly
    print(f"{usage}\n\n{_flag_texts(values)}")
    return 0
  return exit_status(lambda: run(values, rest))


def no_arguments(rest: Sequence[str]) -> None:
  """Raises UserError if there are arguments that are not flags."""
  if rest:
    raise UserError(f"unexpected argument {rest[0]!r}: settings are given as --name=value; see --help")


def required(values: flags.FlagValues, name: str) -> str:
  """The value of a flag that must be given. Raises UserError if it is not."""
  value = values[name].value
  if not value:
    raise UserError(f"--{name} is needed: {values[name].help}")
  return value


def whole_numbers(values: flags.FlagValues, name: str) -> tuple[int, ...] | None:
  """A flag's comma-separated whole numbers, each once and 0 or more; None if it is not given."""
  text = values[name].value
  if not text:
    return None
  try:
    numbers = [int(part) for part in text]
  except ValueError:
    numbers = [-1]
  if min(numbers) < 0 or len(set(numbers)) < len(numbers):
    raise UserError(
      f"--{name} must be whole numbers, 0 or more, each once, with commas between; received {','.join(text)}"
    )
  return tuple(numbers)


def _flag_texts(values: flags.FlagValues) -> str:
  lines = []
  for name in values:
    flag = values[name]
    if name in _HELP_NAMES or name in ("flagfile", "undefok"):
      continue
    default = "" if flag.default in (None, "", []) else f" (default {flag.default_as_str.strip(chr(39))})"
    lines += [f"  --{name}", f"      {flag.help}{default}"]
  return "\n".join(lines)


def _one_line(error: Exception, values: flags.FlagValues) -> str:
  if isinstance(error, flags.UnrecognizedFlagError):
    close = difflib.get_close_matches(error.flagname, list(values), n=1)
    hint = f"did you mean --{close[0]}? " if close else ""
    return f"unknown flag --{error.flagname}; {hint}--help lists them all"
  return " ".join(str(error).split()).removeprefix("flag ").removeprefix("ERROR:: ")
