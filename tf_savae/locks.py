"""Lock files: one process at a time in a directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from pathlib import Path
from typing import TextIO

# Error codes of file systems without locks, such as some network file systems.
_WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class InUse(Exception):
  """Another process holds the lock; the text says which one, if that is known."""


def take(path: Path) -> TextIO:
  """Takes the lock file `path` for this process, until the returned file is closed or the process ends.

  On a file system without locks, this prints a warning on stderr and continues.

  Raises:
    InUse: another process holds it.
    OSError: the file cannot be opened or locked.
  """
  file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (held until it is closed)
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    with file:
      file.seek(0)
      raise InUse(file.read().strip() or "unknown") from None
  except OSError as error:
    if error.errno not in _WITHOUT_LOCKS:
      file.close()
      raise
    print(
      f"warning: {path.parent} is on a file system without locks; use it from one process only",
      file=sys.stderr,
    )
  with contextlib.suppress(OSError):  # used only in the message of `InUse`, so a full disk is ignored here
    file.truncate(0)
    file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
    file.flush()
  return file
