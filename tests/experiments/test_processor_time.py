"""A training ends after its processor time, whatever else took time, and a resumed one goes on counting."""

import types

import pytest

from experiments import processor_time
from experiments.processor_time import ProcessorTime
from tf_savae.atomic_files import read_json


class Run:
  """Updates that take as long as they are told, on a clock that stands still between them."""

  def __init__(self, monkeypatch, file, budget=0.0, step=0):
    self.clock, self.step = 0.0, step
    monkeypatch.setattr(processor_time.time, "process_time", lambda: self.clock)
    self.callback = ProcessorTime(budget, file)
    value = types.SimpleNamespace(value=step)
    self.model = types.SimpleNamespace(step=value, stop_training=False)
    self.callback.set_model(self.model)
    self.callback.on_train_begin()

  def update(self, *seconds):
    for each in seconds:
      self.clock += 100.0  # a validation, or another epoch's data
      self.callback.on_train_batch_begin(0)
      self.clock += each
      self.model.step.value += 1
      self.callback.on_train_batch_end(0)


def test_only_updates_count_and_tracing_counts_as_an_update(monkeypatch, tmp_path):
  run = Run(monkeypatch, tmp_path / "count.json")
  run.update(30.0, 1.0, 2.0, 1.0)  # the first one traces
  assert run.callback.seconds == pytest.approx(1.0 + 4.0)
  run.update(20.0)  # another shape is traced
  assert run.callback.seconds == pytest.approx(1.5 + 5.5)


def test_training_stops_at_the_budget(monkeypatch, tmp_path):
  run = Run(monkeypatch, tmp_path / "count.json", budget=10.0)
  while not run.model.stop_training:
    run.update(1.0)
  assert run.model.step.value == 10
  endless = Run(monkeypatch, tmp_path / "other.json")
  endless.update(*[1.0] * 50)
  assert not endless.model.stop_training


def test_a_resumed_run_goes_on_counting_from_the_update_that_was_saved(monkeypatch, tmp_path):
  file = tmp_path / "count.json"
  run = Run(monkeypatch, file)
  run.update(*[2.0] * 60)  # an entry every 25 updates
  assert [entry[0] for entry in read_json(file)["counts"]] == [25, 50]
  for saved, seconds in ((50, 100.0), (40, 80.0), (0, 0.0)):
    again = Run(monkeypatch, file, step=saved)
    assert again.callback.seconds == pytest.approx(seconds)
  again = Run(monkeypatch, file, step=50)
  again.update(50.0, 2.0, 2.0)
  again.callback.on_epoch_end(0)
  found = read_json(file)
  assert found["seconds"] == pytest.approx(106.0) and found["update_seconds"] == pytest.approx(2.0)
