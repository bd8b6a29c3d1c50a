"""Sentences of a text, for the tests of wording in pages and in code."""

from __future__ import annotations

import re
from collections.abc import Iterator

MOST_WORDS = 30


def sentences(paragraph: str) -> Iterator[str]:
  """The sentences of one paragraph; "et al." does not end one."""
  text = " ".join(paragraph.replace("et al.", "et al").split())
  return iter(re.split(r"(?<=[.?!])\s+", text))
