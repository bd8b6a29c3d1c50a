"""What ends training: its length, validation bounds that stand still, time, signals, losses that are not finite."""

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
  """The run was asked to stop and everything is saved; `signal` is the number of the signal that asked."""

  def __init__(self, message: str, number: int):
    super().__init__(message)
    self.signal = number


class StopRequest:
  """The wish to stop, told by Ctrl-C or SIGTERM and granted where everything is saved.

  Attributes:
    signal: the number of the signal that came; None: none did.
  """

  def __init__(self):
    self.signal: int | None = None

  @contextmanager
  def listening(self) -> Iterator[None]:
    """Within it, the first Ctrl-C or SIGTERM asks for an orderly stop; a second one stops at once."""
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
    """Raises `Interrupted` if a stop was asked for; everything up to update `step` is saved."""
    if self.signal is not None:
      raise Interrupted(f"update {step} is saved, and the same command goes on from there", self.signal)


@dataclasses.dataclass(frozen=True)
class Limits:
  """When training ends; 0 is no limit.

  Attributes:
    epochs: passes over the training data, 1 or more.
    max_steps: updates.
    max_minutes: of training, over all starts of a run.
    early_stop_patience: epochs without a better validation bound.
    min_learning_rate: below which the decayed learning rate ends training.
  """

  epochs: int
  max_steps: int = 0
  max_minutes: float = 0.0
  early_stop_patience: int = 0
  min_learning_rate: float = 0.0

  @classmethod
  def of(cls, config: RunConfig) -> Limits:
    """Those of a run's settings, which have the same names."""
    return cls(**{field.name: getattr(config, field.name) for field in dataclasses.fields(cls)})


class Stopping:
  """Whether training is over, and why, from the state that checkpoints keep: a resumed run decides the same.

  Args:
    limits: what ends it.
    steps_per_epoch: updates in a pass over the training data.
    model: compiled.
    progress: of the run.
    watch: the time that training takes.

  Attributes:
    by_callback: whether a callback of the user's asked `fit` to stop.
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
    """The update that training ends with if nothing ends it before."""
    last = self._limits.epochs * self._steps_per_epoch
    return min(last, self._limits.max_steps) if self._limits.max_steps else last

  @property
  def is_validated(self) -> bool:
    """Whether the weights were validated after the last update; true of a run that has not begun."""
    return int(self._progress.validated_step) == int(self._model.step.value)

  @property
  def is_early(self) -> bool:
    """Whether training ends between two epochs: by validation bounds, or by a callback."""
    return self._early() is not None

  @property
  def is_due(self) -> bool:
    """Whether no update may follow: all are done, or the time is over."""
    return int(self._model.step.value) >= self.last_step or self.is_out_of_time

  @property
  def is_out_of_time(self) -> bool:
    """Whether `max_minutes` are over."""
    return self.seconds_left() <= 0

  def seconds_left(self) -> float:
    """What `max_minutes` leave of the time for training; infinity where it has no limit."""
    if not self._limits.max_minutes:
      return float("inf")
    return 60 * self._limits.max_minutes - self._watch.seconds

  def stopped_by(self) -> str | None:
    """The name of the setting that ended training, "callback", or None if nothing did yet.

    Ask before the best model is restored.
    """
    if not self.is_validated:
      return None
    if self.is_early:
      return self._early()
    if int(self._model.step.value) >= self.last_step:
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
    most: updates.
    checkpoints: where the weights of before are.
    received: the settings that the error names.
  """

  def __init__(self, most: int, checkpoints: Path, received: str):
    super().__init__()
    self._most, self._checkpoints, self._received = most, checkpoints, received

  def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
    if int(self.model.skipped_in_a_row.value) >= self._most:
      raise UserError(
        f"the loss or a gradient was not finite in {self._most} updates in a row, up to update"
        f" {int(self.model.step.value)}; received {self._received}; the weights of before are in"
        f" {self._checkpoints}; start another run with smaller ones"
      )
