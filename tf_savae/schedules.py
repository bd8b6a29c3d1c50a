"""Schedules that are functions of the update's number alone, so that a resumed run needs no state for them."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="tf_savae")
class BetaWarmup(keras.optimizers.schedules.LearningRateSchedule):
  """β of the KL: `start` at the first update, then up by 1 / `warmup_steps` per update, to `end` (paper, appendix).

  With `cycles` above 1 the cyclical schedule of Fu et al. 2019, whose ramps take half of a cycle: β begins anew after
  every 2 · `warmup_steps` updates, and stays `end` after the last cycle. A function of the step alone, so that a
  resumed run needs no state for it.

  Args:
    start: β at step 0, in [0, 1].
    warmup_steps: steps in which β would rise by 1; 0: β is `end` from the start.
    cycles: how often β rises.
    end: β after the warm-up, and the most it is before. Above 1 it is a β-VAE's, 0 an autoencoder's.
  """

  def __init__(self, start: float, warmup_steps: float, cycles: int = 1, end: float = 1.0):
    self.start, self.warmup_steps, self.cycles, self.end = start, warmup_steps, cycles, end

  def __call__(self, step: Any) -> Any:
    if self.warmup_steps == 0:
      return keras.ops.convert_to_tensor(self.end, dtype="float32")
    step = keras.ops.cast(step, "int64")
    if self.cycles > 1:
      period = max(1, round(2 * self.warmup_steps))
      step -= period * keras.ops.minimum(step // period, self.cycles - 1)
    return keras.ops.minimum(self.end, self.start + keras.ops.cast(step, "float32") / self.warmup_steps)

  def get_config(self) -> dict[str, Any]:
    return {"start": self.start, "warmup_steps": self.warmup_steps, "cycles": self.cycles, "end": self.end}


@keras.saving.register_keras_serializable(package="tf_savae")
class KWarmup(keras.optimizers.schedules.LearningRateSchedule):
  """Number of SVI steps of an update: 1 at the first, rising linearly, K from update `warmup_steps` on.

  A function of the update's number alone, so that a resumed run needs no state for it.

  Args:
    k: K, 1 or more.
    warmup_steps: updates until K, 1 or more.
  """

  def __init__(self, k: int, warmup_steps: int):
    self.k, self.warmup_steps = k, warmup_steps

  def __call__(self, step: Any) -> Any:
    step = keras.ops.cast(step, "int64")
    k_now = keras.ops.minimum(self.k, 1 + (self.k - 1) * step // self.warmup_steps)
    return keras.ops.cast(k_now, "int32")

  def get_config(self) -> dict[str, Any]:
    return {"k": self.k, "warmup_steps": self.warmup_steps}
