"""Rows, a plan, and trials whose files were written by hand rather than by training."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from experiments import comparison, comparison_work, rows, trials
from experiments.comparison import Files, Table
from experiments.plan import Plan, Task, Truth, select
from experiments.trials import Trial
from tf_savae.atomic_files import write_json
from tf_savae.evaluation import per_example


def small_plan(*keys: str, oracle_seeds: int = 2, seeds: int = 2, budget: str = "full") -> Plan:
  """A plan of a few rows."""
  return Plan(select(keys), rows.BUDGETS[budget], oracle_seeds, seeds)


def write_trial(out: Path, trial: Trial, split: str, bound, kl=1.0, bound_initial=None, seconds=0.5) -> None:
  """The files of an evaluated trial."""
  bound = np.asarray(bound, np.float32)
  values = {"bound": bound, "kl": np.full_like(bound, kl)}
  if bound_initial is not None:
    values["bound_initial"] = np.asarray(bound_initial, np.float32)
  trials.run_dir(out, trial).mkdir(parents=True, exist_ok=True)
  trials.write_values(out, trial, split, values, {"seconds_per_step": seconds})


def write_truth(out: Path, reading: str, data_seed: int, nll) -> None:
  """The file of an oracle; its best Gaussians have a gap of 0.25 nats."""
  nll = np.asarray(nll, np.float64)
  zero = np.zeros_like(nll)
  rows_of = {"nll": nll, "step_error": zero, "outside": zero, "best_bound": nll[:2] + 0.25}
  per_example.save(trials.truth_file(out, reading, data_seed), rows_of)


# What workers are given to do instead of training; they import it by name.


def prepare(out: Path) -> None:
  """Nothing is needed."""


def pretend(out: Path, plan: Plan, task: Task) -> None:
  """Writes what training would; who did what, to a file. A candidate 1 dies, a candidate 2 wins."""
  with open(out / "done.txt", "a", encoding="utf-8") as file:
    file.write(f"{os.getpid()} {task}\n")
  if isinstance(task, Truth):
    write_truth(out, task.reading, task.data_seed, [20.0, 21.0])
  elif task.trial.candidate == 1:
    os._exit(3)
  else:
    write_trial(out, task.trial, task.split, [22.0 - task.trial.candidate] * 2)


def work(path: str) -> None:
  """Writes its process id to a file, and waits for a signal; notes in another file that it came."""
  Path(path).write_text(str(os.getpid()), encoding="utf-8")
  try:
    time.sleep(60)
  except KeyboardInterrupt:
    Path(f"{path}.saved").touch()
    raise


def start() -> None:
  """Nothing is needed."""


def write_evaluation(
  files: Files, table: Table, key: str, seed: int, nats, kl: float | None = 1.0, digest: int = 0
) -> None:
  """The files of an evaluation of a table at equal processor time."""
  nats = np.asarray(nats, np.float32)
  values = {
    "nll_bound": nats,
    "nll_iw": nats,
    "tokens": np.full(len(nats), 50),
    "digest": np.arange(len(nats)) + digest,
  }
  if kl is not None:
    values["kl"] = np.full_like(nats, kl)
  for path in (files.values(key, seed), files.result(key, seed)):
    path.parent.mkdir(parents=True, exist_ok=True)
  per_example.save(files.values(key, seed), comparison_work.kept(values), compressed=True)
  row = key.partition("+")[0]
  task = comparison.Task(row, 0, seed)
  found = {
    "row": row,
    "candidate": 0,
    "seed": seed,
    **comparison_work.summary(values),
    "test_examples_of_all": 10,
    "train_examples": 20,
    "dataset_source": "fabricated",
    "is_stand_in": True,
    "processor_seconds": 90.0,
    "update_seconds": 0.05,
    "steps": 1800,
    "stopped_by": "callback",
    "about": comparison.about(table, task, table.evaluations(table.row(row))[key]),
  }
  write_json(files.result(key, seed), found)


def pretend_task(out: Path, table: Table, task: comparison.Task) -> None:
  """Writes what training would, and what was done, to a file. The row vae-bow fails."""
  with open(out / "done.txt", "a", encoding="utf-8") as file:
    file.write(f"{task.name}\n")
  files = Files(out)
  if task.row == "vae-bow":
    files.fail(task, "diverged")
  else:
    for key in table.evaluations(table.row(task.row)):
      write_evaluation(files, table, key, task.seed, [100.0, 120.0])
