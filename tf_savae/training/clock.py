"""The time of a run: what training takes, and what may be spent beside it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import tensorflow as tf


class Stopwatch:
  """Seconds of training over all starts of a run.

  Args:
    total: variable that holds them, and goes to checkpoints.
  """

  def __init__(self, total: tf.Variable):
    self._total, self._since = total, time.monotonic()

  @property
  def seconds(self) -> float:
    """All until now."""
    return float(self._total) + time.monotonic() - self._since

  def restart(self) -> None:
    """What went by since the last `take` was no training."""
    self._since = time.monotonic()

  def take(self) -> None:
    """Brings the variable up to now."""
    now = time.monotonic()
    self._total.assign_add(now - self._since)
    self._since = now


class Budget:
  """Lets something happen as often as it takes no more than a share of the time; the first time at once."""

  def __init__(self, share: float):
    self._share, self._seconds, self._cost = share, 0.0, 0.0

  def earn(self, seconds: float) -> None:
    """So much time went by."""
    self._seconds += self._share * seconds

  def allows(self) -> bool:
    """Whether there is time for what the last one cost."""
    return self._seconds >= self._cost

  @contextlib.contextmanager
  def spending(self) -> Iterator[None]:
    """Measures what happens within. The first time counts for nothing: it is mostly tracing."""
    first, start = self._cost == 0.0, time.monotonic()
    yield
    self._cost = time.monotonic() - start
    if not first:
      self._seconds -= self._cost
