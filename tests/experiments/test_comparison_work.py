"""A task of a table is trained once, evaluated as often as its row says, and goes on where it stopped."""

import dataclasses

import numpy as np
import pytest

from experiments import comparison, comparison_work
from experiments.comparison import Before, Files, Row, Table, Task
from tests.training.runs import CompiledOnce, Died, dying, recorded_updates
from tf_savae.atomic_files import read_json
from tf_savae.evaluation import per_example
from tf_savae.runs.directory import RunDirectory

STEPS = {"svi_rule": "natural_multiplicative", "svi_lr": 0.5, "svi_noise": "signs", "svi_samples": 2}
VAE = Row("vae", "VAE", {"model": "vae", "k": 0}, {2: STEPS})
TASK = Task("vae", 0, 0)


def table(*rows, **changes):
  settings = {
    "dataset": "synthetic",
    "preset": "tiny",
    "batch_size": 50,
    "max_steps": 0,
    "checkpoint_every": 1,
  }
  values = {
    "name": "tiny",
    "title": "Tiny",
    "settings": settings,
    "rows": rows or (VAE,),
    "candidates": ({}, {"dropout": 0.5}),
    "reference": "vae",
    "budget": 1e-3,  # a few updates
    "seeds": 1,
    "test_examples": 60,
    "bound_samples": 2,
    "iw_samples": 3,
  }
  return Table(**{**values, **changes})


@pytest.fixture(scope="module")
def out(tmp_path_factory):
  """A table's directory where TASK was trained, killed, trained to its end and evaluated."""
  place = tmp_path_factory.mktemp("table")
  with pytest.MonkeyPatch.context() as patch:
    CompiledOnce(patch)
    with dying("on_train_batch_end", 2), pytest.raises(Died):
      comparison_work.execute(place, table(), TASK)
    assert comparison.open_tasks(table(), Files(place)) == [TASK]
    with recorded_updates() as steps:
      comparison_work.execute(place, table(), TASK)
    failure = read_json(Files(place).failure(TASK))
    assert steps[0] == 2 and failure is None, failure  # the first one was saved
    yield place


def test_the_budget_ends_training_within_its_first_epoch(out):
  found = read_json(Files(out).result("vae", 0))
  assert found["stopped_by"] == "callback" and 2 <= found["steps"] < 8
  assert found["processor_seconds"] >= 1e-3 and not Files(out).failure(TASK).exists()


def test_each_evaluation_has_a_result_and_its_values_which_agree(out):
  assert comparison.open_tasks(table(), Files(out)) == []
  for key in ("vae", "vae+2"):
    found = read_json(Files(out).result(key, 0))
    values = per_example.load(Files(out).values(key, 0))
    assert values["nll_iw"].shape == (60,) and found["examples"] == 60 < found["test_examples_of_all"]
    assert found["nll_bound"] <= found["nll_bound_initial"] and found["kl"] > 0
    for name in ("nll_bound", "nll_iw"):
      assert found[name] == pytest.approx(np.mean(values[name], dtype=np.float64), abs=0.02)
  plain, refined = (per_example.load(Files(out).values(key, 0)) for key in ("vae", "vae+2"))
  np.testing.assert_array_equal(plain["digest"], refined["digest"])
  np.testing.assert_array_equal(plain["digest"].shape, [1])
  assert refined["nll_bound"].mean() < plain["nll_bound"].mean()
  found = [read_json(Files(out).result(key, 0)) for key in ("vae", "vae+2")]
  assert found[0]["nll_bound"] == found[0]["nll_bound_initial"]
  assert found[1]["nll_bound_initial"] == pytest.approx(found[0]["nll_bound"], rel=1e-5)


def test_what_is_done_is_not_trained_again_and_only_what_is_missing_is_evaluated(out):
  files = Files(out)
  before = files.result("vae", 0).stat().st_mtime_ns
  was = read_json(files.result("vae+2", 0))
  files.result("vae+2", 0).unlink()
  with recorded_updates() as steps:
    comparison_work.execute(out, table(), TASK)
  assert steps == [] and files.result("vae", 0).stat().st_mtime_ns == before
  assert read_json(files.result("vae+2", 0)) == was


def test_a_trial_leaves_its_validation_bound_and_meets_no_test_data(out):
  trial = dataclasses.replace(TASK, is_trial=True)
  with recorded_updates() as steps:
    comparison_work.execute(out, table(tune=True), trial)
  assert steps == []  # it is the training of TASK
  assert Files(out).trial_bound(trial) > 0


def test_a_task_that_fails_says_why_in_one_line(out):
  bad = dataclasses.replace(VAE, key="bad", settings={**VAE.settings, "encoder": "resnet"})
  comparison_work.execute(out, table(bad), Task("bad", 0, 0))
  found = read_json(Files(out).failure(Task("bad", 0, 0)))
  assert found["reason"].startswith("--encoder") and "\n" not in found["reason"]


@pytest.mark.parametrize("model", ["autoreg", "svi"])
def test_methods_without_an_encoder_have_no_values_at_its_posterior(tmp_path, model):
  row = Row(model, model, {"model": model, "k": 2})
  comparison_work.execute(tmp_path, table(row), Task(model, 0, 0))
  found = read_json(Files(tmp_path).result(model, 0))
  assert "nll_bound_initial" not in found and ("kl" in found) == (model == "svi")
  if model == "autoreg":
    assert found["nll_bound"] == found["nll_iw"]


@pytest.mark.slow
def test_a_run_before_takes_its_share_and_gives_its_encoder(tmp_path):
  row = Row("late", "VAE", {"model": "vae", "k": 0}, before=Before({"beta": 0.0, "beta_start": 0.0}))
  task = Task("late", 0, 0)
  comparison_work.execute(tmp_path, table(row, reference="late"), task)
  files = Files(tmp_path)
  found = read_json(files.result("late", 0))
  assert read_json(files.failure(task)) is None and found["about"]["pretraining"] == dict(row.before.settings)
  config = RunDirectory(files.run_dir(task)).read_config()
  assert (config.init_from, config.init_networks) == (str(files.dir_before(task)), "encoder")
  assert config.beta == 1 and RunDirectory(files.dir_before(task)).read_config().beta == 0
  whole = table(row, budget=90.0, reference="late")
  assert whole.budget_of(row) == pytest.approx(60) and table(budget=90.0).budget_of(VAE) == 90
