"""The keeper decides by validation bounds and by the clock, and a resumed run decides the same."""

import time

import numpy as np
import pytest

from tests.training.runs import read_rows
from tf_savae import data
from tf_savae.runs.build import build_model
from tf_savae.runs.directory import open_run
from tf_savae.training import make_config
from tf_savae.training.keeping import RunKeeper

PER_EPOCH = 4


@pytest.fixture(scope="module")
def model():
  """One for all runs here: a keeper's own state is not in it."""
  sizes = {"num_examples": 8, "vocab_size": 6, "length": 3, "hidden": 4, "embedding": 4}
  return build_model(config("unused"), data.load("synthetic", data_dir="", seed=0, **sizes))


def config(directory, **changes):
  settings = {"model": "vae", "optimizer": "sgd", "learning_rate": 1.0, "epochs": 20, "max_steps": 0}
  return make_config(dataset="synthetic", preset="tiny", run_dir=str(directory), **{**settings, **changes})


def started(settings, run, model):
  """A keeper as a new process has it, and the number of updates done."""
  model.step.assign(0)
  model.optimizer.learning_rate.assign(settings.learning_rate)
  model.stop_training = False
  kept = RunKeeper.of(settings, run, model, PER_EPOCH)
  return kept, kept.restore()


def validated(settings, model, bounds, resume=False):
  """Learning rates of the epochs with these validation bounds, and what stopped the run; no update is done."""
  kept = None
  with open_run(settings) as run:
    for epoch, bound in enumerate(bounds):
      if kept is None or resume:
        kept, step = started(settings, run, model)
        assert step == epoch * PER_EPOCH
      assert kept.stopping.stopped_by() is None
      assert not kept.stopping.is_early
      kept.on_epoch_begin(epoch)
      model.step.assign((epoch + 1) * PER_EPOCH)
      kept.on_epoch_end(epoch, {"val_bound": bound})
    return [float(row["learning_rate"]) for row in read_rows(run.path)], kept.stopping.stopped_by()


@pytest.mark.parametrize("resume", [False, True], ids=["in one go", "resumed every epoch"])
def test_the_papers_rule_for_text(resume, model, tmp_path):
  settings = config(
    tmp_path / "run", lr_patience=1, lr_decay_from=3, lr_decay_mode="every", min_learning_rate=0.2
  )
  # The second epoch is worse but too early to count. The fourth starts the decay, which no better one ends.
  bounds = [5.0, 6.0, 4.0, 4.5, 3.0, 2.0]
  rates, stopped_by = validated(settings, model, bounds, resume)
  assert rates == [1, 1, 1, 1, 0.5, 0.25]
  assert stopped_by == "min_learning_rate"


def test_patience_begins_anew_after_a_single_decay(model, tmp_path):
  settings = config(tmp_path / "run", lr_patience=2, lr_decay_from=2)
  # Of the first three, the last two count: neither is better than the first.
  bounds = [5.0, 6.0, 6.0, 4.0, 5.0, 5.0, 5.0]
  rates, stopped_by = validated(settings, model, bounds)
  assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
  assert stopped_by is None


def test_a_learning_rate_equal_to_the_smallest_one_is_not_below_it(model, tmp_path):
  settings = config(tmp_path / "run", learning_rate=0.03, min_learning_rate=0.03)
  assert float(np.float32(0.03)) < 0.03  # as the optimiser holds it
  assert validated(settings, model, [5.0, 4.0])[1] is None


def test_a_run_says_which_setting_ended_it(model, tmp_path):
  for name, changes, bounds in (
    ("epochs", {"epochs": 2}, [5.0, 4.0]),
    ("max_steps", {"max_steps": 2 * PER_EPOCH}, [5.0, 4.0]),
    ("early_stop_patience", {"early_stop_patience": 1}, [5.0, 6.0]),
  ):
    assert validated(config(tmp_path / name, **changes), model, bounds)[1] == name


def test_time_is_counted_over_all_starts_of_a_run(model, tmp_path, monkeypatch):
  now = [0.0]
  monkeypatch.setattr(time, "monotonic", lambda: now[0])
  settings = config(tmp_path / "run", max_minutes=1.5, checkpoint_every=1)

  def update(kept, seconds):
    now[0] += seconds
    kept.model.step.assign(kept.model.step.value + 1)
    kept.on_train_batch_end(0)

  with open_run(settings) as run:
    kept, _ = started(settings, run, model)
    kept.on_epoch_begin(0)
    update(kept, 60)
    assert kept.stopping.seconds_left() == 30
    assert not model.stop_training
    now[0] += 1000  # while nothing runs
    kept, step = started(settings, run, model)
    assert step == 1
    kept.on_epoch_begin(0)
    update(kept, 29)
    assert not model.stop_training
    assert kept.stopping.stopped_by() is None
    update(kept, 2)
    assert model.stop_training
    kept.on_epoch_end(0, {"val_bound": 5.0})
    assert kept.stopping.stopped_by() == "max_minutes"
    assert RunKeeper.of(config(tmp_path / "run"), run, model, PER_EPOCH).stopping.seconds_left() == float(
      "inf"
    )
