"""Several runs in one report: their names, and where its files are written. No TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tf_savae.errors import UserError


def names(run_dirs: Sequence[str | os.PathLike]) -> list[str]:
  """A name for each run: that of its directory, or the whole path where two have the same.

  Raises:
    UserError: a run is given twice.
  """
  paths = [Path(run_dir).expanduser().absolute() for run_dir in run_dirs]
  if len(set(paths)) < len(paths):
    raise UserError(f"each run may be given once; received {' '.join(map(str, run_dirs))}")
  short = [path.name for path in paths]
  return [str(path) if short.count(name) > 1 else name for name, path in zip(short, paths, strict=True)]


def place(run_dirs: Sequence[str | os.PathLike], out: str | os.PathLike | None) -> Path:
  """The directory of a report about several runs: `out`, which is made, or that of the first run."""
  if out is None:
    return Path(run_dirs[0]).expanduser()
  path = Path(out).expanduser()
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f"--out={out} cannot be made ({error.strerror}); give another directory") from error
  return path
