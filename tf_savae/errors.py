"""The one exception that means: the user can fix this; what others say, in a few words; and how a command ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable


class UserError(ValueError):
  """Bad input. Its text is one line: what is wrong, what was received, what to do.

  Command lines print the text and exit with status 1; they never show a traceback for it.
  """


def reason(error: BaseException, limit: int = 160) -> str:
  """What went wrong, on one line of at most `limit` characters; the type of an error that has no text."""
  text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
  return text if len(text) <= limit else text[: limit - 1] + "…"


def exit_status(work: Callable[[], None]) -> int:
  """Does a command's work and returns its exit status; nothing that a user causes shows a traceback.

  Returns:
    0; 1 (a UserError, shown as one line on stderr, or a reader of stdout that went away), 130 (Ctrl-C), 143 (SIGTERM).
  """
  try:
    work()
    sys.stdout.flush()
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  except BrokenPipeError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
    return 1
  except KeyboardInterrupt as stop:
    print(f"interrupted: {stop}" if stop.args else "interrupted", file=sys.stderr)
    return 128 + getattr(stop, "signal", signal.SIGINT)
  return 0
