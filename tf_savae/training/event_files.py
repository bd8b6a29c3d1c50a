"""Trims TensorBoard's event files when a run goes back to its last checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf

from tf_savae import atomic_files


def drop_after(directory: str | os.PathLike[str], step: int) -> int:
  """Removes the events in `directory` after `step`, because a resumed run will write them again.

  A record that a kill cut short is removed, too. Files are replaced atomically, and only if something is removed.

  Args:
    directory: the directory of event files; it may be missing.
    step: the global step of the checkpoint from which the run continues.

  Returns:
    The number of events removed.
  """
  removed = 0
  for path in sorted(Path(directory).glob("*tfevents*")):
    kept, gone, damaged = _split(path, step)
    if not gone and not damaged:
      continue
    removed += gone
    with atomic_files.replacing(path) as new, tf.io.TFRecordWriter(os.fspath(new)) as writer:
      for record in kept:
        writer.write(record)
  return removed


def _split(path: Path, step: int) -> tuple[list[bytes], int, bool]:
  """Records of events up to `step`, the number of events after it, and whether the file's end is damaged."""
  kept, gone = [], 0
  try:
    for record in tf.data.TFRecordDataset(os.fspath(path)).as_numpy_iterator():
      if tf.compat.v1.Event.FromString(record).step <= step:
        kept.append(record)
      else:
        gone += 1
  except tf.errors.DataLossError:
    return kept, gone, True
  return kept, gone, False
