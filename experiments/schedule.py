"""Does the tasks of a plan with worker processes, and resumes where a killed run stopped. No TensorFlow."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tqdm

from experiments import pool, rows, trials
from experiments.plan import Evaluate, Plan, Task, Truth
from experiments.trials import Trial
from tf_savae.atomic_files import read_json, write_json
from tf_savae.errors import UserError

_TASKS_OF_A_WORKER = pool.TASKS_OF_A_WORKER


def check_settings(out: Path, plan: Plan) -> None:
  """Compares a plan with that of the table in `out`, if there is one, and stores it.

  Rows and seeds may be added. A row may change where nothing of it was trained.

  Raises:
    UserError: they do not go together, or `out` cannot be written.
  """
  path = out / "settings.json"
  stored = read_json(path) or {}
  given = {
    "budget": next(name for name, budget in rows.BUDGETS.items() if budget == plan.budget),
    "oracle_seeds": plan.oracle_seeds,
    "seeds": plan.seeds,
  }
  if stored and stored.get("budget") != given["budget"]:
    was, now = stored.get("budget"), given["budget"]
    raise UserError(f"--out={out} was begun with --budget={was}; received {now}; use another --out")
  for name in ("oracle_seeds", "seeds"):
    was = stored.get(name, 0)
    if given[name] < was:
      raise UserError(
        f"--out={out} was begun with --{name}={was}, which may only grow; received {given[name]}; use another --out"
      )
  of_rows = dict(stored.get("rows", {}))
  for row in plan.rows:
    settings = _settings_of(row.key, plan)
    trained = next(out.glob(f"runs/{row.key}.c*/config.json"), None)
    if trained and row.key in of_rows and of_rows[row.key] != settings:
      raise UserError(
        f"--out={out} was begun with other settings of row {row.key}{_difference(of_rows[row.key], settings)}; use"
        f" another --out, or remove {out}/runs/{row.key}.*"
      )
    of_rows[row.key] = settings
  out.mkdir(parents=True, exist_ok=True)
  write_json(path, {**given, "rows": of_rows})


def _settings_of(key: str, plan: Plan) -> dict[str, Any]:
  """What the runs of a row depend on, as JSON: the row that they begin from included."""
  row = rows.get(key)
  candidates = rows.candidates(row, plan.budget)
  columns = {
    column: [rows.run_settings(row, candidate, column, plan.budget) for candidate in candidates]
    for column in row.columns
  }
  return columns | ({"after": _settings_of(row.after, plan)} if row.after else {})


def _difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
  """The first setting that differs, in words."""
  for column in was.keys() & now.keys() - {"after"}:
    for one, other in zip(was[column], now[column], strict=False):
      for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
          return f": {name} was {one.get(name)}, now {other.get(name)}"
  return ""


class Progress:
  """The tasks that are done, read from the files; a task that is done is not checked again."""

  def __init__(self, out: Path):
    self._out = out
    self._bounds: dict[tuple[Trial, str], float] = {}

  def bound(self, trial: Trial, split: str) -> float | None:
    """As `trials.bound`."""
    key = (trial, split)
    if key not in self._bounds:
      found = trials.bound(self._out, trial, split)
      if found is None:
        return None
      self._bounds[key] = found
    return self._bounds[key]

  def has_truth(self, truth: Truth) -> bool:
    """Whether it was found."""
    return trials.truth_file(self._out, truth.reading, truth.data_seed).exists()

  def is_done(self, task: Task) -> bool:
    """Whether nothing is left to do of a task; it may have failed."""
    if isinstance(task, Truth):
      return self.has_truth(task)
    return self.bound(task.trial, task.split) is not None


def perform(out: Path, plan: Plan, task: Task) -> None:
  """A task, in a worker."""
  from experiments import execution, truth

  if isinstance(task, Truth):
    truth.write(out, task.reading, task.data_seed, plan.budget)
  else:
    execution.execute(out, task.trial, task.split, task.after, plan.budget)


def run(
  out: Path,
  plan: Plan,
  num_workers: int,
  perform: Callable[[Path, Plan, Task], None] = perform,
  prepare: Callable[[Path], None] = pool.prepare,
) -> None:
  """Does what the plan says and is not done. Trials that failed before are tried again.

  Args:
    out: the table's directory.
    plan: what to do.
    num_workers: processes.
    perform, prepare: what they do, by tasks and before the first one.

  Raises:
    UserError: something else than a trial went wrong; the rest of the plan is done.
    KeyboardInterrupt: Ctrl-C or SIGTERM. Runs in training have saved; the same call goes on.
  """
  for file in out.glob("runs/*/failure.json"):
    file.unlink()
  progress = Progress(out)
  work, start = functools.partial(perform, out, plan), functools.partial(prepare, out)

  def open_tasks() -> list[Task]:
    return plan.open(progress.bound, progress.has_truth)

  with _bar(plan, progress) as bar:

    def after(task: Task, problem: str | None) -> bool:
      if problem is not None and isinstance(task, Evaluate):
        with contextlib.suppress(UserError):  # it is told at the end
          trials.write_failure(out, task.trial, problem)
      _tell(bar, out, task, progress)
      return progress.is_done(task)

    broken = pool.carry_out(open_tasks, num_workers, work, start, after, _TASKS_OF_A_WORKER)
  if broken:
    task, problem = next(iter(broken.items()))
    raise UserError(f"{_name(task)} could not be done: {problem}; the same command tries again")


def _bar(plan: Plan, progress: Progress) -> tqdm.tqdm:
  done = sum(progress.has_truth(truth) for truth in plan.truths())
  for row in plan.rows:
    for column in row.columns:
      searched = [(trial, "valid") for trial in plan.searched(row, column)]
      finals = [(trial, "test") for trial in plan.finals(row, column, progress.bound) or []]
      done += sum(progress.bound(*one) is not None for one in [*searched, *finals])
  return tqdm.tqdm(
    total=plan.total(),
    initial=done,
    desc="synthetic",
    unit="trial",
    smoothing=0,
    disable=not sys.stderr.isatty(),
    bar_format="{desc}: {n_fmt}/{total_fmt} trials |{bar}| {elapsed}, left {remaining}{postfix}",
  )


def _tell(bar: tqdm.tqdm, out: Path, task: Task, progress: Progress) -> None:
  bar.n += 1
  text = _name(task)
  if isinstance(task, Evaluate):
    bound = progress.bound(task.trial, task.split)
    failed = bound is None or bound == float("inf")
    text += f": FAILED, {trials.failure(out, task.trial)}" if failed else f": {bound:.3f} nats"
  if bar.disable:
    print(f"{bar.n}/{bar.total} {text}", flush=True)
  else:
    bar.set_postfix_str(text)
    bar.refresh()


def _name(task: Task) -> str:
  if isinstance(task, Truth):
    return f"truth {task.reading} d{task.data_seed}"
  return f"{task.trial.name} {task.split}"
