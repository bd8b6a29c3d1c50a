"""The values of each example in an evaluation, kept in a file so that runs can be compared in pairs. NumPy only."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from tf_savae import atomic_files
from tf_savae.errors import UserError

TEST_FILE = "test_examples.npz"  # in a run directory


def save(path: str | os.PathLike[str], rows: Mapping[str, np.ndarray], compressed: bool = False) -> None:
  """Writes arrays `[examples]` atomically: a kill leaves either the old file or the new one.

  Raises:
    UserError: the file cannot be written.
  """
  with atomic_files.writing(path) as new, open(new, "wb") as file:
    (np.savez_compressed if compressed else np.savez)(file, **rows)


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray] | None:
  """Reads what `save` wrote; None if there is no such file.

  Raises:
    UserError: the file is damaged.
  """
  try:
    with np.load(path, allow_pickle=False) as file:
      return {name: file[name] for name in file.files}
  except FileNotFoundError:
    return None
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise UserError(f"{path} is damaged ({error}); write it anew with --eval_only") from error


def digests(parts: Sequence[np.ndarray], lengths: np.ndarray | None = None) -> np.ndarray:
  """A checksum of each example, uint32 `[n]`, which does not depend on padding.

  Args:
    parts: the parts of the observation, each `[n, ...]`.
    lengths: tokens of each document, `[n]`; what follows is padding.
  """
  result = []
  for i in range(len(parts[0])):
    checksum = 0
    for part in parts:
      row = part[i] if lengths is None else part[i, : lengths[i]]
      checksum = zlib.crc32(np.ascontiguousarray(row).tobytes(), checksum)
    result.append(checksum)
  return np.array(result, np.uint32)
