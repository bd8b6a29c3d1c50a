"""Version directories as TensorFlow Serving watches them: `<model>/<whole number>`, each complete when it appears."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tf_savae import literal_paths, locks
from tf_savae.errors import UserError, reason

_GRAPH = "saved_model.pb"
_PREFIX = ".new-"  # no number: servers pass it over
_LARGEST = 2**63 - 1  # servers read an int64, and pass over what is larger


def versions(model_dir: Path) -> list[int]:
  """The version numbers in `model_dir` as a server reads them, in order; none if it does not exist.

  A server takes 0003 for version 3. It passes over names such as v2, and over numbers beyond int64.

  Raises:
    UserError: a server would be confused: a file has a version's name, or two folders have the same number.
  """
  if not model_dir.is_dir():
    return []
  found: dict[int, Path] = {}
  for path in sorted(model_dir.iterdir()):
    if not (path.name.isascii() and path.name.isdigit()) or int(path.name) > _LARGEST:
      continue
    if not path.is_dir():
      raise UserError(
        f"{path} is a file, and a server would take it for version {int(path.name)}; move it elsewhere"
      )
    if int(path.name) in found:
      names = f"{found[int(path.name)].name} and {path.name}"
      raise UserError(f"{model_dir} has two folders of one version: {names}; remove one")
    found[int(path.name)] = path
  return sorted(found)


def check_model_dir(model_dir: Path, called: str) -> None:
  """Raises a UserError if a directory of versions is itself a version, or a URL.

  Args:
    model_dir: the directory.
    called: how the user named it, such as "--output=models".
  """
  if literal_paths.is_url(model_dir):
    raise UserError(
      f"{called} is a URL, and versions are written to a local folder; name one, and copy the new version from there"
    )
  if (model_dir / _GRAPH).exists():
    raise UserError(f"{called} is a version itself: it has a {_GRAPH}; name the folder above it")


def without_versions(model_dir: Path) -> str:
  """Why a directory has no version, in a few words for an error."""
  if not model_dir.is_dir():
    return "does not exist"
  others = sorted(
    path.name for path in model_dir.iterdir() if path.is_dir() and not path.name.startswith(".")
  )
  if not others:
    return "holds no version"
  return f"holds no version, which is a whole number up to {_LARGEST}; it has {', '.join(others[:3])}"


@contextlib.contextmanager
def new_version(model_dir: Path) -> Iterator[tuple[int, Path]]:
  """A context with a hidden directory for the next version, which is renamed to its number on success.

  If anything is raised, the hidden directory is removed. Remains of a killed export are removed by the next one.

  Yields:
    The number of the version, and the directory to write to.

  Raises:
    UserError: `model_dir` cannot be written, or another export into it is under way.
  """
  check_model_dir(model_dir, f"--output={model_dir}")
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
    if number > _LARGEST:
      raise UserError(
        f"no version number is left: --output={model_dir} has {_LARGEST}; name another --output"
      )
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


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
  """A context with a hidden directory beside `path`, which becomes `path` on success.

  A SavedModel that is at `path` is replaced, as Keras does; anything else that is there stays.

  Raises:
    UserError: `path` is a file or a folder of other things, or cannot be written.
  """
  if path.exists() and not (path.is_dir() and ((path / _GRAPH).exists() or not any(path.iterdir()))):
    raise UserError(f"{path} exists and is no SavedModel; name a new folder")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=path.parent))
  except OSError as error:
    raise UserError(f"cannot write {path}: {reason(error)}; name another folder") from error
  try:
    yield new
    new.chmod(0o755)
    old = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=path.parent))
    try:
      if path.exists():
        os.rename(path, old / path.name)
      os.rename(new, path)
    finally:
      shutil.rmtree(old, ignore_errors=True)
  except OSError as error:
    raise UserError(f"cannot write {path}: {reason(error)}") from error
  finally:
    shutil.rmtree(new, ignore_errors=True)
