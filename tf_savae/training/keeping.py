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
from tf_savae.runs.checkpoints import Checkpoints, TrainingProgress
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory


class Interrupted(KeyboardInterrupt):
  """The run was asked to stop and everything is saved; `signal` is the number of the signal that asked."""

  def __init__(self, message: str, number: int):
    super().__init__(message)
    self.signal = number


class RunKeeper(keras.callbacks.Callback):
  """Saves every `checkpoint_every` updates, before and after each validation, and holds all state of the schedules.

  A checkpoint holds weights, optimiser, metric states and `TrainingProgress`; noise, β and the order of the data are
  functions of (seed, step). So a run that goes on from a checkpoint does what it would have done.

  Args:
    config: the run's settings.
    run: its directory.
    model: compiled and built.
    steps_per_epoch: updates in a pass over the training data.
  """

  def __init__(self, config: RunConfig, run: RunDirectory, model: keras.Model, steps_per_epoch: int):
    super().__init__()
    self._config, self._run, self._steps_per_epoch = config, run, steps_per_epoch
    self.set_model(model)
    self.progress = TrainingProgress()
    self._metrics = [v.value for metric in model.metrics for v in metric.variables]
    self.checkpoints = Checkpoints(
      run.checkpoints,
      {"model": model, "optimizer": model.optimizer, "metrics": self._metrics, "progress": self.progress},
      keep=config.keep_checkpoints,
    )
    self._restored_metrics: list[np.ndarray] | None = None
    self._saved_step: int | None = None
    self._signal: int | None = None
    self._clock = time.monotonic()
    self._epoch_begun = (self._clock, 0)  # time, and updates done by then
    self._step_seconds: float | None = None

  def restore(self) -> int:
    """Goes to the newest readable checkpoint, or saves a first one; returns the number of updates done."""
    step = self.checkpoints.restore_latest(must_exist=self._run.has_progress)
    if step is None:
      # So that there is always one to fall back to, and a disk that cannot hold it shows at once.
      self.save()
      return 0
    self._saved_step = step
    if not self.is_validated:
      # Within an epoch. `fit` resets the metrics when it begins: they are put back in its first callback.
      self._restored_metrics = [v.numpy() for v in self._metrics]
    self._run.drop_metrics_after(step)
    return step

  @contextmanager
  def stopping_on_signals(self) -> Iterator[None]:
    """Within it, the first Ctrl-C or SIGTERM asks for an orderly stop; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
      yield
      return

    def ask(number, _):
      if self._signal is not None:
        raise KeyboardInterrupt
      self._signal = number

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
      yield
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)

  @property
  def is_validated(self) -> bool:
    """Whether the weights were validated after the last update; true of a run that has not begun."""
    return int(self.progress.validated_step) == int(self.model.step.value)

  @property
  def is_stopped_early(self) -> bool:
    """Whether the validation bounds ended training: by patience, or by the learning rate, which they decay."""
    return self._early_stop() is not None

  def _early_stop(self) -> str | None:
    if 0 < self._config.early_stop_patience <= int(self.progress.stop_stale_epochs):
      return "early_stop_patience"
    rate = self.model.optimizer.learning_rate.numpy()
    return "min_learning_rate" if rate < rate.dtype.type(self._config.min_learning_rate) else None

  def seconds_left(self) -> float:
    """What `max_minutes` leave of the time for training; infinity where it has no limit."""
    if not self._config.max_minutes:
      return float("inf")
    seconds = float(self.progress.seconds) + time.monotonic() - self._clock
    return 60 * self._config.max_minutes - seconds

  @property
  def is_out_of_time(self) -> bool:
    """Whether `max_minutes` are over."""
    return self.seconds_left() <= 0

  @property
  def last_step(self) -> int:
    """The update that training ends with if nothing ends it before."""
    last = self._config.epochs * self._steps_per_epoch
    return min(last, self._config.max_steps) if self._config.max_steps else last

  def stopped_by(self) -> str | None:
    """The name of the setting that ended training, None if nothing did yet; ask before the best model is restored."""
    if not self.is_validated:
      return None
    if self._early_stop():
      return self._early_stop()
    if int(self.progress.step) >= self.last_step:
      return "epochs" if self.last_step == self._config.epochs * self._steps_per_epoch else "max_steps"
    return "max_minutes" if self.is_out_of_time else None

  def save(self) -> None:
    """A checkpoint of this moment."""
    step = self._take_stock()
    self.checkpoints.save(step)
    self._saved_step = step

  def _take_stock(self) -> int:
    """Brings `progress` up to this moment; returns the number of updates done."""
    now = time.monotonic()
    self.progress.seconds.assign_add(now - self._clock)
    self._clock = now
    step = int(self.model.step.value)
    self.progress.step.assign(step)
    self.progress.skipped_updates.assign(int(self.model.skipped.value))
    self.progress.skipped_in_a_row.assign(int(self.model.skipped_in_a_row.value))
    return step

  # Hooks of Keras.

  def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
    if self._restored_metrics is not None:
      for variable, value in zip(self._metrics, self._restored_metrics, strict=True):
        variable.assign(value)
      self._restored_metrics = None
    self._clock = time.monotonic()
    self._epoch_begun, self._step_seconds = (self._clock, int(self.model.step.value)), None

  def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
    step = int(self.model.step.value)
    every = self._config.checkpoint_every
    if self._signal is not None or (every and step % every == 0):
      self.save()
    if int(self.model.skipped_in_a_row.value) >= self._config.max_nonfinite:
      raise UserError(
        f"the loss or a gradient was not finite in {self._config.max_nonfinite} updates in a row, up to update"
        f" {step}; received --learning_rate={self._config.learning_rate} --svi_lr={self._config.svi_lr}; the"
        f" weights of before are in {self._run.checkpoints}; start another run with smaller ones"
      )
    self.check_stop()
    if self.is_out_of_time:
      self.model.stop_training = True  # `fit` validates and ends

  def on_test_begin(self, logs: Any = None) -> None:
    begun, first = self._epoch_begun
    step = int(self.model.step.value)  # waits for the device
    if step > first:
      self._step_seconds = (time.monotonic() - begun) / (step - first)
    # The metrics are still those of training: `evaluate` resets them after this.
    if self._saved_step != step:
      self.save()
    self.check_stop()

  def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
    self.check_stop()

  def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
    """Takes in the validation bound: patience, learning rate, best model; then a checkpoint that knows of it."""
    logs, progress = logs or {}, self.progress
    step = self._take_stock()
    if progress.record_validation(logs["val_bound"], epoch):
      self.checkpoints.save_best(step, logs["val_bound"])
    rate = self.model.optimizer.learning_rate
    row = {"epoch": epoch, "step": step, "learning_rate": float(rate.value)}
    if self._decay_is_due(epoch):
      rate.assign(float(rate.value) * self._config.lr_decay)
      progress.lr_decays.assign_add(1)
      progress.lr_stale_epochs.assign(0)
    progress.epoch.assign(step // self._steps_per_epoch)
    progress.validated_step.assign(step)
    # Before the checkpoint: after a kill between the two, the validation is done again and replaces the row.
    seconds = {"seconds": float(progress.seconds)}
    if self._step_seconds is not None:
      # Of this epoch's updates. The first that a process does also traces.
      seconds["step_seconds"] = self._step_seconds
    self._run.append_metrics(row | logs | seconds)
    self.save()

  def _decay_is_due(self, epoch: int) -> bool:
    config, progress = self._config, self.progress
    if epoch + 1 < config.lr_decay_from:
      progress.lr_stale_epochs.assign(0)
    if config.lr_decay_mode == "every" and int(progress.lr_decays):
      return True
    return 0 < config.lr_patience <= int(progress.lr_stale_epochs)

  def check_stop(self) -> None:
    """Raises `Interrupted` if a stop was asked for. Everything must be saved."""
    if self._signal is not None:
      step = int(self.progress.step)
      raise Interrupted(f"update {step} is saved, and the same command goes on from there", self._signal)
