"""A model is measured after given processor times while it is trained, and again only where a run went back."""

import types

import pytest

from experiments import learning_curve
from experiments.learning_curve import Curve, points_of


@pytest.fixture
def curve(tmp_path, monkeypatch):
  """Makes a curve at 1, 2 and 3 seconds, whose measurements are numbered."""
  count, measured = types.SimpleNamespace(seconds=0.0), []

  def make(step=0):
    table = types.SimpleNamespace(curve=(1.0, 2.0, 3.0))
    made = Curve(count, table, types.SimpleNamespace(run_dir=str(tmp_path)))
    made.set_model(types.SimpleNamespace(step=types.SimpleNamespace(value=step)))
    made.on_train_begin()
    return made, count

  def now(self):
    measured.append(None)
    return {"nll_bound": 100.0 - len(measured)}

  monkeypatch.setattr(learning_curve.Curve, "_now", now)
  return make


def update(made, count, step, seconds):
  made.model.step.value, count.seconds = step, seconds
  made.on_train_batch_end(0)


def test_a_point_is_measured_when_its_time_is_over(curve, tmp_path):
  made, count = curve()
  for step, seconds in enumerate((0.5, 1.2, 1.4, 1.9, 2.5), start=1):
    update(made, count, step, seconds)
  points = points_of(tmp_path)
  assert [(p["step"], p["seconds"], p["nll_bound"]) for p in points] == [(2, 1.2, 99.0), (5, 2.5, 98.0)]
  update(made, count, 6, 9.0)
  assert len(points_of(tmp_path)) == 3


def test_an_update_that_passes_several_times_is_all_of_their_points(curve, tmp_path):
  made, count = curve()
  update(made, count, 1, 2.5)
  assert [point["step"] for point in points_of(tmp_path)] == [1, 1]


def test_a_resumed_run_measures_again_what_came_after_the_update_that_was_saved(curve, tmp_path):
  made, count = curve()
  update(made, count, 4, 1.1)
  update(made, count, 8, 2.1)
  made, count = curve(step=6)
  update(made, count, 9, 2.2)
  assert [point["step"] for point in points_of(tmp_path)] == [4, 9]
