"""Checkpoints that survive a kill at any moment, a damaged file and a full disk.

This is built on `tf.train.Checkpoint` and `tf.train.CheckpointManager`, which write to a temporary place and rename.
Three things are added. Everything that belongs to a run is really in the checkpoint, while TensorFlow skips variables
silently. If the newest checkpoint is damaged, the one before is used. Lost checkpoints are never taken for a new run.

    checkpoints/ckpt-<step>.*       the last few, with everything
    checkpoints/best/best-<step>.*  the model of the best validation bound
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tf_savae.errors import UserError, reason
from tf_savae.literal_paths import LiteralPath


class TrainingProgress(tf.Module):
  """The progress of a run: all state that schedules need, as variables that are saved in checkpoints.

  Attributes:
    step: updates done, int64, including skipped ones.
    epoch: passes over the training data that are completed and validated.
    validated_step: the update after which validation was done last.
    best_bound, best_epoch: the lowest validation bound in nats so far (∞ at first) and its epoch.
    lr_stale_epochs: epochs since the last improvement or learning rate decay.
    stop_stale_epochs: epochs since the last improvement.
    lr_decays: how often the learning rate was decayed.
    skipped_updates, skipped_in_a_row: updates left out because a loss or gradient was not finite.
    seconds: time spent training, over all starts of the run.
  """

  def __init__(self):
    super().__init__(name="training_progress")

    def counter(name: str) -> tf.Variable:
      return tf.Variable(0, dtype=tf.int64, trainable=False, name=name)

    self.step = counter("step")
    self.epoch = counter("epoch")
    self.validated_step = counter("validated_step")
    self.best_bound = tf.Variable(float("inf"), dtype=tf.float64, trainable=False, name="best_bound")
    self.best_epoch = counter("best_epoch")
    self.lr_stale_epochs = counter("lr_stale_epochs")
    self.stop_stale_epochs = counter("stop_stale_epochs")
    self.lr_decays = counter("lr_decays")
    self.skipped_updates = counter("skipped_updates")
    self.skipped_in_a_row = counter("skipped_in_a_row")
    self.seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="seconds")

  def record_validation(self, bound: float, epoch: int) -> bool:
    """Records an epoch's validation bound (nats, lower is better, NaN never is); returns whether it is the best."""
    if bound < float(self.best_bound.numpy()):
      self.best_bound.assign(bound)
      self.best_epoch.assign(epoch)
      self.lr_stale_epochs.assign(0)
      self.stop_stale_epochs.assign(0)
      return True
    self.lr_stale_epochs.assign_add(1)
    self.stop_stale_epochs.assign_add(1)
    return False

  def as_dict(self) -> dict[str, int | float]:
    """The values, by name."""
    return {variable.name.split(":")[0]: variable.numpy().item() for variable in self.variables}


class Checkpoints:
  """Saves and restores the objects of one run.

  Args:
    directory: directory of the checkpoints; made if missing. The caller must hold the run's lock.
    trackables: name → Keras model, Keras optimizer, tf.Module, or list of tf.Variables. Keras metrics are not
      trackable, so list the `.value` of their variables. All must be built, since later variables would be lost.
    keep: how many of the last checkpoints are kept.
    best: names of the trackables that `save_best` saves: the model, without the optimizer and the progress.
    is_ours: whether this process writes there; else it may only `restore_step`, and cleans nothing up.

  Raises:
    UserError: the directory cannot be made.
    ValueError: something is not built, or has no variables.
  """

  def __init__(
    self,
    directory: str | os.PathLike,
    trackables: Mapping[str, Any],
    keep: int = 2,
    best: Sequence[str] = ("model",),
    is_ours: bool = True,
  ):
    self.directory = Path(directory)
    if is_ours:
      try:
        (self.directory / "best").mkdir(parents=True, exist_ok=True)
      except OSError as error:
        raise UserError(f"cannot make {self.directory}: {reason(error)}") from error
    self._last = _Series(self.directory, "ckpt", trackables, keep, is_ours)
    of_best = {name: trackables[name] for name in best}
    self._best = _Series(self.directory / "best", "best", of_best, keep=1, is_ours=is_ours)

  def save(self, step: int) -> str:
    """Saves everything as the checkpoint of `step`; the oldest is removed if there are more than `keep`.

    Returns:
      The checkpoint's path, without endings.

    Raises:
      UserError: the checkpoint cannot be written; the earlier ones are intact.
    """
    return self._last.save(step, 0.0)

  def save_best(self, step: int, value: float) -> str:
    """Saves the model as the best so far, with its validation bound `value` in nats.

    Call it before `save`. A kill in between then leaves a checkpoint that does not know this best model, and the
    repeated epoch saves it again.

    Raises:
      UserError: the model cannot be written; the earlier best one is intact.
    """
    return self._best.save(step, value)

  def restore_latest(self, *, must_exist: bool = False) -> int | None:
    """Restores the newest checkpoint that can be read.

    A damaged checkpoint is skipped with a warning on stderr and renamed to end in `.damaged`.

    Args:
      must_exist: the caller knows that there was one (`RunDirectory.has_progress`).

    Returns:
      Its step, or None when there has never been a checkpoint.

    Raises:
      UserError: there was a checkpoint, and none can be read.
    """
    found = self._last.restore()
    if found is None and (must_exist or self._best.steps()):
      raise UserError(f"the checkpoints in {self.directory} are gone; {_START_ANOTHER}")
    return None if found is None else found[0]

  def restore_step(self, step: int) -> None:
    """Restores the checkpoint of a step.

    Raises:
      UserError: it is not there, or cannot be read.
    """
    self._last.restore_step(step)

  def restore_best(self) -> tuple[int, float] | None:
    """Restores the model of the best validation bound, for evaluation. A later `save` would mix states.

    Returns:
      Its step and bound, or None when there is none.

    Raises:
      UserError: there was one, and it cannot be read.
    """
    return self._best.restore()

  def restore_best_of(self, step: int) -> tuple[int, float]:
    """Restores the best model, which another process found to be that of a step; returns its step and bound.

    Raises:
      UserError: it is not there, or cannot be read.
    """
    self._best.restore_step(step)
    return step, self._best.value


