"""Progress of training on a terminal: a bar during each epoch and a line after it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import keras
import tqdm

_REFRESH_SECONDS = 0.2
_MEMORY_SECONDS = 15.0  # how far back the speed is averaged


class ProgressBar(keras.callbacks.Callback):
  """Bound, KL, speed and time left, for a run that calls `fit` once per epoch.

  One object serves all epochs. The bar is drawn only on a terminal; elsewhere each epoch prints one line. Reading the
  logs waits for the device, so they are read only about five times per second to keep training fast.

  Args:
    epochs: passes over the data in the whole run.
    steps_per_epoch: updates per pass.
    first_step: updates of the first epoch that the resumed run had already done.
    steps_left: updates until the run ends; default: until the end of the last epoch, counted from the first epoch.
    limit: a function that gives the seconds that the run may still take; default: no limit.
    out: stream for the line per epoch; default: stdout.
    err: stream for the bar, if it is a terminal; default: stderr.
  """

  def __init__(
    self,
    epochs: int,
    steps_per_epoch: int,
    first_step: int = 0,
    steps_left: int | None = None,
    limit: Callable[[], float] | None = None,
    out: TextIO | None = None,
    err: TextIO | None = None,
  ):
    super().__init__()
    self.epochs, self.steps_per_epoch = epochs, steps_per_epoch
    self.first_step, self.steps_left = first_step, steps_left
    self._limit = limit or (lambda: float("inf"))
    self._out, self._err = out or sys.stdout, err or sys.stderr
    self._bar: tqdm.tqdm | None = None
    self._speed = _Speed()
    self._between_epochs = 0.0  # seconds per epoch besides its updates: validation, logs, checkpoints
    self._valid_batches: int | None = None

  # Hooks of Keras.

  def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
    self._begun = time.monotonic()
    if self.steps_left is None:
      self.steps_left = (self.epochs - epoch) * self.steps_per_epoch - self.first_step
    self._done, self._training_seconds = 0, 0.0
    self._skipped_before = int(self.model.skipped.numpy())
    self._steps_here = min(self.steps_per_epoch - self.first_step, self.steps_left)
    self._speed.pause()
    self._drawn = 0.0
    if self._err.isatty():
      self.close()
      # A terminal that does not report its size, as in some containers, would seem to have no room.
      known = os.get_terminal_size(self._err.fileno()).columns > 0
      size = {"dynamic_ncols": True} if known else {"ncols": 79, "nrows": 24}
      self._bar = tqdm.tqdm(
        total=self.first_step + self._steps_here,
        initial=self.first_step,
        desc=f"epoch {epoch + 1}/{self.epochs}",
        file=self._err,
        leave=False,
        bar_format="{desc} |{bar}| {n_fmt}/{total_fmt}{postfix}",
        **size,
      )

  def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
    self._done += 1
    now = time.monotonic()
    if now - self._drawn < _REFRESH_SECONDS:
      return
    self._drawn = now
    values = {name: float(value) for name, value in (logs or {}).items()}  # waits for the device
    self._speed.tick(time.monotonic(), self._done, float(self.model.examples.result()))
    if self._bar is not None:
      self._bar.n = self.first_step + self._done
      self._show(self._training_text(values))

  def on_test_begin(self, logs: Any = None) -> None:
    self._training_seconds = time.monotonic() - self._begun
    self._tested = 0

  def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
    self._tested += 1
    now = time.monotonic()
    if self._bar is not None and now - self._drawn >= _REFRESH_SECONDS:
      self._drawn = now
      self._bar.n = self.first_step + self._done
      self._show(f"validation {self._tested}/{self._valid_batches or '?'}")

  def on_test_end(self, logs: Any = None) -> None:
    self._valid_batches = self._tested

  def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
    self.close()
    seconds = time.monotonic() - self._begun
    self._between_epochs = seconds - (self._training_seconds or seconds)
    self.steps_left -= self._done
    self.first_step = 0
    self._print(self._epoch_line(epoch, logs or {}, seconds))

  def close(self) -> None:
    """Removes the bar from the terminal, for a run that ends within an epoch."""
    if self._bar is not None:
      self._bar.close()
      self._bar = None

  # Texts.

  def _training_text(self, values: dict[str, float]) -> str:
    parts = [f"bound {values['bound']:.2f}"] if "bound" in values else []
    if self.model.latent_dim and "kl" in values:
      parts.append(f"KL {values['kl']:.2f}")
    if self._speed.seconds_per_step:
      per_second = self._speed.examples_per_second
      parts.append(f"{per_second:.0f} ex/s" if per_second >= 10 else f"{per_second:.1f} ex/s")
      epoch, run = self.seconds_left()
      interval = tqdm.tqdm.format_interval
      parts.append(f"left {interval(epoch)}, run {interval(run)}")
    return ", ".join(parts)

  def seconds_left(self) -> tuple[float, float]:
    """Estimated seconds until this epoch's last update, and until the run's end with all validations."""
    per_step = self._speed.seconds_per_step or 0.0
    steps_after = self.steps_left - self._steps_here
    epochs_after = -(-steps_after // self.steps_per_epoch)
    epoch = (self._steps_here - self._done) * per_step
    run = epoch + steps_after * per_step + (1 + epochs_after) * self._between_epochs
    limit = max(0.0, self._limit())
    return min(epoch, limit), min(run, limit)

  def _epoch_line(self, epoch: int, logs: dict[str, Any], seconds: float) -> str:
    parts = []
    if "bound" in logs:
      parts.append(f"train bound {float(logs['bound']):.2f}")
    if "val_bound" in logs:
      parts.append(f"valid bound {self._valid_bounds(logs)}")
    kl = logs.get("val_kl", logs.get("kl"))
    if self.model.latent_dim and kl is not None:
      parts.append(f"KL {float(kl):.2f}")
    parts.append(f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s")
    skipped = int(self.model.skipped.numpy()) - self._skipped_before
    if skipped:
      parts.append(f"{skipped} updates skipped: loss or gradient not finite")
    return f"epoch {epoch + 1}/{self.epochs}: {', '.join(parts)}"

  def _valid_bounds(self, logs: dict[str, Any]) -> str:
    final = f"{float(logs['val_bound']):.2f}"
    if not self.model.latent_dim:
      return final
    final = f"{final} (λ_{self.model.eval_k})"
    if self.model.eval_k == 0 or "val_bound_initial" not in logs:
      return final
    return f"{float(logs['val_bound_initial']):.2f} (λ_0) → {final}"

  # Output.

  def _show(self, text: str) -> None:
    self._bar.set_postfix_str(text, refresh=False)
    self._bar.refresh()

  def _print(self, line: str) -> None:
    encoding = getattr(self._out, "encoding", None) or "utf-8"
    # A stream without λ shows a question mark rather than end the run.
    print(line.encode(encoding, "replace").decode(encoding), file=self._out, flush=True)


class _Speed:
  """Seconds per step and examples per second, averaged over the last few seconds."""

  def __init__(self):
    self.seconds_per_step: float | None = None
    self.examples_per_second = 0.0
    self._last: tuple[float, int, float] | None = None

  def pause(self) -> None:
    """Excludes the time until the next tick, which is not training."""
    self._last = None

  def tick(self, now: float, steps: int, examples: float) -> None:
    """Records the counts in this epoch at time `now`. The first tick, which includes tracing, is not used."""
    if self._last is not None and steps > self._last[1]:
      seconds = now - self._last[0]
      per_step = seconds / (steps - self._last[1])
      per_second = (examples - self._last[2]) / max(seconds, 1e-9)
      if self.seconds_per_step is None:
        self.seconds_per_step, self.examples_per_second = per_step, per_second
      weight = seconds / (seconds + _MEMORY_SECONDS)
      self.seconds_per_step += weight * (per_step - self.seconds_per_step)
      self.examples_per_second += weight * (per_second - self.examples_per_second)
    self._last = (now, steps, examples)
