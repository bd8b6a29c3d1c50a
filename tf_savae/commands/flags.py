"""The flag layer of all commands: a command is a declaration of its settings, and a function.

    COMMAND = Command("count", "Counts the examples of a run.", _flags, _work)
    status = COMMAND.main(["count", "--run_dir=runs/mine"])

absl splits the command line into names and texts and reads `--flagfile`. A `Rule` turns each text into a value.
Nothing here imports TensorFlow, so `--help` and messages about wrong flags appear at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import logging
import os
import signal
import sys
import textwrap
import types
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags as absl_flags
from absl import logging as absl_logging
from absl.logging import converter

import tf_savae
from tf_savae.commands import plugin_flag
from tf_savae.commands.terminal import transliterate
from tf_savae.errors import UserError, exit_status
from tf_savae.runs.config import show
from tf_savae.runs.options import Rule, optional, paths, switch, whole

_WIDTH = 100
_HELP_NAMES = ("h", "help", "helpshort", "helpfull")
_ABSL_NAMES = ("flagfile", "undefok")


@dataclasses.dataclass(frozen=True)
class Flag:
  """A setting of a command.

  Attributes:
    name: its name without dashes.
    default: its value if the command line does not mention it.
    rule: the values that it accepts.
    help: its description in `--help`, without a full stop.
    group: its heading in `--help`.
    is_needed: whether the command line must mention it.
    is_repeated: whether `--name` may be given several times. Each text is parsed to a tuple, and all are joined.
    shown_default: what `--help` shows instead of the default itself.
  """

  name: str
  default: Any
  rule: Rule
  help: str
  group: str = "Settings"
  is_needed: bool = False
  is_repeated: bool = False
  shown_default: str | None = None


class Given(types.SimpleNamespace):
  """The contents of a command line: the value or the default of each flag, under the flag's name.

  Attributes:
    typed: the values of the flags that the command line mentions, by name.
    arguments: the arguments that are not flags, in order.
  """

  typed: dict[str, Any]
  arguments: tuple[str, ...]

  @property
  def settings(self) -> dict[str, Any]:
    """The values of all flags, by name."""
    return {name: value for name, value in vars(self).items() if name not in ("typed", "arguments")}


# Every command has these, unless it has a flag of the same name.
_COMMON = (
  Flag(
    "plugin",
    (),
    paths(),
    "Python files of your own to import first, where a run's are not at their places",
    is_repeated=True,
  ),
  Flag(
    "verbosity",
    None,
    optional(whole(-3, 3)),
    "how much TensorFlow and absl log: 1 debugging, 0 information, -1 warnings, -2 errors",
  ),
  Flag("version", False, switch(), "print the version"),
  Flag("helpxml", False, switch(), "print all flags as XML"),
  *(Flag(name, False, switch(), "this text") for name in _HELP_NAMES),
)
_COMMON_HELP = (
  ("--flagfile", "a file with one flag per line"),
  ("--plugin", f"{_COMMON[0].help}; repeated, or separated by commas."),
  ("--verbosity", f"{_COMMON[1].help}."),
  ("--version, --helpxml", "print the version, or all flags as XML"),
  ("-h, --help", "this text"),
)


@dataclasses.dataclass(frozen=True)
class Command:
  """A command: its name, its settings, and the function that does its work.

  Attributes:
    name: its name in `python -m tf_savae NAME`.
    about: its description for `--help`; paragraphs are separated by empty lines.
    flags: a function that makes its flags.
    work: the function that does the work with the result of `prepare`. Its UserErrors are printed as one line, with
      status 1.
    prepare: turns the command line into the argument of `work`. Its UserErrors are printed as one line, with status 2.
    usage: what follows the program in the first line of `--help`.
    takes_arguments: whether arguments that are not flags are allowed.
    program: the program as the user calls it; default: derived from `name`.
  """

  name: str
  about: str
  flags: Callable[[], Sequence[Flag]]
  work: Callable[[Any], None]
  prepare: Callable[[Given], Any] = lambda given: given
  usage: str = "[--name=value ...]"
  takes_arguments: bool = False
  program: str = ""

  def main(self, argv: Sequence[str] | None = None) -> int:
    """Runs a command line; errors that a user causes show no traceback.

    Args:
      argv: the program's name and its arguments; default: those of this process.

    Returns:
      The exit status: 0, or 1 (the work failed), 2 (wrong flags), 130 (Ctrl-C) or 143 (SIGTERM) with one line on
      stderr.
    """
    transliterate()
    try:
      act = self._act(sys.argv if argv is None else argv)
    except UserError as error:
      print(f"error: {error}", file=sys.stderr)
      return 2
    except KeyboardInterrupt:  # while a plug-in is imported
      print("interrupted", file=sys.stderr)
      return 128 + signal.SIGINT
    return exit_status(act)

  def parse(self, argv: Sequence[str]) -> Given:
    """The values on a command line, whose first word is the program's name.

    Raises:
      UserError: one line that names the flag, what was received and what it must be.
    """
    plugin_flag.import_named(argv)
    own = self.flags()
    return self._given(own, *_split([*own, *_common(own)], argv))

  def help_text(self) -> str:
    """What `--help` prints: every flag with its values and default, in groups."""
    paragraphs = [textwrap.fill(" ".join(part.split()), _WIDTH) for part in self.about.split("\n\n")]
    lines = [f"usage: {self.program or f'python -m tf_savae {self.name}'} {self.usage}"]
    lines += [line for paragraph in paragraphs for line in ("", paragraph)]
    groups: dict[str, list[Flag]] = {}
    for flag in self.flags():
      groups.setdefault(flag.group, []).append(flag)
    for group, members in groups.items():
      lines += ["", f"{group}:"]
      lines += [line for flag in members for line in _entry(_written(flag), _describe(flag))]
    lines += ["", "Every command:"]
    return "\n".join(lines + [line for entry in _COMMON_HELP for line in _entry(*entry)])

  def _act(self, argv: Sequence[str]) -> Callable[[], None]:
    """The function that does what a command line asks for; it takes no arguments."""
    plugin_flag.import_named(argv)
    own = self.flags()
    common = _common(own)
    values, rest = _split([*own, *common], argv)
    asked = {flag.name: _value(flag, values[flag.name]) for flag in common}
    if any(asked[name] for name in _HELP_NAMES):
      return lambda: print(self.help_text())
    if asked.get("version"):
      return lambda: print(f"tf_savae {tf_savae.__version__}")
    if asked["helpxml"]:
      return functools.partial(values.write_help_in_xml_format, sys.stdout)
    prepared = self.prepare(self._given(own, values, rest))
    if asked["verbosity"] is not None:
      _set_verbosity(asked["verbosity"])
    return lambda: self.work(prepared)

  def _given(self, own: Sequence[Flag], values: absl_flags.FlagValues, rest: Sequence[str]) -> Given:
    if rest and not self.takes_arguments:
      raise UserError(f"unexpected argument {rest[0]!r}: settings are given as --name=value; see --help")
    found = {flag.name: _value(flag, values[flag.name]) for flag in own}
    typed = {name: value for name, value in found.items() if values[name].present}
    for flag in own:
      if flag.is_needed and flag.name not in typed:
        raise UserError(f"--{flag.name} is needed: {flag.help}; received none")
    return Given(**found, typed=typed, arguments=tuple(rest))


def of_fields(cls: type, names: Sequence[str] | None = None) -> list[Flag]:
  """The flags of a dataclass whose fields have a `rule`, a `help` and optionally a `group` as metadata.

  Args:
    cls: the dataclass.
    names: names of the fields to use; default: all.
  """
  fields = [field for field in dataclasses.fields(cls) if names is None or field.name in names]
  texts = ("rule", "help", "group", "is_needed", "is_repeated", "shown_default")
  return [
    Flag(
      field.name, field.default, **{name: field.metadata[name] for name in texts if name in field.metadata}
    )
    for field in fields
  ]


def _common(own: Sequence[Flag]) -> list[Flag]:
  """The flags that every command has, except those whose names the command uses itself."""
  return [flag for flag in _COMMON if flag.name not in {other.name for other in own}]


def _split(flags: Sequence[Flag], argv: Sequence[str]) -> tuple[absl_flags.FlagValues, list[str]]:
  """absl's part: which texts belong to which flag, including those in `--flagfile`, and which to none."""
  values = absl_flags.FlagValues()
  values.set_gnu_getopt()  # a flag may follow an argument
  for flag in flags:
    texts = absl_flags.ArgumentParser(), absl_flags.ArgumentSerializer()
    if flag.is_repeated:
      made = absl_flags.MultiFlag(*texts, flag.name, None, flag.help)
    else:
      made = absl_flags.Flag(*texts, flag.name, None, flag.help, boolean=flag.rule.is_switch)
    absl_flags.DEFINE_flag(made, flag_values=values)
  try:
    return values, values(list(argv))[1:]
  except (absl_flags.Error, OSError, ValueError) as error:
    raise UserError(_one_line(error, flags)) from None


