"""The bar of a terminal, the line an epoch, and the time that is left."""

import fcntl
import io
import os
import pty
import re
import select
import struct
import termios

import pytest

from tests import tiny_runs
from tf_savae.training import progress
from tf_savae.training.progress import ProgressBar


@pytest.fixture(scope="module")
def data():
  return tiny_runs.image_data()  # 3 updates per epoch


@pytest.fixture
def clock(monkeypatch):
  """A clock that a test moves."""
  now = [1000.0]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
  return now


def lines_of(model, data, epochs=2, **kwargs):
  out, logs = io.StringIO(), []
  bar = ProgressBar(epochs, data.steps_per_epoch(tiny_runs.BATCH), out=out, err=io.StringIO(), **kwargs)
  for epoch in range(epochs):
    logs.append(tiny_runs.fit_epoch(model, data, epoch, [bar]))
  return out.getvalue().splitlines(), logs


@pytest.mark.slow
def test_each_epoch_leaves_one_line_with_its_bounds(data):
  lines, logs = lines_of(tiny_runs.image_model(), data)
  assert len(lines) == 2
  for epoch, (line, values) in enumerate(zip(lines, logs, strict=True)):
    start = f"epoch {epoch + 1}/2: train bound {values['bound']:.2f}, valid bound "
    bounds = f"{values['val_bound_initial']:.2f} (λ_0) → {values['val_bound']:.2f} (λ_2), "
    assert line.startswith(f"{start}{bounds}KL {values['val_kl']:.2f}, ")
    assert re.fullmatch(r"[\d.]+ s", line.rsplit(", ", 1)[1])


@pytest.mark.slow
@pytest.mark.parametrize(
  ("method", "k", "pattern"),
  [
    ("autoreg", 0, r"epoch 1/1: train bound [\d.]+, valid bound [\d.]+, [\d.]+ s"),
    ("vae", 0, r"epoch 1/1: train bound [\d.]+, valid bound [\d.]+ \(λ_0\), KL [\d.]+, [\d.]+ s"),
    ("svi", 2, r"epoch 1/1: train bound [\d.]+, valid bound [\d.]+ \(λ_2\), KL [\d.]+, [\d.]+ s"),
  ],
)
def test_the_line_says_only_what_the_method_has(data, method, k, pattern):
  lines, _ = lines_of(tiny_runs.image_model(method, k), data, epochs=1)
  assert re.fullmatch(pattern, lines[0])


class _Model:
  """What the bar reads of a model, without one."""

  latent_dim, eval_k = 2, 5

  class skipped:
    value = 0

    @classmethod
    def numpy(cls):
      return cls.value

  class examples:
    total = 0.0

    @classmethod
    def result(cls):
      return cls.total


LOGS = {"bound": 130.126, "kl": 3.2, "val_bound": 120.5, "val_bound_initial": 121.25, "val_kl": 4.0}


@pytest.fixture
def model():
  _Model.skipped.value, _Model.examples.total = 0, 0.0
  return _Model()


def train(bar, clock, steps, seconds=1.0, examples=20):
  for _ in range(steps):
    clock[0] += seconds
    _Model.examples.total += examples
    bar.on_train_batch_end(0, LOGS)


def validate(bar, clock, seconds):
  bar.on_test_begin()
  clock[0] += seconds
  bar.on_test_batch_end(0)
  bar.on_test_end()


def test_time_left_is_that_of_all_updates_and_validations_to_come(model, clock):
  out = io.StringIO()
  bar = ProgressBar(3, 10, out=out, err=io.StringIO())
  bar.set_model(model)
  bar.on_epoch_begin(0)
  train(bar, clock, 1, seconds=60)  # traces the step: says nothing of the speed
  assert bar.seconds_left() == (0.0, 0.0)
  train(bar, clock, 3, seconds=2)
  assert bar.seconds_left() == (12.0, 12.0 + 20 * 2.0)
  train(bar, clock, 6, seconds=2)
  validate(bar, clock, 7)
  bar.on_epoch_end(0, LOGS)
  bar.on_epoch_begin(1)
  train(bar, clock, 5, seconds=2)
  # Five updates here and ten of the third epoch at 2 s, and two validations of 7 s.
  assert bar.seconds_left() == (10.0, 10.0 + 20.0 + 14.0)


