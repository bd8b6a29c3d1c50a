"""A trial of the synthetic table is trained once, evaluated once, and goes on where it stopped."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from experiments import execution, rows, schedule, trials
from experiments.plan import Evaluate
from experiments.trials import Trial
from tests.experiments.fabricated import small_plan
from tests.training.runs import CompiledOnce, Died, dying, recorded_updates
from tf_savae.evaluation import grid
from tf_savae.runs import restore

BUDGET = rows.BUDGETS["tiny"]
VAE = Trial("train-k0", 0, "oracle")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
  """A table's directory with small data, where VAE was trained, killed, trained to its end and evaluated."""
  place = tmp_path_factory.mktemp("synthetic")
  budget = dataclasses.replace(BUDGET, settings={**BUDGET.settings, "checkpoint_every": 1})
  with pytest.MonkeyPatch.context() as patch:
    CompiledOnce(patch)
    with dying("on_train_batch_end", 2), pytest.raises(Died):
      execution.execute(place, VAE, "test", None, budget)
    assert trials.bound(place, VAE, "test") is None
    with recorded_updates() as steps:
      execution.execute(place, VAE, "test", None, budget)
    assert steps == [2], trials.failure(place, VAE)  # the first one was saved
    yield place


def test_a_trial_leaves_the_bound_and_posterior_of_each_example(out):
  values, facts = trials.values(out, VAE, "test"), trials.facts(out, VAE, "test")
  assert {name: v.shape for name, v in values.items() if not name.endswith("_initial")} == {
    "bound": (40,),
    "kl": (40,),
    "mean": (40, 2),
    "log_var": (40, 2),
  }
  assert facts["bound"] == pytest.approx(values["bound"].mean(dtype=np.float64))
  assert (facts["row"], facts["split"], facts["examples"], facts["steps"]) == ("train-k0", "test", 40, 2)
  np.testing.assert_array_equal(values["bound"], values["bound_initial"])  # a VAE: λ_K is λ_0
  assert "train bound" in (trials.run_dir(out, VAE) / "log.txt").read_text()


def test_bounds_of_a_trial_are_those_of_its_posteriors_up_to_noise(out):
  run, data = restore.load_with_data(trials.run_dir(out, VAE))
  found = execution.posterior_values(run.model, data, "test", 40, draws=400)
  x = next(iter(data.eval_batches("test", 40)))
  params = run.model.refine(x)
  np.testing.assert_allclose(found["mean"], params.mean, rtol=1e-5, atol=1e-6)
  decoder = run.model.decoder
  exact = -tf.function(lambda: grid.elbo(decoder, x, decoder.precompute(x), params))().numpy()
  assert abs(np.mean(found["bound"] - exact)) < 0.1


def test_what_is_done_is_neither_trained_nor_evaluated_again(out):
  place = trials.run_dir(out, VAE)
  before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
  execution.execute(out, VAE, "test", None, BUDGET)
  assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
  with recorded_updates() as steps:
    execution.execute(out, VAE, "valid", None, BUDGET)  # another split of a trained model
  assert steps == [] and trials.facts(out, VAE, "valid")["split"] == "valid"


def test_a_trial_that_fails_says_why_in_one_line(out):
  trial = Trial("ablation-warm", 0, "oracle")
  execution.execute(out, trial, "test", Trial("vae-adam", 0, "oracle"), BUDGET)
  reason = trials.failure(out, trial)
  assert reason.startswith("--init_from=") and "holds no run" in reason and "\n" not in reason
  assert trials.bound(out, trial, "test") == float("inf")


def test_a_bound_that_is_not_finite_is_a_failure(out, monkeypatch):
  values = {"bound": np.array([1.0, np.nan, np.inf, 2.0])}
  monkeypatch.setattr(execution, "posterior_values", lambda *_, **__: values)
  execution.execute(out, VAE, "train", None, BUDGET)
  assert trials.failure(out, VAE) == "diverged: the bound of 50 % of the train examples is not finite"
  assert trials.bound(out, VAE, "train") == float("inf")
  trials.forget_failure(out, VAE)


def test_tasks_are_performed_by_kind(out):
  before = trials.facts(out, VAE, "test")
  schedule.perform(out, small_plan("train-k0", budget="tiny"), Evaluate(VAE, "test"))
  assert trials.facts(out, VAE, "test") == before
