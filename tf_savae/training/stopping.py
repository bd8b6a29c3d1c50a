"""What ends training: its length, validation bounds that stop improving, time, signals, losses that are not finite."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from tf_savae.errors import UserError
from tf_savae.runs.checkpoints import TrainingProgress
from tf_savae.runs.config import RunConfig
from tf_savae.training.clock import Stopwatch


class Interrupted(KeyboardInterrupt):
  """The run was asked to stop and everything is saved; `signal` is the number of the signal."""

  def __init__(self, message: str, number: int):
    super().__init__(message)
    self.signal = number


class StopRequest:
  """A request to stop, made by Ctrl-C or SIGTERM and granted once everything is saved.

  Args:
    is_granted: whether this process stops by itself; workers beside a chief end with it.

  Attributes:
    signal: the number of the signal; None: there was no signal.
  """

  def __init__(self, is_granted: bool = True):
    self._is_granted = is_granted
    self.signal: int | None = None

  @contextmanager
  def listening(self) -> Iterator[None]:
    """A context in which the first Ctrl-C or SIGTERM requests an orderly stop, and a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
      yield
      return

    def ask(number, _):
      if self.signal is not None:
        raise KeyboardInterrupt
      self.signal = number

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
      yield
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)

  def grant(self, step: int) -> None:
    """Raises `Interrupted` if a stop was requested; everything up to update `step` must be saved."""
    if self.signal is not None and self._is_granted:
      raise Interrupted(f"update {step} is saved, and the same command goes on from there", self.signal)


@dataclasses.dataclass(frozen=True)
class Limits:
  """When training ends; 0 is no limit.

  Attributes:
    epochs: passes over the training data, 1 or more.
    max_steps: number of updates.
    max_minutes: minutes of training, over all starts of a run.
    early_stop_patience: number of epochs without a better validation bound.
    min_learning_rate: training ends when the learning rate decays below this.
  """

  epochs: int
  max_steps: int = 0
  max_minutes: float = 0.0
  early_stop_patience: int = 0
  min_learning_rate: float = 0.0

  @classmethod
  def of(cls, config: RunConfig) -> Limits:
    """The limits in a run's settings, which have the same names."""
    return cls(**{field.name: getattr(config, field.name) for field in dataclasses.fields(cls)})


class Stopping:
  """Whether training is over, and why. It uses only state kept in checkpoints, so a resumed run decides the same.

  Args:
    limits: what ends training.
    steps_per_epoch: updates per pass over the training data.
    model: a compiled model.
    progress: the progress of the run.
    watch: the time spent in training.

  Attributes:
    by_callback: whether one of the user's callbacks asked `fit` to stop.
  """

  def __init__(
    self,
    limits: Limits,
    steps_per_epoch: int,
    model: keras.Model,
    progress: TrainingProgress,
    watch: Stopwatch,
  ):
    self._limits, self._steps_per_epoch = limits, steps_per_epoch
    self._model, self._progress, self._watch = model, progress, watch
    self.by_callback = False

  @property
  def last_step(self) -> int:
    """The last update of training, unless something ends it earlier."""
    last = self._limits.epochs * self._steps_per_epoch
    return min(last, self._limits.max_steps) if self._limits.max_steps else last

  @property
  def is_validated(self) -> bool:
    """Whether the weights were validated after the last update; true for a run that has not begun."""
    return int(self._progress.validated_step) == int(self._model.step.numpy())

  @property
  def is_early(self) -> bool:
    """Whether training ends between two epochs: by validation bounds, or by a callback."""
    return self._early() is not None

  @property
  def is_due(self) -> bool:
    """Whether no update may follow, because all are done or the time is over."""
    return int(self._model.step.numpy()) >= self.last_step or self.is_out_of_time

  @property
  def is_out_of_time(self) -> bool:
    """Whether `max_minutes` are over."""
    return self.seconds_left() <= 0

  def seconds_left(self) -> float:
    """Seconds of training left until `max_minutes`; infinity without a limit."""
    if not self._limits.max_minutes:
      return float("inf")
    return 60 * self._limits.max_minutes - self._watch.seconds

  def stopped_by(self) -> str | None:
    """The name of the setting that ended training, "callback", or None if training is not over.

    Use this before the best model is restored.
    """
    if not self.is_validated:
      return None
    if self.is_early:
      return self._early()
    if int(self._model.step.numpy()) >= self.last_step:
      return "epochs" if self.last_step == self._limits.epochs * self._steps_per_epoch else "max_steps"
    return "max_minutes" if self.is_out_of_time else None

  def _early(self) -> str | None:
    if 0 < self._limits.early_stop_patience <= int(self._progress.stop_stale_epochs):
      return "early_stop_patience"
    rate = self._model.optimizer.learning_rate.numpy()
    if rate < rate.dtype.type(self._limits.min_learning_rate):
      return "min_learning_rate"
    return "callback" if self.by_callback else None


class NotFinite(keras.callbacks.Callback):
  """Ends a run whose loss or gradient was not finite in many updates in a row.

  Args:
    most: number of such updates in a row after which the run ends.
    checkpoints: directory of the earlier weights, which the error names.
    received: settings that the error names.
  """

  def __init__(self, most: int, checkpoints: Path, received: str):
    super().__init__()
    self._most, self._checkpoints, self._received = most, checkpoints, received

  def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
    if int(self.model.skipped_in_a_row.numpy()) >= self._most:
      raise UserError(
        f"the loss or a gradient was not finite in {self._most} updates in a row, up to update"
        f" {int(self.model.step.numpy())}; received {self._received}; the weights of before are in"
        f" {self._checkpoints}; start another run with smaller ones"
      )