def test_a_resumed_epoch_and_a_last_one_that_is_cut_short_count_their_own_updates(model, clock):
  bar = ProgressBar(5, 10, first_step=7, steps_left=9, out=io.StringIO(), err=io.StringIO())
  bar.set_model(model)
  bar.on_epoch_begin(2)
  train(bar, clock, 2)
  assert bar.seconds_left() == (1.0, 7.0)
  train(bar, clock, 1)
  bar.on_epoch_end(2, {})
  bar.on_epoch_begin(3)
  train(bar, clock, 2)
  assert bar.seconds_left() == (4.0, 4.0)


def test_time_left_is_at_most_what_the_run_may_still_take(model, clock):
  end = clock[0] + 20
  bar = ProgressBar(3, 10, limit=lambda: end - clock[0], out=io.StringIO(), err=io.StringIO())
  bar.set_model(model)
  bar.on_epoch_begin(0)
  train(bar, clock, 5, seconds=1)
  assert bar.seconds_left() == (5.0, 15.0)
  train(bar, clock, 3, seconds=5)
  assert bar.seconds_left() == (0.0, 0.0)


def test_skipped_updates_are_named_in_the_line_of_their_epoch(model, clock):
  out = io.StringIO()
  bar = ProgressBar(2, 2, out=out, err=io.StringIO())
  bar.set_model(model)
  for epoch, skipped in enumerate((3, 0)):
    bar.on_epoch_begin(epoch)
    _Model.skipped.value += skipped
    bar.on_epoch_end(epoch, {"bound": 1.0})
  first, second = out.getvalue().splitlines()
  assert first.endswith("3 updates skipped: loss or gradient not finite")
  assert "skipped" not in second


def test_logs_are_read_at_most_five_times_a_second(model, clock):
  reads = []

  class Logs(dict):
    def items(self):
      reads.append(clock[0])
      return super().items()

  bar = ProgressBar(1, 1000, out=io.StringIO(), err=io.StringIO())
  bar.set_model(model)
  bar.on_epoch_begin(0)
  for _ in range(1000):
    clock[0] += 0.01
    bar.on_train_batch_end(0, Logs(bound=1.0))
  assert 40 <= len(reads) <= 50


def everything_on(terminal):
  """What was written to a terminal until nothing more comes."""
  text = b""
  while select.select([terminal], [], [], 0.2)[0]:
    text += os.read(terminal, 1 << 16)
  return text.decode()


@pytest.mark.parametrize("size", [(24, 110), (0, 0)], ids=["sized", "of unknown size"])
def test_a_terminal_shows_bound_kl_speed_and_times(model, clock, size):
  master, slave = pty.openpty()
  fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
  out = io.StringIO()
  with open(slave, "w", encoding="utf-8") as terminal:
    bar = ProgressBar(2, 10, out=out, err=terminal)
    bar.set_model(model)
    bar.on_epoch_begin(0)
    train(bar, clock, 5, seconds=2, examples=100)
    shown = everything_on(master)
    validate(bar, clock, 3)
    bar.on_epoch_end(0, LOGS)
    bar.close()
    after = everything_on(master)
  os.close(master)
  last = shown.split("\r")[-1]
  assert last.startswith("epoch 1/2 |")
  assert "| 5/10, bound 130.13, KL 3.20, 50 ex/s, left 00:10, run 00" in last
  assert "validation 1/?" in after
  assert after.split("\r")[-2].strip() == ""  # the bar is wiped before the line goes to stdout
  assert out.getvalue().startswith(
    "epoch 1/2: train bound 130.13, valid bound 121.25 (λ_0) → 120.50 (λ_5), KL 4.00"
  )


def test_a_stream_that_has_no_greek_does_not_end_the_run(model, clock):
  raw = io.BytesIO()
  out = io.TextIOWrapper(raw, encoding="ascii")
  bar = ProgressBar(1, 1, out=out, err=io.StringIO())
  bar.set_model(model)
  bar.on_epoch_begin(0)
  bar.on_epoch_end(0, LOGS)
  assert (
    raw.getvalue()
    .decode("ascii")
    .startswith("epoch 1/1: train bound 130.13, valid bound 121.25 (?_0) ? 120.50")
  )