def of_run(
  directory: str | os.PathLike,
  model: keras.Model,
  progress: TrainingProgress | None = None,
  keep: int = 2,
  is_ours: bool = True,
) -> Checkpoints:
  """The checkpoints of a run: its model, optimiser, metrics and progress.

  Args:
    directory: directory of the checkpoints.
    model: a model that is compiled and built.
    progress: the progress of the run; default: a new one, for callers that only want the model.
    keep: how many of the last checkpoints are kept.
    is_ours: whether this process writes there.
  """
  trackables = {
    "model": model,
    "optimizer": model.optimizer,
    "metrics": metric_states(model),
    "progress": progress or TrainingProgress(),
  }
  return Checkpoints(directory, trackables, keep, is_ours=is_ours)


def metric_states(model: keras.Model) -> list[tf.Variable]:
  """The variables of a model's metrics, which Keras does not let a checkpoint find."""
  return [variable.value for metric in model.metrics for variable in metric.variables]


def saved_steps(directory: Path, name: str) -> list[int]:
  """Steps of all checkpoints `name`-STEP in a directory that exist or that TensorFlow's record lists."""
  pattern = re.compile(rf"{name}-(\d+)")
  state = tf.train.get_checkpoint_state(str(directory))
  names = [Path(path).name for path in state.all_model_checkpoint_paths] if state else []
  names += [path.stem for path in directory.glob(f"{name}-*.index")]
  matches = (pattern.fullmatch(name) for name in names)
  return sorted({int(match.group(1)) for match in matches if match})


_START_ANOTHER = "bring them back, or start another run with another --run_dir"


