"""A run as workers beside the chief see it: they read what the chief keeps, and write nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tf_savae.errors import UserError
from tf_savae.runs.checkpoints import Checkpoints
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory


class DirectoryBeside(RunDirectory):
  """The directory of a run that the chief, another process, has locked. All that would write does nothing."""

  def create(self) -> None:
    """Raises UserError where the directory is not there, and so is not the chief's."""
    if not self.config_file.is_file():
      raise UserError(
        f"--run_dir={self.path} is not the chief's: it holds no config.json here; name a directory on a file system"
        " that all workers share"
      )

  def lock(self) -> None:
    """The chief has the lock."""

  def write_config(self, config: RunConfig) -> None:
    """The chief did."""

  def forget_unused(self) -> None:
    """The chief does."""

  def drop_metrics_after(self, step: int) -> None:
    """The chief does."""

  def append_metrics(self, row: Mapping[str, Any]) -> None:
    """The chief does."""

  def write_results(self, results: Mapping[str, Any], *, training_finished: bool | None = None) -> None:
    """The chief does."""

  def write_results_of(self, file: str | os.PathLike[str], results: Mapping[str, Any]) -> Path:
    """The chief does."""
    return self.path


class CheckpointsBeside:
  """Checkpoints that the chief writes; has what `Checkpoints` has.

  Args:
    checkpoints: of the run.
    step_of_chief: waits for the chief's checkpoint and gives its step, −1 for none.
  """

  def __init__(self, checkpoints: Checkpoints, step_of_chief: Callable[[], int]):
    self._checkpoints, self._step_of_chief = checkpoints, step_of_chief

  def save(self, step: int) -> str:
    """The chief saves."""
    return ""

  def save_best(self, step: int, value: float) -> str:
    """The chief saves."""
    return ""

  def restore_latest(self, *, must_exist: bool = False) -> int | None:
    """Restores the checkpoint that the chief restored or saved; None where it has none.

    Raises:
      UserError: it is not there, or cannot be read.
    """
    del must_exist
    step = self._step_of_chief()
    if step < 0:
      return None
    self._checkpoints.restore_step(step)
    return step

  def restore_best(self) -> tuple[int, float] | None:
    """Restores the best model that the chief restored; None where there is none.

    Raises:
      UserError: it is not there, or cannot be read.
    """
    step = self._step_of_chief()
    return None if step < 0 else self._checkpoints.restore_best_of(step)
