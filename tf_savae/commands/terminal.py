"""Printing on terminals that lack some characters: there, α for example is printed as "alpha"."""

from __future__ import annotations

import codecs
import sys
import unicodedata

_HANDLER = "tf_savae.transliterate"
_SIGNS = {
  "λ": "lambda",
  "−": "-",
  "–": "-",
  "—": "-",
  "±": "+-",
  "×": "x",
  "→": "->",
  "²": "^2",
  "∇": "grad ",
}
# How Python sets up streams by itself; any other setting is the user's choice.
_DEFAULTS = ("strict", "surrogateescape", "backslashreplace")


def transliterate() -> None:
  """Makes stdout and stderr replace characters that their encoding lacks, instead of raising an error."""
  codecs.register_error(_HANDLER, _replacement)
  for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure") and stream.errors in _DEFAULTS:
      stream.reconfigure(errors=_HANDLER)


def _replacement(error: UnicodeError) -> tuple[str, int]:
  if not isinstance(error, UnicodeEncodeError):
    raise error
  return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
  """An ASCII replacement for one character."""
  if character in _SIGNS:
    return _SIGNS[character]
  name = unicodedata.name(character, "")
  if name.startswith("GREEK SMALL LETTER "):
    return name.removeprefix("GREEK SMALL LETTER ").partition(" ")[0].lower()
  alike = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
  return alike or character.encode("ascii", "backslashreplace").decode()
