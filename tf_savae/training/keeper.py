"""`RunKeeper`, the callback that keeps a run safe: checkpoints, schedules, metrics, and an orderly stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from tf_savae.errors import UserError
from tf_savae.training.checkpoints import Checkpoints, TrainingProgress
from tf_savae.training.config import RunConfig
from tf_savae.training.run_dir import RunDirectory


class Interrupted(Exception):
  """Training was asked to stop (Ctrl-C, SIGTERM) and everything is saved."""


class RunKeeper(keras.callbacks.Callback):
  """Saves every `checkpoint_every` updates and at each epoch's end, and holds all state of the schedules.

  A checkpoint holds weights, optimiser, metric states and `TrainingProgress`; noise, β and the order of the data are
  functions of (seed, step). So a run that goes on from a checkpoint does what it would have done.

  Args:
    config: the run's settings.
    run: its directory.
    model: compiled and built.
  """

  def __init__(self, config: RunConfig, run: RunDirectory, model: keras.Model):
    super().__init__()
    self._config, self._run = config, run
    self.progress = TrainingProgress()
    self._metrics = [v.value for metric in model.metrics for v in metric.variables]
    self.checkpoints = Checkpoints(
      run.checkpoints,
      {"model": model, "optimizer": model.optimizer, "metrics": self._metrics, "progress": self.progress},
      keep=config.keep_checkpoints,
    )
    self._restored_metrics: list[np.ndarray] | None = None
    self._stop = threading.Event()
    self._clock = time.monotonic()

  def restore(self) -> int:
    """Goes to the newest readable checkpoint; returns the number of updates done, 0 for a new run."""
    step = self.checkpoints.restore_latest(must_exist=self._run.has_progress)
    if step is None:
      return 0
    # `fit` resets the metrics when an epoch begins: they are put back in its first callback.
    self._restored_metrics = [v.numpy() for v in self._metrics]
    self._run.drop_metrics_after(step)
    return step

  @contextmanager
  def stopping_on_signals(self) -> Iterator[None]:
    """Within it, the first Ctrl-C or SIGTERM asks for an orderly stop; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
      yield
      return

    def ask(number, frame):
      del frame
      if self._stop.is_set():
        raise KeyboardInterrupt
      self._stop.set()
      del number

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
      yield
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)

  @property
  def is_stopped_early(self) -> bool:
    """Whether patience with the validation bound has ended."""
    patience = self._config.early_stop_patience
    return 0 < patience <= int(self.progress.stop_stale_epochs)

  def save(self) -> None:
    """A checkpoint of this moment."""
    now = time.monotonic()
    self.progress.seconds.assign_add(now - self._clock)
    self._clock = now
    step = int(self.model.step.value)
    self.progress.step.assign(step)
    self.progress.skipped_updates.assign(int(self.model.skipped.value))
    self.progress.skipped_in_a_row.assign(int(self.model.skipped_in_a_row.value))
    self.checkpoints.save(step)

  # Hooks of Keras.

  def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
    if self._restored_metrics is not None:
      for variable, value in zip(self._metrics, self._restored_metrics, strict=True):
        variable.assign(value)
      self._restored_metrics = None
    self._clock = time.monotonic()

  def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
    step = int(self.model.step.value)
    every = self._config.checkpoint_every
    if self._stop.is_set() or (every and step % every == 0):
      self.save()
    if int(self.model.skipped_in_a_row.value) >= self._config.max_nonfinite:
      raise UserError(
        f"the loss or a gradient was not finite in {self._config.max_nonfinite} updates in a row, up to update"
        f" {step}; received --learning_rate={self._config.learning_rate} --svi_lr={self._config.svi_lr}; the"
        f" weights of before are in {self._run.checkpoints}; start another run with smaller ones"
      )
    self.check_stop()

  def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
    self.check_stop()

  def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
    """Takes in the validation bound: patience, learning rate, best model; then the epoch's checkpoint."""
    logs, progress = logs or {}, self.progress
    if progress.record_validation(logs["val_bound"], epoch):
      self.checkpoints.save_best(int(self.model.step.value), logs["val_bound"])
    rate = self.model.optimizer.learning_rate
    row = {"epoch": epoch, "step": int(self.model.step.value), "learning_rate": float(rate.value)}
    if 0 < self._config.lr_patience <= int(progress.lr_stale_epochs):
      rate.assign(float(rate.value) * self._config.lr_decay)
      progress.lr_decays.assign_add(1)
      progress.lr_stale_epochs.assign(0)
    progress.epoch.assign(epoch + 1)
    self.save()
    self._run.append_metrics(row | logs | {"seconds": float(progress.seconds)})

  def check_stop(self) -> None:
    """Raises `Interrupted` if a stop was asked for."""
    if self._stop.is_set():
      raise Interrupted

