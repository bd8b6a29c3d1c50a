"""How good a model is while it is trained, against processor time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from experiments.comparison import Table
from experiments.example_values import Measure
from experiments.processor_time import ProcessorTime
from tf_savae.atomic_files import read_json, write_json
from tf_savae.evaluation import estimates
from tf_savae.runs import run_data
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory

_FILE = "curve.json"  # in a run directory
_MEASURED = ("nll_bound_initial", "nll_bound", "nll_iw", "kl")


def points_of(run_dir: Path) -> list[dict[str, Any]]:
  """The measurements of a run so far, in order: `seconds`, `step`, and means over examples with `…_se`."""
  return (read_json(run_dir / _FILE) or {}).get("points", [])


class Curve(keras.callbacks.Callback):
  """Measures the model on test examples after given seconds of processor time; the measurements take none of it.

  A run that is resumed measures again what came after the update at which it was saved.

  Args:
    count: the processor time of the training, a callback that comes before this one.
    table: says when and on what to measure.
    config: settings of the run.
  """

  def __init__(self, count: ProcessorTime, table: Table, config: RunConfig):
    super().__init__()
    self._count, self._table, self._config = count, table, config
    self._run = RunDirectory(config.run_dir)
    self._file = self._run.path / _FILE
    self._points: list[dict[str, Any]] = []
    self._measure: Measure | None = None

  def on_train_begin(self, logs: Any = None) -> None:
    if self._measure is None:
      step = int(self.model.step.value)
      self._points = [point for point in points_of(self._run.path) if point["step"] <= step]

  def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
    due = [at for at in self._table.curve if at <= self._count.seconds]
    if len(due) <= len(self._points):
      return
    point = {"seconds": self._count.seconds, "step": int(self.model.step.value), **self._now()}
    # A slow update may pass several of the times at once.
    self._points += [point] * (len(due) - len(self._points))
    write_json(self._file, {"points": self._points})

  def _now(self) -> dict[str, Any]:
    if self._measure is None:
      table = self._table
      self._measure = Measure(
        self.model,
        run_data.load(self._config, self._run),
        "test",
        num=table.curve_examples,
        batch_size=self._config.eval_batch_size,
        bound_samples=table.bound_samples,
        iw_samples=table.iw_samples,
      )
    return measured(self._measure)


def measured(measure: Measure) -> dict[str, Any]:
  """One measurement with the model's current weights: means over examples with standard errors `…_se`."""
  values = measure()
  found: dict[str, Any] = {"examples": len(values["nll_bound"])}
  for name in _MEASURED:
    if name in values:
      one = estimates.mean(np.asarray(values[name]))
      found |= {name: one.value, f"{name}_se": one.se}
  return found
