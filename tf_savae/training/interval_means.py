"""Means of Keras metrics since the last call."""

from __future__ import annotations

import time

from tf_savae.model import SAVAE


class IntervalMeans:
  """Means of a model's metrics between two calls, from metrics that accumulate from the start of the epoch."""

  def __init__(self, model: SAVAE):
    self._model = model
    self._last = self._totals()
    self._examples, self._time = float(model.examples.result()), time.monotonic()

  def since_last(self) -> dict[str, float]:
    """Mean of each metric over the examples since the last call, and `examples_per_second`.

    The result is empty if there were no examples. A metric is left out if all updates since then were skipped.
    """
    examples, now, totals = float(self._model.examples.result()), time.monotonic(), self._totals()
    if examples <= self._examples:
      return {}
    result = {"examples_per_second": (examples - self._examples) / max(now - self._time, 1e-9)}
    for name, (total, count) in totals.items():
      last_total, last_count = self._last[name]
      if count > last_count:
        result[name] = (total - last_total) / (count - last_count)
    self._last, self._examples, self._time = totals, examples, now
    return result

  def _totals(self) -> dict[str, tuple[float, float]]:
    return {name: (float(m.total.numpy()), float(m.count.numpy())) for name, m in self._model.means.items()}
