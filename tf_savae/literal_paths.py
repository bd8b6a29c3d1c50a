"""Paths that TensorFlow takes as they are.

TensorFlow looks for a checkpoint's files as for a pattern, so that it writes to `runs/x=[1]` and never finds it again.
Such a directory is handed to it under another name: a symbolic link without special characters.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_SPECIAL = set("*?[]\\")


class LiteralPath:
  """Another name for a directory that exists, for TensorFlow; the directory's own where nothing in it is special.

  The name is good as long as this object lives.

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
