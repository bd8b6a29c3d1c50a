"""`RunKeeper`, the callback that keeps a run safe: its checkpoints and its metrics."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np

from tf_savae.runs import checkpoints
from tf_savae.runs.beside import CheckpointsBeside
from tf_savae.runs.checkpoints import TrainingProgress
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory
from tf_savae.training.clock import Stopwatch
from tf_savae.training.decay import LearningRateDecay
from tf_savae.training.stopping import Limits, Stopping, StopRequest
from tf_savae.training.team import Team


class RunKeeper(keras.callbacks.Callback):
  """Saves every `checkpoint_every` updates and before and after each validation; holds all state of the schedules.

  A checkpoint holds weights, optimiser, metric states and `TrainingProgress`. Noise, β and the order of the data are
  functions of (seed, step). So a run that resumes from a checkpoint does exactly what it would have done otherwise.

  Args:
    run: the run directory.
    model: a model that is compiled and built.
    steps_per_epoch: updates per pass over the training data.
    limits: what ends training.
    decay: rule for the learning rate.
    checkpoint_every: updates between two checkpoints; 0: none within an epoch.
    keep: how many of the last checkpoints stay.
    team: of devices and workers; default: one device. Its chief alone writes.
    beta: weight of the KL in the bound by which the best model is chosen.

  Attributes:
    progress, checkpoints: where the run stands, and what holds it.
    stopping, request: whether training is over, and whether the user wants it to stop.
  """

  def __init__(
    self,
    run: RunDirectory,
    model: keras.Model,
    steps_per_epoch: int,
    *,
    limits: Limits,
    decay: LearningRateDecay,
    checkpoint_every: int = 0,
    keep: int = 2,
    team: Team | None = None,
    beta: float = 1.0,
  ):
    super().__init__()
    self._team, self._beta = team or Team(), beta
    self._run, self._steps_per_epoch = run, steps_per_epoch
    self._decay, self._every = decay, checkpoint_every
    self.set_model(model)
    self.progress = TrainingProgress()
    is_chief = self._team.is_chief
    self.checkpoints: Any = checkpoints.of_run(run.checkpoints, model, self.progress, keep, is_chief)
    if not is_chief:
      self.checkpoints = CheckpointsBeside(self.checkpoints, self._team.from_chief)
    self._watch = Stopwatch(self.progress.seconds)
    self.stopping = Stopping(limits, steps_per_epoch, model, self.progress, self._watch)
    self.request = StopRequest(is_granted=is_chief)
    self._metrics = checkpoints.metric_states(model)
    self._restored_metrics: list[np.ndarray] | None = None
    self._saved_step: int | None = None
    self._epoch_begun = (time.monotonic(), 0)  # and updates done by then
    self._step_seconds: float | None = None

  @classmethod
  def of(
    cls,
    config: RunConfig,
    run: RunDirectory,
    model: keras.Model,
    steps_per_epoch: int,
    team: Team | None = None,
  ) -> RunKeeper:
    """The keeper that the settings of a run ask for."""
    return cls(
      run,
      model,
      steps_per_epoch,
      limits=Limits.of(config),
      decay=LearningRateDecay(
        config.lr_decay, config.lr_patience, config.lr_decay_from, config.lr_decay_mode == "every"
      ),
      checkpoint_every=config.checkpoint_every,
      keep=config.keep_checkpoints,
      team=team,
      beta=config.beta,
    )

  def restore(self) -> int:
    """Goes to the newest readable checkpoint, or saves a first one; returns the number of updates done."""
    step = self.checkpoints.restore_latest(must_exist=self._run.has_progress)
    if step is None:
      # So that there is always a checkpoint to fall back to, and a disk that is too full is noticed at once.
      self.save()
      self._team.from_chief(0)
      return 0
    if self._team.is_chief:
      self._team.from_chief(step)
    self._saved_step = step
    if not self.stopping.is_validated:
      # Within an epoch. `fit` resets the metrics when it begins: they are put back in its first callback.
      self._restored_metrics = [v.numpy() for v in self._metrics]
    self._run.drop_metrics_after(step)
    return step

  def repeat_epoch(self) -> None:
    """Lets the next `fit` begin with the metrics of now, since the last one made no update."""
    self._restored_metrics = [v.numpy() for v in self._metrics]

  def restore_trained(self) -> int:
    """Goes to the newest readable checkpoint of a run that is only evaluated; returns its updates, 0: there is none."""
    if not self._team.is_chief:
      return self.checkpoints.restore_latest() or 0
    step = self.checkpoints.restore_latest(must_exist=self._run.has_progress)
    self._team.from_chief(-1 if step is None else step)
    return step or 0

  def restore_best(self) -> tuple[int, float] | None:
    """Gives the model the weights of the best validation bound; returns their step and bound, or None."""
    best = self.checkpoints.restore_best()
    if self._team.is_chief:
      self._team.from_chief(-1 if best is None else best[0])
    return best

  def save(self) -> None:
    """Saves a checkpoint of the current state."""
    step = self._take_stock()
    self.checkpoints.save(step)
    self._saved_step = step

  def check_stop(self) -> None:
    """Raises `Interrupted` if a stop was requested. Everything must be saved before."""
    self.request.grant(int(self.progress.step))

  def _take_stock(self) -> int:
    """Updates `progress` to the current state; returns the number of updates done."""
    self._watch.take()
    step = int(self.model.step.numpy())
    self.progress.step.assign(step)
    self.progress.skipped_updates.assign(int(self.model.skipped.numpy()))
    self.progress.skipped_in_a_row.assign(int(self.model.skipped_in_a_row.numpy()))
    return step

  # Hooks of Keras.

  def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
    if self._restored_metrics is not None:
      for variable, value in zip(self._metrics, self._restored_metrics, strict=True):
        variable.assign(value)
      self._restored_metrics = None
    self._watch.restart()
    self._epoch_begun, self._step_seconds = (time.monotonic(), int(self.model.step.numpy())), None

  def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
    step = int(self.model.step.numpy())
    if self.request.signal is not None or (self._every and step % self._every == 0):
      self.save()
    self.check_stop()
    if self.stopping.is_out_of_time:
      self.model.stop_training = True  # `fit` validates and ends

  def on_test_begin(self, logs: Any = None) -> None:
    begun, first = self._epoch_begun
    step = int(self.model.step.numpy())  # waits for the device
    if step > first:
      self._step_seconds = (time.monotonic() - begun) / (step - first)
    # The metrics are still those of training: `evaluate` resets them after this.
    if self._saved_step != step:
      self.save()
    self.check_stop()

  def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
    self.check_stop()

  def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
    """Processes the validation bound (patience, learning rate, best model), then saves a checkpoint."""
    logs, progress = logs or {}, self.progress
    step = self._take_stock()
    bound = logs["val_bound"] if self._beta == 1 else logs["val_nll"] + self._beta * logs["val_kl"]
    if progress.record_validation(bound, epoch):
      self.checkpoints.save_best(step, bound)
    rate = self.model.optimizer.learning_rate
    row = {"epoch": epoch, "step": step, "learning_rate": float(rate.numpy())}
    self._decay.after_epoch(epoch, progress, rate)
    progress.epoch.assign(step // self._steps_per_epoch)
    progress.validated_step.assign(step)
    # Before the checkpoint: after a kill between the two, the validation is done again and replaces the row.
    self._run.append_metrics(row | logs | self._times())
    self.save()

  def _times(self) -> dict[str, float]:
    """Seconds so far, and those of an update of this epoch; the first that a process does also traces."""
    seconds = {"seconds": float(self.progress.seconds)}
    return seconds if self._step_seconds is None else seconds | {"step_seconds": self._step_seconds}
