"""Rules for the values of settings; one `Rule` serves the flag parser, the help text and `RunConfig`'s validation."""

from __future__ import annotations

import dataclasses
import enum
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from tf_savae.literal_paths import is_url


@dataclasses.dataclass(frozen=True)
class Rule:
  """The values a setting accepts.

  Attributes:
    wording: completes the sentence "must be …"; a function if the words can change, such as a list of names.
    parse: text of a command line → value; raises ValueError for text that is not of the right type.
    accepts: whether a value of any type is allowed.
    is_switch: a boolean, given as `--name` or `--noname`.
  """

  wording: str | Callable[[], str]
  parse: Callable[[str], Any]
  accepts: Callable[[Any], bool]
  is_switch: bool = False

  @property
  def expected(self) -> str:
    """`wording` as it is now."""
    return self.wording() if callable(self.wording) else self.wording


def whole(minimum: int, maximum: int | None = None) -> Rule:
  """An integer from `minimum` to `maximum` (None: no limit)."""
  limit = f"{minimum} or more" if maximum is None else f"from {minimum} to {maximum}"
  return Rule(
    wording=f"a whole number, {limit}",
    parse=int,
    accepts=lambda v: _is_whole(v) and v >= minimum and (maximum is None or v <= maximum),
  )


def number(
  minimum: float | None = None,
  maximum: float | None = None,
  *,
  above: float | None = None,
  below: float | None = None,
) -> Rule:
  """A finite number within inclusive (`minimum`, `maximum`) and exclusive (`above`, `below`) bounds."""
  bounds = [(minimum, "at least"), (above, "above"), (maximum, "at most"), (below, "below")]
  words = [f"{word} {bound:g}" for bound, word in bounds if bound is not None]

  def accepts(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
      return False
    return (
      (minimum is None or value >= minimum)
      and (maximum is None or value <= maximum)
      and (above is None or value > above)
      and (below is None or value < below)
    )

  return Rule(wording=" ".join(["a number", " and ".join(words)]).strip(), parse=float, accepts=accepts)


def one_of(*choices: str) -> Rule:
  """One of a few words."""
  return Rule(wording=f"one of {', '.join(choices)}", parse=str, accepts=lambda v: v in choices)


def name_in(names: Iterable[str], *more: str) -> Rule:
  """One of `more` or of some names, to which others may be added until a value is checked."""

  def all_names() -> list[str]:
    return [*more, *names]

  return Rule(
    wording=lambda: f"one of {', '.join(all_names())}", parse=str, accepts=lambda v: v in all_names()
  )


def whole_list(minimum: int, *, odd: bool = False) -> Rule:
  """A tuple of at least one integer of at least `minimum`, written with commas: `16,32,32`."""

  def accepts(value: Any) -> bool:
    if not isinstance(value, tuple) or not value:
      return False
    return all(_is_whole(v) and v >= minimum and (not odd or v % 2 == 1) for v in value)

  kind = "odd whole numbers" if odd else "whole numbers"
  return Rule(
    wording=f"{kind} of at least {minimum} separated by commas",
    parse=lambda text: tuple(int(part) for part in text.split(",")),
    accepts=accepts,
  )


def each_once(rule: Rule) -> Rule:
  """Lists that `rule` accepts, without repetitions."""
  return dataclasses.replace(
    rule,
    wording=f"{rule.expected}, each once",
    accepts=lambda v: rule.accepts(v) and len(set(v)) == len(v),
  )


def named(names: tuple[str, ...], rule: Rule) -> Rule:
  """A value that `rule` accepts, or one of the names of such values."""
  return Rule(
    wording=f"one of {', '.join(names)}, or {rule.expected}",
    parse=lambda text: text if text in names else rule.parse(text),
    accepts=lambda v: (isinstance(v, str) and v in names) or rule.accepts(v),
  )


def text() -> Rule:
  """Any text that is not empty."""
  return Rule(
    wording="a text that is not empty",
    parse=str,
    accepts=lambda v: isinstance(v, str) and bool(v.strip()),
  )


def path() -> Rule:
  """A file name or directory."""
  return Rule(
    wording="a path on this machine in UTF-8, not empty and not a URL",
    parse=str,
    accepts=lambda v: (
      isinstance(v, str) and bool(v.strip()) and "\0" not in v and _is_utf8(v) and not is_url(v)
    ),
  )


def _is_utf8(path: str) -> bool:
  """Whether a path can be written as UTF-8, as TensorFlow and JSON need it; Python marks other bytes."""
  try:
    path.encode()
  except UnicodeEncodeError:
    return False
  return True


def paths() -> Rule:
  """Any number of file names, written with commas; a command line gives at least one."""
  one = path()
  return Rule(
    wording="paths in UTF-8 separated by commas",
    parse=lambda text: tuple(text.split(",")),
    accepts=lambda v: isinstance(v, tuple) and all(one.accepts(part) for part in v),
  )


def updates() -> Rule:
  """Numbers of two updates, `first:last`, counted from 1; the value stays a text."""

  def accepts(value: Any) -> bool:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,18}:[0-9]{1,18}", value):
      return False
    first, last = first_and_last(value)
    return 1 <= first <= last

  return Rule(
    wording="the first and the last of some updates, counted from 1, such as 100:110",
    parse=str,
    accepts=accepts,
  )


def first_and_last(value: str) -> tuple[int, int]:
  """The numbers in a value that the rule `updates` accepts."""
  first, last = value.split(":")
  return int(first), int(last)


def switch() -> Rule:
  """True or False."""
  words = {
    "true": True,
    "t": True,
    "1": True,
    "yes": True,
    "false": False,
    "f": False,
    "0": False,
    "no": False,
  }

  def parse(text: str) -> bool:
    if text.lower() not in words:
      raise ValueError(text)
    return words[text.lower()]

  return Rule(wording="true or false", parse=parse, accepts=lambda v: isinstance(v, bool), is_switch=True)


def optional(rule: Rule) -> Rule:
  """What `rule` accepts, or None where the setting is worked out from others."""
  return dataclasses.replace(rule, accepts=lambda v: v is None or rule.accepts(v))


def _is_whole(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


class OnResume(enum.Enum):
  """How a setting may change between two starts of one run."""

  FIXED = "part of the run's identity: a change is refused"
  EVALUATION = "may differ when the run is evaluated, and in nothing else"
  GROWS = "may only grow (0 is no limit)"
  FREE = "may differ"


def option(
  default: Any,
  rule: Rule,
  help_text: str,
  group: str,
  on_resume: OnResume = OnResume.FIXED,
  only: tuple[str, ...] = (),
  is_repeated: bool = False,
) -> dataclasses.Field:
  """A field of `RunConfig`.

  Args:
    default: its value unless a preset changes it.
    rule: the values that it accepts.
    help_text: its description, without a full stop.
    group: its heading in `--help`.
    on_resume: how it may change when the run is resumed.
    only: the kinds of data that use it; none: all.
    is_repeated: whether its flag may be given several times; the value is then a tuple.
  """
  metadata = {"rule": rule, "help": help_text, "group": group, "on_resume": on_resume, "only": only}
  metadata["is_repeated"] = is_repeated
  return dataclasses.field(default=default, metadata=metadata)


def concerns(field: dataclasses.Field, kind: str) -> bool:
  """Whether a kind of data uses a setting."""
  return not field.metadata["only"] or kind in field.metadata["only"]


SEED = whole(0, 2**31 - 1)  # seeds are int32 inside
