"""`GenerateSettings`, and the command line that is made from its fields. No TensorFlow."""

from __future__ import annotations

import dataclasses
import difflib
import textwrap
from collections.abc import Sequence
from typing import Any

from absl import flags

from tf_savae.errors import UserError
from tf_savae.runs.config import show
from tf_savae.runs.options import Rule, number, one_of, optional, path, switch, whole

_HELP_NAMES = ("help", "helpshort", "helpfull")


def _setting(default: Any, rule: Rule, help_text: str) -> Any:
  return dataclasses.field(default=default, metadata={"rule": rule, "help": help_text})


def _sentences() -> Rule:
  return Rule(
    expected="words separated by spaces",
    parse=lambda text: text,
    accepts=lambda v: isinstance(v, tuple) and all(isinstance(s, str) for s in v),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerateSettings:
  """What to generate from which run. Constructing one validates it: UserError, one line."""

  run_dir: str | None = _setting(None, path(), "directory of a trained run; needed")
  sentence: tuple[str, ...] = _setting(
    (), _sentences(), "a sentence to encode and to write again; may be given several times"
  )
  file: str | None = _setting(None, optional(path()), "a text file with such a sentence a line")
  split: str | None = _setting(
    None,
    optional(one_of("train", "valid", "test")),
    "take the first documents of this split of the run's data",
  )
  data_dir: str | None = _setting(
    None, optional(path()), "where the data of --split are; default: where they were in training"
  )
  num: int = _setting(5, whole(1, 1000), "samples from the prior, and most sentences of --file and --split")
  temperature: float = _setting(
    1.0, number(above=0), "of what is sampled: below 1 the probable becomes more so"
  )
  top_p: float = _setting(
    1.0, number(above=0, maximum=1), "words are sampled from the most probable ones that together have this"
  )
  num_beams: int = _setting(5, whole(1, 100), "documents that beam search keeps; 1 is greedy")
  length_penalty: float = _setting(
    0.0, number(0), "beam search ranks by log p / ((5 + length) / 6)^this; larger for longer documents"
  )
  allow_unknown: bool = _setting(True, switch(), "whether the unknown word _UNK may be written")
  interpolate: bool = _setting(
    False, switch(), "walk from the first sentence to the second on the line between their posterior means"
  )
  interpolate_by: str = _setting("greedy", one_of("greedy", "beam"), "how a point on that line is decoded")
  points: int = _setting(5, whole(2, 100), "points on that line, both ends included")
  eval_k: int | None = _setting(
    None, optional(whole(0)), "SVI steps that refine a posterior; default: the run's"
  )
  seed: int = _setting(0, whole(0, 2**31 - 1), "seed of all that is drawn")

  def __post_init__(self):
    if self.run_dir is None:
      raise UserError("--run_dir is needed: the directory of a trained run; received none")
    for field in dataclasses.fields(self):
      value, rule = getattr(self, field.name), field.metadata["rule"]
      if not rule.accepts(value):
        raise UserError(f"--{field.name} must be {rule.expected}; received {show(value)}")
    sources = [name for name in ("sentence", "file", "split") if getattr(self, name)]
    if len(sources) > 1:
      raise UserError(
        f"sentences come from one of --sentence, --file and --split; received --{' and --'.join(sources)}"
      )
    if self.interpolate and not sources:
      raise UserError("--interpolate needs two sentences; received none: give --sentence twice, or --split")

  @property
  def has_sentences(self) -> bool:
    """Whether sentences are given, in any of the three ways."""
    return bool(self.sentence or self.file or self.split)


def parse(argv: Sequence[str]) -> GenerateSettings | str:
  """The settings that a command line gives, or, for `--help`, the text to print.

  Args:
    argv: the program's name and its arguments.

  Raises:
    UserError: one line that names the flag and what was received.
  """
  values = flags.FlagValues()
  for field in dataclasses.fields(GenerateSettings):
    rule, text = field.metadata["rule"], field.metadata["help"]
    if field.name == "sentence":
      flags.DEFINE_multi_string(field.name, None, text, flag_values=values)
    elif rule.is_switch:
      flags.DEFINE_boolean(field.name, None, text, flag_values=values)
    else:
      flags.DEFINE_string(field.name, None, text, flag_values=values)
  for name in _HELP_NAMES:
    flags.DEFINE_boolean(name, False, "show this text", flag_values=values)
  try:
    rest = values(list(argv))[1:]
  except (flags.Error, OSError, UnicodeError) as error:
    raise UserError(_one_line(error)) from None
  if any(values[name].value for name in _HELP_NAMES):
    return help_text()
  if rest:
    raise UserError(f"unexpected argument {rest[0]!r}: settings are given as --name=value; see --help")
  fields = (field for field in dataclasses.fields(GenerateSettings) if values[field.name].present)
  return GenerateSettings(**{field.name: _value(field, values[field.name].value) for field in fields})


def help_text(width: int = 100) -> str:
  """What `--help` prints: every flag with its values and default."""
  lines = [
    "usage: python -m tf_savae.commands.generate --run_dir=RUN [--sentence=… | --file=… | --split=…] [--name=value …]",
    "",
    "What a trained model of text writes. Printed, kept in RUN/generations, and shown by TensorBoard.",
    "",
  ]
  for field in dataclasses.fields(GenerateSettings):
    rule, default = field.metadata["rule"], field.default
    values = "" if rule.is_switch else f" {rule.expected[0].upper()}{rule.expected[1:]}."
    shown = "" if default in (None, ()) else f" Default: {str(default).lower()}."
    text = f"{field.metadata['help']}.{values}{shown}"
    lines.append(f"  --{'[no]' if rule.is_switch else ''}{field.name}")
    lines += textwrap.wrap(text, width, initial_indent="      ", subsequent_indent="      ")
  return "\n".join(lines)


def _value(field: dataclasses.Field, given: Any) -> Any:
  if isinstance(given, list):
    return tuple(given)
  if not isinstance(given, str):
    return given
  rule = field.metadata["rule"]
  try:
    return rule.parse(given)
  except ValueError:
    raise UserError(f"--{field.name} must be {rule.expected}; received {show(given)}") from None


def _one_line(error: Exception) -> str:
  if isinstance(error, flags.UnrecognizedFlagError):
    names = [field.name for field in dataclasses.fields(GenerateSettings)]
    close = difflib.get_close_matches(error.flagname, names, n=1)
    hint = f"did you mean --{close[0]}? " if close else ""
    return f"unknown flag --{error.flagname}; {hint}--help lists them all"
  return " ".join(str(error).split()).removeprefix("flag ").removeprefix("ERROR:: ")