class _Series:
  """Checkpoints of one kind in one directory, numbered by step."""

  def __init__(
    self, directory: Path, name: str, trackables: Mapping[str, Any], keep: int, is_ours: bool = True
  ):
    self._directory, self._name, self._keep = directory, name, keep
    self._literal = LiteralPath(directory)
    self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
    self._value = tf.Variable(0.0, dtype=tf.float64, trainable=False)
    _require_built(trackables)
    own = {"saved_step": self._step, "saved_value": self._value}
    self._checkpoint = tf.train.Checkpoint(**trackables, **own)
    overlooked = _overlooked_variables(self._checkpoint, trackables.values())
    if overlooked:
      self._checkpoint = tf.train.Checkpoint(**trackables, **own, overlooked=overlooked)
    if not is_ours:
      return
    try:
      tf.train.get_checkpoint_state(str(directory))
    except ValueError:  # empty or garbled: the names of the files say as much
      (directory / "checkpoint").unlink()
    self._clean()
    self._manager = self._new_manager()

  def save(self, step: int, value: float) -> str:
    self._step.assign(step)
    self._value.assign(value)
    before = set(self._files(step))
    try:
      self._manager.save(checkpoint_number=step)
      for old in self.steps()[: -self._keep]:  # those that the manager's record lost in a kill
        for file in self._files(old):
          file.unlink(missing_ok=True)
      return str(self._prefix(step))
    except (tf.errors.OpError, OSError) as error:
      self._clean()
      for file in set(self._files(step)) - before:
        file.unlink(missing_ok=True)
      self._manager = self._new_manager()  # forget what it believes to have saved
      raise UserError(
        f"cannot write checkpoint {self._prefix(step)}: {_first_words(error)};"
        " make room and start the same command again: earlier checkpoints are intact"
      ) from error

  def restore(self) -> tuple[int, float] | None:
    steps = self.steps()
    failures: dict[int, str] = {}
    for step in sorted(steps, reverse=True):
      try:
        status = self._checkpoint.restore(str(self._literal.path / f"{self._name}-{step}"))
        # "Partial" only stops TensorFlow from listing, at exit, what a damaged one did not give.
        status.expect_partial().assert_existing_objects_matched()
      except _UNREADABLE as error:
        failures[step] = _first_words(error)
        continue
      for bad, why in failures.items():
        print(
          f"warning: checkpoint {self._prefix(bad)} is damaged ({why}); going on from step {step}",
          file=sys.stderr,
        )
        for file in self._files(bad):
          file.rename(f"{file}.damaged")
      if failures:
        self._forget_record()
      return int(self._step.numpy()), self.value
    if failures:
      newest = max(failures)
      raise UserError(
        f"no checkpoint in {self._directory} can be read (the newest, {self._name}-{newest}:"
        f" {failures[newest]}); {_START_ANOTHER}"
      )
    return None

  def restore_step(self, step: int) -> None:
    try:
      status = self._checkpoint.restore(str(self._literal.path / f"{self._name}-{step}"))
      status.expect_partial().assert_existing_objects_matched()
    except _UNREADABLE as error:
      raise UserError(
        f"cannot read the chief's checkpoint {self._prefix(step)} ({_first_words(error)}); name a --run_dir on a file"
        " system that all workers share"
      ) from error

  @property
  def value(self) -> float:
    return float(self._value.numpy())

  def steps(self) -> list[int]:
    """Steps of all checkpoints that exist or that the manager's record lists."""
    return saved_steps(self._directory, self._name)

  def _forget_record(self) -> None:
    """Starts the manager's record afresh, without damaged checkpoints; `steps` finds the others by name."""
    (self._directory / "checkpoint").unlink(missing_ok=True)
    self._manager = self._new_manager()

  def _new_manager(self) -> tf.train.CheckpointManager:
    return tf.train.CheckpointManager(
      self._checkpoint, str(self._literal.path), max_to_keep=self._keep, checkpoint_name=self._name
    )

  def _prefix(self, step: int) -> Path:
    return self._directory / f"{self._name}-{step}"

  def _files(self, step: int) -> list[Path]:
    prefix = self._prefix(step)
    return [
      *prefix.parent.glob(f"{prefix.name}.index"),
      *prefix.parent.glob(f"{prefix.name}.data-?????-of-?????"),
    ]

  def _clean(self) -> None:
    """Removes what a kill in the middle of a save leaves behind."""
    for left_over in self._directory.glob(f"{self._name}-*_temp*"):
      if left_over.is_dir():
        shutil.rmtree(left_over, ignore_errors=True)
      else:
        left_over.unlink(missing_ok=True)
    for left_over in self._directory.glob("checkpoint.tmp*"):
      left_over.unlink(missing_ok=True)
    known = set(self.steps())
    for data in self._directory.glob(f"{self._name}-*.data-?????-of-?????"):
      number = data.name.removeprefix(f"{self._name}-").split(".")[0]
      if number.isdigit() and int(number) not in known:
        data.unlink(missing_ok=True)


# What TensorFlow raises for files that are missing, cut short, garbled, or of another model.
_UNREADABLE = (tf.errors.OpError, LookupError, ValueError, AssertionError, RuntimeError, OSError)


def _require_built(trackables: Mapping[str, Any]) -> None:
  for name, trackable in trackables.items():
    if getattr(trackable, "built", True) and _variables(trackable):
      continue
    raise ValueError(
      f"{name} has no variables yet, so a checkpoint would silently leave them out; build it first."
      f" Received: {trackable!r}"
    )


def _variables(trackable: Any) -> list[Any]:
  if isinstance(trackable, tf.Variable):
    return [trackable]
  if isinstance(trackable, Iterable) and not hasattr(trackable, "variables"):
    return [variable for item in trackable for variable in _variables(item)]
  return list(trackable.variables)


def _overlooked_variables(checkpoint: tf.train.Checkpoint, trackables: Iterable[Any]) -> list[tf.Variable]:
  """Variables that `checkpoint` would leave out, such as Keras's seed generators, in a fixed order.

  The metrics of a compiled model are not looked for: they are created when training starts, and the caller has to list
  their states.
  """
  nodes = tf.train.TrackableView(checkpoint).descendants()
  held = {id(_tensorflow_variable(node)) for node in nodes}
  overlooked = []
  for trackable in trackables:
    metrics = {id(v) for v in getattr(trackable, "metrics_variables", [])}
    for variable in _variables(trackable):
      value = _tensorflow_variable(variable)
      if id(value) not in held and id(variable) not in metrics:
        overlooked.append(value)
  return overlooked


def _tensorflow_variable(node: Any) -> Any:
  return node.value if isinstance(node, keras.Variable) else node


def _first_words(error: BaseException) -> str:
  """A short form of TensorFlow's message: its first line, without the names of ops."""
  text = (getattr(error, "message", None) or reason(error)).strip() or type(error).__name__
  line = re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*?\]", "", text.splitlines()[0])
  line = line.rsplit("; ", 1)[-1]  # "/path/of/the/file; No space left on device"
  return line if len(line) <= 160 else f"{line[:157]}..."
