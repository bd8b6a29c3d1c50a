"""What a worker does: trains a trial, evaluates it, and finds the truth that it is compared with."""

from __future__ import annotations

import contextlib
import sys
import traceback
from pathlib import Path

import keras
import numpy as np

from experiments import rows, trials
from experiments.rows import Budget
from experiments.trials import Trial
from tf_savae.data.dataset import DataSet
from tf_savae.errors import UserError, reason
from tf_savae.evaluation import examples, grid
from tf_savae.evaluation.optimum import mean_elbo, mean_kl
from tf_savae.model import SAVAE
from tf_savae.runs import presets, restore
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory
from tf_savae.training import loop

_BATCH = 250
_BATCH_OF_MANY_DRAWS = 50  # memory grows with examples times draws of a step


def execute(out: Path, trial: Trial, split: str, warm_start: Trial | None, budget: Budget) -> None:
  """Finishes the training of a trial, evaluates it on a split, and writes the files that `trials` reads.

  A trial that fails leaves failure.json with one line and log.txt with the details and everything it printed.

  Args:
    out: the table's directory.
    trial: what to do.
    split: "valid" or "test".
    warm_start: the trained trial whose weights it starts from, if any.
    budget: sizes of the experiment.

  Raises:
    KeyboardInterrupt: Ctrl-C or SIGTERM; the same call resumes the work.
  """
  if trials.facts(out, trial, split) is not None:
    return
  place = trials.run_dir(out, trial)
  place.mkdir(parents=True, exist_ok=True)
  trials.forget_failure(out, trial)
  with (
    open(place / "log.txt", "a", encoding="utf-8") as log,
    contextlib.redirect_stdout(log),
    contextlib.redirect_stderr(log),
  ):
    try:
      _train(config_of(out, trial, warm_start, budget))
      _evaluate(out, trial, split, budget)
    except UserError as error:
      print(f"error: {error}", file=sys.stderr)
      trials.write_failure(out, trial, str(error))
    except Exception as error:  # of one trial; the others may do
      traceback.print_exc()
      trials.write_failure(out, trial, f"{type(error).__name__}: {reason(error)}")
    finally:
      keras.backend.clear_session()


def config_of(out: Path, trial: Trial, warm_start: Trial | None, budget: Budget) -> RunConfig:
  """The settings of the trial's run.

  Raises:
    UserError: they are not allowed.
  """
  settings = rows.run_settings(rows.get(trial.row), trial.candidate, trial.column, budget)
  if warm_start is not None:
    settings["init_from"] = str(trials.run_dir(out, warm_start))
  return presets.make_config(
    **settings,
    run_dir=str(trials.run_dir(out, trial)),
    oracle=trial.reading,
    data_seed=trial.data_seed,
    seed=trial.seed,
  )


def _train(config: RunConfig) -> None:
  run = RunDirectory(config.run_dir)
  if run.is_finished:
    run.check_same_run(config)
    return
  loop.run(config, splits=())  # `_evaluate` does that


def _evaluate(out: Path, trial: Trial, split: str, budget: Budget) -> None:
  changes = rows.test_settings(rows.get(trial.row), budget) if split == "test" else {}
  run, data = restore.load_with_data(trials.run_dir(out, trial), **changes)
  num = budget.best if changes else budget.examples
  found = posterior_values(run.model, data, split, num, budget.draws, is_exact=bool(changes))
  if not np.isfinite(found["bound"]).all():
    share = np.mean(~np.isfinite(found["bound"]))
    raise UserError(f"diverged: the bound of {100 * share:.3g} % of the {split} examples is not finite")
  results = run.results or {}
  more = {
    "draws": budget.draws,
    # Of SVI with the oracle, whose one update trains nothing, it would be the time of tracing.
    "seconds_per_step": trials.step_seconds(out, trial),
    **{name: results.get(name) for name in ("steps", "stopped_by", "best_epoch", "seconds")},
  }
  trials.write_values(out, trial, split, found, more)


def posterior_values(
  model: SAVAE, data: DataSet, split: str, num: int, draws: int, is_exact: bool = False
) -> dict[str, np.ndarray]:
  """−ELBO and KL in nats `[num]` and λ `[num, 2]` of the first `num` examples: at λ_K, and `…_initial` at λ_0.

  Args:
    model: a model with a latent; K is its `eval_k`.
    data: the data set of the examples.
    split: "train", "valid" or "test".
    num: number of examples, or all if there are fewer.
    draws: noise draws per bound, in pairs ε, −ε, the same at λ_0 and λ_K.
    is_exact: whether the bound is by quadrature instead, which shows differences that the noise of draws would hide.
  """

  def bound(batch, params):
    if not is_exact:
      return -mean_elbo(batch, params, draws)
    context = model.decoder.precompute(batch.x)
    return -grid.elbo(model.decoder, batch.x, context, params, family=model.family)

  def values(x, seen):
    batch = model.inference(x, step=seen)
    params, start, _ = model.posterior(batch)
    stages = {"": params}
    if model.method.has_encoder:
      stages["_initial"] = start
    found = {}
    for stage, at in stages.items():
      found |= {f"{name}{stage}": value for name, value in model.family.columns(at).items()}
      found[f"kl{stage}"] = mean_kl(batch, at, draws)
      same = stage and not model.eval_k
      found[f"bound{stage}"] = found["bound"] if same else bound(batch, at)
    return found

  num = min(num, data.num_examples(split))
  batches = data.eval_batches(split, min(_BATCH_OF_MANY_DRAWS if is_exact else _BATCH, num))
  return examples.rows(examples.traced(values, batches), batches, num)
