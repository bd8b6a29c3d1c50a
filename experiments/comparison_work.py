"""What a worker does for a table: trains a task, and evaluates it."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from experiments import comparison, example_values, test_time_sweep
from experiments.comparison import Files, Table, Task
from experiments.learning_curve import Curve, points_of
from experiments.processor_time import ProcessorTime
from tf_savae.atomic_files import read_json, write_json
from tf_savae.data.dataset import DataSet
from tf_savae.errors import UserError, reason
from tf_savae.evaluation import estimates, per_example
from tf_savae.model import SAVAE
from tf_savae.runs import presets, restore
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory
from tf_savae.training import loop

_COUNT = "processor_time.json"  # in a run directory
_ROUND = 64.0  # values are kept to the 64th of a nat, so that they take little room


def execute(
  out: Path, table: Table, task: Task, do: Callable[[Files, Table, Task], None] | None = None
) -> None:
  """Finishes the training of a task, evaluates it, and writes its files.

  A task that fails leaves a file with one line in `failures`, and log.txt in its run directory.

  Args:
    out: directory of the table.
    table: the table.
    task: of the table.
    do: does it, if this is not to train and evaluate as runs do.

  Raises:
    KeyboardInterrupt: Ctrl-C or SIGTERM; the same call resumes the work.
  """
  files = Files(out)
  run_dir = files.run_dir(task)
  run_dir.mkdir(parents=True, exist_ok=True)
  with (
    open(run_dir / "log.txt", "a", encoding="utf-8") as log,
    contextlib.redirect_stdout(log),
    contextlib.redirect_stderr(log),
  ):
    try:
      (do or _do)(files, table, task)
    except UserError as error:
      print(f"error: {error}", file=sys.stderr)
      files.fail(task, str(error))
    except Exception as error:  # of one task; the others may do
      traceback.print_exc()
      files.fail(task, f"{type(error).__name__}: {reason(error)}")
    finally:
      keras.backend.clear_session()


def _do(files: Files, table: Table, task: Task) -> None:
  _train_all(files, table, task)
  if task.is_trial:
    _write_trial(files, task, files.run_dir(task))
    return
  for key, changes in table.evaluations(table.row(task.row)).items():
    if not files.result(key, task.seed).exists():
      _evaluate(files, table, task, key, changes)


def config_of(table: Table, task: Task, run_dir: Path) -> RunConfig:
  """The settings of a task's run. Raises UserError if they are not allowed."""
  return presets.make_config(**table.run_settings(task), run_dir=str(run_dir))


def _train_all(files: Files, table: Table, task: Task) -> None:
  """The training of a task, and the one before it with whose networks it begins."""
  run_dir, row, begins = files.run_dir(task), table.row(task.row), {}
  if row.before is not None:
    first = files.dir_before(task)
    config = presets.make_config(**table.settings_before(task, row.before), run_dir=str(first))
    _train(table, config, row.before.share * table.budget)
    begins = {"init_from": str(first), "init_networks": row.before.networks}
  config = dataclasses.replace(config_of(table, task, run_dir), **begins)
  _train(table, config, table.budget_of(row))


def _train(table: Table, config: RunConfig, budget: float) -> None:
  run_dir = Path(config.run_dir)
  run = RunDirectory(run_dir)
  if run.is_finished:
    run.check_same_run(config)
    return
  count = ProcessorTime(budget, run_dir / _COUNT)
  callbacks = [count, Curve(count, table, config)] if table.curve else [count]
  loop.run(config, callbacks=callbacks, splits=())


def _write_trial(files: Files, task: Task, run_dir: Path) -> None:
  bounds = [float(row["val_bound"]) for row in RunDirectory(run_dir).read_metrics()]
  finite = [bound for bound in bounds if np.isfinite(bound)]
  if not finite:
    raise UserError("diverged: no validation bound is finite")
  files.trial(task).parent.mkdir(parents=True, exist_ok=True)
  write_json(files.trial(task), {"valid_bound": min(finite)})


def _evaluate(files: Files, table: Table, task: Task, key: str, changes: dict[str, Any]) -> None:
  run_dir = files.run_dir(task)
  run, data = restore.load_with_data(run_dir, **changes)
  values = values_of(run.model, data, table, run.config)
  count = read_json(run_dir / _COUNT) or {}
  trained = run.results or {}
  facts = ("steps", "stopped_by", "best_epoch", "epochs", "skipped_updates")
  write_result(
    files,
    table,
    task,
    key,
    changes,
    values,
    data,
    processor_seconds=count.get("seconds"),
    update_seconds=count.get("update_seconds"),
    **{name: trained.get(name) for name in facts},
    **({"curve": points_of(run_dir)} if table.curve else {}),
    **({"sweep": test_time_sweep.of_run(run_dir, table)} if table.sweep else {}),
  )


def values_of(model: SAVAE, data: DataSet, table: Table, config: RunConfig) -> dict[str, np.ndarray]:
  """What a table compares, of a model on its test examples."""
  return example_values.Measure(
    model,
    data,
    "test",
    num=table.test_examples,
    batch_size=config.eval_batch_size,
    bound_samples=table.bound_samples,
    iw_samples=table.iw_samples,
  )()


def write_result(
  files: Files,
  table: Table,
  task: Task,
  key: str,
  changes: dict[str, Any],
  values: dict[str, np.ndarray],
  data: DataSet,
  **more: Any,
) -> None:
  """Writes the files of an evaluation.

  Args:
    files: of the table.
    table: the table.
    task: whose model it is.
    key: of the evaluation.
    changes: its settings that differ from those in training.
    values: of each test example, by `values_of`.
    data: of the run.
    **more: what else is known about the training.

  Raises:
    UserError: a bound is not finite.
  """
  if not np.isfinite(values["nll_bound"]).all():
    share = np.mean(~np.isfinite(values["nll_bound"]))
    raise UserError(f"diverged: the bound of {100 * share:.3g} % of the test examples is not finite")
  for place in (files.values(key, task.seed), files.result(key, task.seed)):
    place.parent.mkdir(parents=True, exist_ok=True)
  per_example.save(files.values(key, task.seed), kept(values), compressed=True)
  # The result last: it says that all is done.
  write_json(
    files.result(key, task.seed),
    {
      "row": task.row,
      "candidate": task.candidate,
      "seed": task.seed,
      **summary(values),
      "test_examples_of_all": data.num_examples("test"),
      "train_examples": data.num_examples("train"),
      "dataset_source": data.source,
      "is_stand_in": data.is_stand_in,
      **more,
      "about": comparison.about(table, task, changes),
    },
  )


def kept(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """What rows are compared by: nats of each example, and one checksum of all examples."""
  nats = {name: np.round(values[name] * _ROUND) / _ROUND for name in ("nll_bound", "nll_iw")}
  return nats | {"digest": np.array([zlib.crc32(values["digest"].tobytes())], np.uint32)}


def summary(values: dict[str, np.ndarray]) -> dict[str, Any]:
  """Means over examples with standard errors `…_se`, and perplexities of text."""
  found: dict[str, Any] = {"examples": len(values["nll_bound"])}
  for name in ("nll_bound", "nll_bound_initial", "nll_iw", "kl", "kl_initial"):
    if name in values:
      one = estimates.mean(values[name])
      found |= {name: one.value, f"{name}_se": one.se}
      if "tokens" in values and name.startswith("nll"):
        found[name.replace("nll", "ppl")] = estimates.perplexity(values[name], values["tokens"]).value
  return found
