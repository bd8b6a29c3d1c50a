"""Ends a training after a budget of processor time, whatever else the machine does meanwhile."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tf_savae.atomic_files import read_json, write_json

# An update that takes this many times the median traced a graph; long documents take about three times as long.
_TRACES = 8.0
_EVERY = 25  # updates between two entries of the file


class ProcessorTime(keras.callbacks.Callback):
  """Counts the processor time of updates, and stops training when it reaches a budget.

  Only updates count. Data loading, validations and the time between updates do not, nor does tracing. The first update
  of a process, and each that takes eight times the median, counts as a median update. A run that is resumed goes on
  counting from the update at which it was saved.

  Args:
    budget: seconds; 0: no limit.
    file: JSON file that keeps the count. Its `seconds` are those of all updates, `update_seconds` their mean.
  """

  def __init__(self, budget: float, file: Path):
    super().__init__()
    self._budget, self._file = budget, file
    self._counts: list[list[float]] = []  # [update, seconds until then], in rising order
    self._base, self._since = 0.0, 0.0
    self._took: list[float] = []

  @property
  def seconds(self) -> float:
    """Processor time of all updates so far, over all starts of the run."""
    return self._base + self._of_this_process()

  def _of_this_process(self) -> float:
    rest = np.asarray(self._took[1:])
    if not len(rest):
      return 0.0
    median = float(np.median(rest))
    return median + float(np.where(rest > _TRACES * median, median, rest).sum())

  def on_train_begin(self, logs: Any = None) -> None:
    # Keras calls it once per `fit`; what counts is the first call, when the weights have been restored.
    if self._took or self._base:
      return
    step = int(self.model.step.value)
    self._counts = [entry for entry in (read_json(self._file) or {}).get("counts", []) if entry[0] <= step]
    if self._counts:
      updates, seconds = self._counts[-1]
      self._base = seconds * step / max(updates, 1)  # entries are a few updates apart

  def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
    self._since = time.process_time()

  def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
    step = int(self.model.step.value)  # waits for the device
    self._took.append(time.process_time() - self._since)
    if step % _EVERY == 0:
      self._write(step)
    if self._budget and self.seconds >= self._budget:
      self.model.stop_training = True

  def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
    self._write(int(self.model.step.value))

  def _write(self, step: int) -> None:
    if step and (not self._counts or self._counts[-1][0] < step):
      self._counts.append([step, self.seconds])
    seconds = self._counts[-1][1] if self._counts else 0.0
    values = {"seconds": seconds, "update_seconds": seconds / max(step, 1), "counts": self._counts}
    write_json(self._file, values)
