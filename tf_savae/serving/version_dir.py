"""Version directories as TensorFlow Serving watches them: `<model>/<whole number>`, each complete when it appears."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tf_savae import locks
from tf_savae.errors import UserError, reason

_PREFIX = ".new-"  # no number: servers pass it over


def versions(model_dir: Path) -> list[int]:
  """The version numbers in `model_dir`, in order; none if it does not exist."""
  if not model_dir.is_dir():
    return []
  return sorted(int(path.name) for path in model_dir.iterdir() if path.name.isascii() and path.name.isdigit())


@contextlib.contextmanager
def new_version(model_dir: Path) -> Iterator[tuple[int, Path]]:
  """A context with a hidden directory for the next version, which is renamed to its number on success.

  If anything is raised, the hidden directory is removed. Remains of a killed export are removed by the next one.

  Yields:
    The number of the version, and the directory to write to.

  Raises:
    UserError: `model_dir` cannot be written, or another export into it is under way.
  """
  try:
    model_dir.mkdir(parents=True, exist_ok=True)
    lock = locks.take(model_dir / ".lock")
  except locks.InUse as holder:
    raise UserError(
      f"another export into --output={model_dir} is under way ({holder}); wait for it, or name another --output"
    ) from None
  except OSError as error:
    raise UserError(
      f"cannot write in --output={model_dir}: {reason(error)}; name another --output"
    ) from error
  with lock:
    for left_over in model_dir.glob(f"{_PREFIX}*"):
      shutil.rmtree(left_over, ignore_errors=True)
    number = max(versions(model_dir), default=0) + 1
    try:
      path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=model_dir))
    except OSError as error:
      raise UserError(f"cannot write in --output={model_dir}: {reason(error)}") from error
    try:
      yield number, path
      path.chmod(0o755)  # mkdtemp makes it for its owner alone, and a server is someone else
      os.rename(path, model_dir / str(number))
    except OSError as error:
      raise UserError(f"cannot write in --output={model_dir}: {reason(error)}") from error
    finally:
      shutil.rmtree(path, ignore_errors=True)
