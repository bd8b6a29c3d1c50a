"""Turns an exception of some library into a few words for a one-line message."""

from __future__ import annotations


def reason(error: BaseException, limit: int = 160) -> str:
  """The text of `error` on one line of at most `limit` characters, or its type if it has no text."""
  text = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
  return text if len(text) <= limit else text[: limit - 1] + "…"
