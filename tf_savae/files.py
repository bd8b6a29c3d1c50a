"""Small files that are replaced in one piece."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tf_savae.errors import UserError


def atomic_write_text(path: str | os.PathLike, text: str) -> None:
  """Writes `text` (UTF-8) so that `path` holds the old content or the new, whatever happens.

  Raises:
    UserError: the file cannot be written, for instance on a full disk; the old content is still there.
  """
  path = Path(path)
  temporary = None
  try:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    # mkstemp makes files that only their owner reads.
    os.chmod(temporary, 0o666 & ~_umask())
    os.replace(temporary, path)
    _fsync_directory(path.parent)
  except OSError as error:
    if temporary is not None:
      Path(temporary).unlink(missing_ok=True)
    raise UserError(f"cannot write {path}: {reason(error)}; nothing that was there is lost") from error


def write_json(path: str | os.PathLike, values: Mapping[str, Any]) -> None:
  """Writes an object as JSON, atomically; NumPy values become Python's, NaN and infinity null.

  Raises:
    UserError: the file cannot be written.
  """
  text = json.dumps(_json_value(values), indent=2, ensure_ascii=False, allow_nan=False)
  atomic_write_text(path, text + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
  """The JSON object in `path`, or None when there is no such file.

  Raises:
    UserError: the file is there and cannot be read as an object.
  """
  try:
    values = json.loads(path.read_text(encoding="utf-8"))
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f"cannot read {path}: {reason(error)}; repair it, or use another --run_dir") from error
  if not isinstance(values, dict):
    raise UserError(f"{path} does not hold a JSON object; repair it, or use another --run_dir")
  return values


def reason(error: BaseException) -> str:
  """What went wrong, on one line."""
  text = getattr(error, "strerror", None) or str(error) or type(error).__name__
  return " ".join(str(text).split())


def _json_value(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {str(name): _json_value(item) for name, item in value.items()}
  if isinstance(value, list | tuple):
    return [_json_value(item) for item in value]
  if hasattr(value, "tolist"):  # NumPy scalars and arrays
    return _json_value(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _umask() -> int:
  # The mask can only be read by setting it.
  mask = os.umask(0)
  os.umask(mask)
  return mask


def _fsync_directory(path: Path) -> None:
  """Makes a rename survive a power cut, where the file system can."""
  with contextlib.suppress(OSError):
    handle = os.open(path, os.O_RDONLY)
    try:
      os.fsync(handle)
    finally:
      os.close(handle)
