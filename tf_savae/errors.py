"""The exception for errors that the user can fix, short texts for other errors, and exit statuses of commands."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

__all__ = ["UserError"]


class UserError(ValueError):
  """Bad input. The text is one line that says what is wrong, what was received and what to do.

  Commands print the text and exit with status 1, without a traceback.

  Example:
    >>> from tf_savae.errors import UserError
    >>> from tf_savae.training import make_config
    >>> try:
    ...   make_config(dataset="omniglot", preset="tiny", k=-1)
    ... except UserError as error:
    ...   print(error)
    --k must be a whole number, 0 or more; received -1
  """


def reason(error: BaseException, limit: int = 160) -> str:
  """The text of an error on one line of at most `limit` characters, or its type if it has no text."""
  text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
  return text if len(text) <= limit else text[: limit - 1] + "…"


def printable(text: str) -> str:
  """A name of a file as part of one line: line breaks, and bytes that are not UTF-8, are escaped."""
  text = text.encode("utf-8", "backslashreplace").decode("utf-8")
  return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def exit_status(work: Callable[[], None]) -> int:
  """Does a command's work and returns its exit status; errors that a user causes show no traceback.

  Returns:
    0, or 1 (a UserError or a full disk under stdout, shown as one line on stderr; or a closed stdout), 130 (Ctrl-C) or
    143 (SIGTERM).
  """
  try:
    work()
    if sys.stdout is not None:  # closed before the command began
      sys.stdout.flush()
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  except BrokenPipeError:
    _drop_output()
    return 1
  except OSError as error:
    if error.errno not in _CANNOT_WRITE or error.filename is not None:
      raise
    _drop_output()
    print(f"error: cannot write what the command prints: {error.strerror}", file=sys.stderr)
    return 1
  except KeyboardInterrupt as stop:
    print(f"interrupted: {stop}" if stop.args else "interrupted", file=sys.stderr)
    return 128 + getattr(stop, "signal", signal.SIGINT)
  return 0


def _drop_output() -> None:
  """Lets the rest of stdout go nowhere; otherwise Python complains when it exits."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
