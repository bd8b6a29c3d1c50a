"""The time of a run: what training takes, and what may be spent on other things."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import tensorflow as tf


class Stopwatch:
  """Seconds of training over all starts of a run.

  Args:
    total: the variable that holds the seconds and is saved in checkpoints.
  """

  def __init__(self, total: tf.Variable):
    self._total, self._since = total, time.monotonic()

  @property
  def seconds(self) -> float:
    """All seconds until now."""
    return float(self._total) + time.monotonic() - self._since

  def restart(self) -> None:
    """Discards the time since the last `take`, which was not training."""
    self._since = time.monotonic()

  def take(self) -> None:
    """Adds the time until now to the variable."""
    now = time.monotonic()
    self._total.assign_add(now - self._since)
    self._since = now


class Budget:
  """Lets something happen as long as it takes no more than a share of the time; the first time at once."""

  def __init__(self, share: float):
    self._share, self._seconds, self._cost = share, 0.0, 0.0

  def earn(self, seconds: float) -> None:
    """Records that this much time has passed."""
    self._seconds += self._share * seconds

  def allows(self) -> bool:
    """Whether there is time for as much as the last occurrence took."""
    return self._seconds >= self._cost

  @contextlib.contextmanager
  def spending(self) -> Iterator[None]:
    """Measures the time spent in this context. The first time does not count, since it is mostly tracing."""
    first, start = self._cost == 0.0, time.monotonic()
    yield
    self._cost = time.monotonic() - start
    if not first:
      self._seconds -= self._cost
