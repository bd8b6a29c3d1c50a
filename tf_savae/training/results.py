"""The end of a run: its best model is evaluated, drawn and described in results.json."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tqdm

from tf_savae.data.batches import steps_per_epoch
from tf_savae.data.dataset import DataSet
from tf_savae.evaluation import enough_steps, per_example
from tf_savae.evaluation.bounds import Evaluator
from tf_savae.kind import KINDS
from tf_savae.model import SAVAE
from tf_savae.runs.checkpoints import TrainingProgress
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory
from tf_savae.training.keeping import RunKeeper
from tf_savae.training.summary import next_steps, summary_table
from tf_savae.training.team import Team
from tf_savae.training.tensorboard import TensorBoardLogger

# Settings of the steps that made λ_K.
_STEPS = ("svi_rule", "svi_noise", "svi_samples", "svi_lr")


def finish(
  config: RunConfig,
  run_dir: RunDirectory,
  data: DataSet,
  model: SAVAE,
  keeper: RunKeeper,
  board: TensorBoardLogger | None,
  splits: Sequence[str],
  team: Team,
) -> dict[str, Any]:
  """Evaluates the best model on `splits`, writes results.json, and prints the table.

  All devices and workers evaluate together. The chief alone draws pictures and writes.

  Args:
    config: the settings.
    run_dir: the run directory.
    data: the data to evaluate on.
    model: the model, with any weights; those of the best validation bound are restored.
    keeper: holds the checkpoints and the progress of the run.
    board: receives the results for TensorBoard; None: they are not logged.
    splits: names of splits.
    team: of devices and workers.

  Returns:
    The content of results.json.
  """
  stopped_by = keeper.stopping.stopped_by()
  best = keeper.restore_best()
  results = {
    **_about(config, data, model),
    **_course(config, run_dir, keeper.progress, None if best is None else best[0]),
    "stopped_by": stopped_by,  # None: training is not over
    **_of_some_runs(config, data),
    **_evaluated(config, run_dir, data, model, splits, keeper.check_stop, team.is_chief),
    **_enough(config, data, model, splits),
  }
  if not team.is_chief:
    team.from_chief()  # which has written them
    return results
  kind = KINDS.get(data.kind)
  kind.save_pictures(model, data, run_dir.path)
  if config.eval_file:
    path = run_dir.write_results_of(config.eval_file, results)
    after = f"written to {path}"
  else:
    run_dir.write_results(results, training_finished=None if config.eval_only else True)
    after = next_steps(run_dir.path, writes=kind.writes, encodes=model.method.has_latent)
  if board is not None:
    board.finish(model, results)
  print(f"\n{summary_table(results)}\n\n{after}", flush=True)
  team.from_chief()
  return results


def _about(config: RunConfig, data: DataSet, model: SAVAE) -> dict[str, Any]:
  """Entries of results.json about the model and the data."""
  return {
    "dataset": data.name,
    "dataset_source": data.source,
    "is_stand_in": data.is_stand_in,
    **data.facts,
    **data.counts,
    "preset": config.preset,
    "model": config.model,
    "k": config.k,
    "eval_k": model.eval_k,
    "seed": config.seed,
    **(config.values(_STEPS) if model.eval_k else {}),
  }


def _course(
  config: RunConfig, run_dir: RunDirectory, progress: TrainingProgress, best_step: int | None
) -> dict[str, Any]:
  """Entries about the course of training. Epochs refer to the run's own data, even if another file is evaluated."""
  train_examples = run_dir.data_facts()["train"]
  per_epoch = steps_per_epoch(train_examples, config.batch_size)
  epochs, rest = divmod(int(progress.step), per_epoch)
  return {
    "steps": int(progress.step),
    "epochs": int(progress.epoch),
    # None: no validation bound was finite, so the last weights are evaluated.
    "best_epoch": None if best_step is None else -(-best_step // per_epoch),
    "examples": epochs * train_examples + rest * config.batch_size,
    "skipped_updates": int(progress.skipped_updates),
    "seconds": float(progress.seconds),
  }


def _of_some_runs(config: RunConfig, data: DataSet) -> dict[str, Any]:
  result = KINDS.get(data.kind).results(config)
  if config.init_from:
    result["init_from"] = config.init_from
  if config.eval_file:
    result["eval_file"] = config.eval_file
  return result


def _enough(config: RunConfig, data: DataSet, model: SAVAE, splits: Sequence[str]) -> dict[str, Any]:
  """How many of several steps are enough, on the last of the splits."""
  if not splits or not model.latent_dim or model.eval_k < 2:
    return {}
  batch_size = min(config.eval_batch_size, enough_steps.EXAMPLES)
  return {"enough_steps": enough_steps.find(model, data, splits[-1], batch_size)}


def _evaluated(
  config: RunConfig,
  run_dir: RunDirectory,
  data: DataSet,
  model: SAVAE,
  splits: Sequence[str],
  check_stop: Callable[[], None],
  writes: bool,
) -> dict[str, Any]:
  """The results of the `Evaluator` for each split, with a bar on a terminal; `check_stop` is called per batch.

  The values of each test example are kept where this process `writes`.
  """
  compiled = config.deterministic and KINDS.get(data.kind).has_one_shape
  evaluate = Evaluator(model, config.iw_samples, config.bound_samples, jit_compile=compiled)
  found = {}
  for split in splits:
    is_kept = writes and split == "test" and not config.eval_file
    each = run_dir.path / per_example.TEST_FILE if is_kept else None
    bar = functools.partial(tqdm.tqdm, desc=f"evaluate {split}", leave=False, disable=not sys.stderr.isatty())
    with bar(total=data.num_examples(split)) as progress:

      def after_batch(examples: int, progress: tqdm.tqdm = progress) -> None:
        progress.update(examples)
        check_stop()

      found[split] = evaluate(data, split, config.eval_batch_size, after_batch, save_to=each)
  return found
