"""Paths that TensorFlow does not take for patterns.

TensorFlow treats the path of a checkpoint as a pattern, so it writes to `runs/x=[1]` but never finds the files again.
It is therefore given such a directory under another name, a symbolic link without special characters.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

_SPECIAL = set("*?[]\\")

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib makes one slash of two


def is_url(path: str | os.PathLike[str]) -> bool:
  """Whether a path is a URL such as gs://bucket/folder, which this package does not write to or read from."""
  return bool(_URL.match(os.fspath(path)))


class LiteralPath:
  """A name for an existing directory that TensorFlow accepts: its own, or a link if it has special characters.

  The name is valid as long as this object exists.

  Attributes:
    path: the name.
  """

  def __init__(self, directory: str | os.PathLike[str]):
    self.path = Path(directory)
    self._link: tempfile.TemporaryDirectory[str] | None = None
    if _SPECIAL & set(os.fspath(self.path)):
      self._link = tempfile.TemporaryDirectory(prefix="tf_savae-", ignore_cleanup_errors=True)
      self.path = Path(self._link.name) / "directory"
      self.path.symlink_to(Path(directory).absolute(), target_is_directory=True)