def _value(flag: Flag, found: absl_flags.Flag) -> Any:
  """The value that a flag was given, or its default."""
  if not found.present:
    return flag.default
  texts = found.value
  try:
    value = sum(map(flag.rule.parse, texts), ()) if flag.is_repeated else flag.rule.parse(texts)
  except ValueError:
    value = None
  if value is None or not flag.rule.accepts(value):
    received = " ".join(show(texts).split())
    raise UserError(f"--{flag.name} must be {flag.rule.expected}; received {received or repr(texts)}")
  return value


def _one_line(error: Exception, flags: Sequence[Flag]) -> str:
  if isinstance(error, absl_flags.UnrecognizedFlagError):
    switches = [f"no{flag.name}" for flag in flags if flag.rule.is_switch and flag.name not in _HELP_NAMES]
    names = [flag.name for flag in flags] + switches
    close = difflib.get_close_matches(error.flagname, [*names, *_ABSL_NAMES], n=1)
    hint = f"did you mean --{close[0]}? " if close else ""
    return f"unknown flag --{error.flagname}; {hint}--help lists them all"
  return " ".join(str(error).split()).removeprefix("flag ").removeprefix("ERROR:: ")


def _written(flag: Flag) -> str:
  return f"--[no]{flag.name}" if flag.rule.is_switch else f"--{flag.name}"


def _describe(flag: Flag) -> str:
  """A flag's help, the values it takes and its default."""
  values = "" if flag.rule.is_switch else f" {flag.rule.expected[0].upper()}{flag.rule.expected[1:]}."
  shown = flag.shown_default
  if shown is None:
    shown = "" if flag.default in (None, ()) else show_default(flag.default)
  end = " Needed." if flag.is_needed else f" Default: {shown}." if shown else ""
  return f"{flag.help}.{values}{end}"


def show_default(value: Any) -> str:
  """A default as a user would type it."""
  return str(value).lower() if isinstance(value, bool) else show(value)


def _entry(name: str, text: str) -> list[str]:
  return [f"  {name}", *textwrap.wrap(text, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)]


def _set_verbosity(level: int) -> None:
  """Applies `--verbosity` to the logs of absl, which Keras uses, and of TensorFlow, which need not be imported."""
  absl_logging.set_verbosity(level)
  logging.getLogger("tensorflow").setLevel(converter.absl_to_standard(level))
  os.environ["TF_CPP_MIN_LOG_LEVEL"] = str(min(max(-level, 0), 3))
