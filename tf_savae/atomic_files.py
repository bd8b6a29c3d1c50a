"""Files that are replaced atomically: a kill or a full disk leaves either the old content or the new."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tf_savae.errors import UserError, reason


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
  """A context in which to write a new file beside `path`; it replaces `path` at the end if nothing is raised.

  By then the content has reached the disk. The file has the usual permissions of new files.

  Yields:
    The new file, which is empty and hidden. Its name does not contain that of `path`, which others may be looking for.

  Raises:
    OSError: the file cannot be written; the old content is still there.
  """
  path = Path(path)
  handle, name = tempfile.mkstemp(prefix=".new-", suffix=".tmp", dir=path.parent)
  os.close(handle)
  new = Path(name)
  try:
    yield new
    _fsync(new)
    new.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner reads
    new.replace(path)
  except BaseException:
    new.unlink(missing_ok=True)
    raise
  with contextlib.suppress(OSError):
    _fsync(path.parent)  # so that the rename survives a power cut, if the file system allows it


@contextlib.contextmanager
def writing(path: str | os.PathLike[str], called: str | None = None) -> Iterator[Path]:
  """Like `replacing`, but with an error that a command can show.

  Args:
    path: the file.
    called: name of the file in the error; default: `path`.

  Raises:
    UserError: the file cannot be written, for example on a full disk; the old content is still there.
  """
  try:
    with replacing(path) as new:
      yield new
  except OSError as error:
    raise UserError(
      f"cannot write {called or path}: {reason(error)}; nothing that was there is lost"
    ) from error


def atomic_write_text(path: str | os.PathLike[str], text: str, called: str | None = None) -> None:
  """Writes `text` (UTF-8, line breaks unchanged) with the guarantee and the error of `writing`."""
  with writing(path, called) as new, open(new, "w", encoding="utf-8", newline="") as file:
    file.write(text)


def write_json(path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
  """Writes an object as JSON, atomically; NumPy values become Python values, NaN and infinity become null.

  Raises:
    UserError: the file cannot be written.
  """
  text = json.dumps(_json_value(values), indent=2, ensure_ascii=False, allow_nan=False)
  atomic_write_text(path, text + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
  """The JSON object in `path`, or None if there is no such file.

  Raises:
    UserError: the file exists but cannot be read as a JSON object.
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


def _fsync(path: Path) -> None:
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)
