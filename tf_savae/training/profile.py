"""`Profile`: the TensorFlow profiler of a few updates, for `--profile=100:110`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.runs.options import first_and_last


class Profile(keras.callbacks.Callback):
  """Profiles updates `first` to `last` of a run, counted from 1, with whatever happens between them.

  A profiler that cannot start, for example because another one is running, is a warning, and the run goes on.

  Args:
    directory: directory of a TensorBoard run; the profile goes to `plugins/profile` in it.
    updates: the setting, such as "100:110".
    done: updates done before this start of the run.
    end: the last update of the run.

  Raises:
    UserError: none of the updates is still to come.
  """

  def __init__(self, directory: str | os.PathLike[str], updates: str, *, done: int, end: int):
    super().__init__()
    self._directory, self._updates = Path(directory), updates
    self._first, self._last = first_and_last(updates)
    if self._first > end or self._last <= done:
      raise UserError(
        f"--profile={updates} is not among the updates to come, {done + 1} to {end}; choose some of them"
        if done < end
        else f"--profile={updates}: all {end} updates of the run are done; leave --profile out"
      )
    self._is_over, self._is_on, self._mark = False, False, None

  def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
    if self._is_over:
      return
    update = int(self.model.step.numpy()) + 1
    if update >= self._first and not self._is_on:
      self._start()
    if self._is_on:
      # The name that Keras's callback and TensorFlow's guide give to a step.
      self._mark = tf.profiler.experimental.Trace("train", step_num=update, _r=1)
      self._mark.__enter__()

  def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
    if not self._is_on:
      return
    self._mark.__exit__(None, None, None)
    if int(self.model.step.numpy()) >= self._last:
      self._stop()

  def close(self) -> None:
    """Ends the profile if the run ended within it; warns if the run ended before it."""
    if self._is_on:
      self._stop()
    elif not self._is_over:
      self._warn(f"the run ended after update {int(self.model.step.numpy())}")

  def _start(self):
    try:
      tf.profiler.experimental.start(os.fspath(self._directory))
      self._is_on = True
    except (OSError, tf.errors.OpError) as error:
      self._is_over = True
      self._warn(str(error))

  def _stop(self):
    self._is_on, self._is_over = False, True
    try:
      tf.profiler.experimental.stop()
    except (OSError, tf.errors.OpError) as error:
      self._warn(str(error))

  def _warn(self, why: str) -> None:
    print(f"warning: no profile for --profile={self._updates}: {why}", file=sys.stderr)
