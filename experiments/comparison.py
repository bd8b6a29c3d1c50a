"""A table of methods on one data set, trained for equally much processor time: rows, tasks, files. No TensorFlow.

A row is a method with its settings. It is trained with each seed, and evaluated on test data with the run's own steps
and with others. With a search, each row first tries equally many settings with the first seed, and validation chooses.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_savae.atomic_files import read_json, write_json
from tf_savae.errors import UserError

Settings = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Before:
  """A run before a row's own, with whose networks it begins.

  Attributes:
    settings: those that override the row's.
    networks: what the row's run takes over, as `--init_networks`.
    share: of the budget.
  """

  settings: Settings
  networks: str = "encoder"
  share: float = 1 / 3

  def as_json(self) -> dict[str, Any]:
    """What a result depends on: the settings, and what differs from the defaults."""
    others = {"networks": self.networks, "share": self.share}
    defaults = {field.name: field.default for field in dataclasses.fields(self)}
    return {**self.settings, **{name: value for name, value in others.items() if value != defaults[name]}}


@dataclasses.dataclass(frozen=True)
class Row:
  """A method with the settings that it is run with.

  Attributes:
    key: its name in files and flags.
    name: its name on the page.
    settings: settings of its runs, which override those of the table.
    refined: number of steps → settings of such steps at test time, for further evaluations of the same model.
    paper: what the paper reports for it, as text.
    before: the run before, with whose networks the row's runs begin; None: there is none.
    fixed: settings that a search leaves as they are, because the row is about them or cannot have others.
  """

  key: str
  name: str
  settings: Settings
  refined: Mapping[int, Settings] = dataclasses.field(default_factory=dict)
  paper: str = "–"
  before: Before | None = None
  fixed: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Table:
  """What one directory of results is about.

  Attributes:
    name: of the table, in file names.
    title: heading of its page.
    settings: arguments of `presets.make_config` that all runs share.
    rows: all of them, in the order of importance.
    only: keys of those to do, in the order in which to do them; None: all. The page shows what is done of all rows.
    candidates: settings that a search tries for each row; the first one is empty.
    reference: key of the row with which others are compared.
    budget: seconds of processor time per training; 0: until validation stops improving.
    seeds: trainings of each row.
    tune: whether there is a search.
    test_examples: number of test examples; None: all.
    bound_samples, iw_samples: draws per example.
    curve: seconds of processor time after which the model is measured on test data, as it is then; none: it is not.
    curve_examples: number of test examples for that.
    sweep: numbers of SVI steps at test time at which the bound is measured, too; none: it is not.
    sweep_examples: number of test examples for that.
    command: the command line that makes the table, for its page.
  """

  name: str
  title: str
  settings: Settings
  rows: tuple[Row, ...]
  candidates: tuple[Settings, ...]
  reference: str
  budget: float
  seeds: int
  only: tuple[str, ...] | None = None
  tune: bool = False
  test_examples: int | None = None
  bound_samples: int = 16
  iw_samples: int = 500
  curve: tuple[float, ...] = ()
  curve_examples: int = 300
  sweep: tuple[int, ...] = ()
  sweep_examples: int = 200
  command: str = ""

  @property
  def wanted(self) -> tuple[Row, ...]:
    """The rows to do, in that order. Raises UserError for a key that no row has."""
    return select(self.rows, self.only)

  def row(self, key: str) -> Row:
    """The row of a key. Raises UserError if there is none."""
    return next(iter(select(self.rows, [key])))

  def run_settings(self, task: Task) -> dict[str, Any]:
    """Arguments of `presets.make_config` for a task's training, without its directory."""
    row = self.row(task.row)
    candidate = {k: v for k, v in self.candidates[task.candidate].items() if k not in row.fixed}
    endless = {"epochs": 100_000} if self.budget else {"early_stop_patience": 3, "epochs": 200}
    return {**self.settings, **endless, **row.settings, **candidate, "seed": task.seed}

  def settings_before(self, task: Task, before: Before) -> dict[str, Any]:
    """The same for the run before it."""
    return {**self.run_settings(task), **before.settings}

  def budget_of(self, row: Row) -> float:
    """Seconds of processor time for the row's own training, without one before it."""
    return self.budget if row.before is None else (1 - row.before.share) * self.budget

  def evaluations(self, row: Row) -> dict[str, dict[str, Any]]:
    """Key of each evaluation of a row → settings that differ from those in training."""
    refined = {
      f"{row.key}+{steps}": {"k": steps, "eval_k": steps, **settings}
      for steps, settings in row.refined.items()
    }
    return {row.key: {}, **refined}

  def name_of(self, key: str) -> str:
    """The name of an evaluation on the page."""
    row, _, steps = key.partition("+")
    name = self.row(row).name
    return f"{name}, {steps} natural step{'s' * (steps != '1')} at test time" if steps else name


@dataclasses.dataclass(frozen=True)
class Task:
  """A training of a row, and what is to be done with it.

  Attributes:
    row: key of the row.
    candidate: index into the table's candidates.
    seed: of training.
    is_trial: whether it is part of a search, and meets validation data alone.
  """

  row: str
  candidate: int
  seed: int
  is_trial: bool = False

  @property
  def name(self) -> str:
    """Of its run directory."""
    return f"{self.row}.c{self.candidate}.s{self.seed}"


class Files:
  """Where things are in a table's directory, and what is done."""

  def __init__(self, out: Path):
    self.out = out

  def run_dir(self, task: Task) -> Path:
    """Where the task is trained."""
    return self.out / "runs" / task.name

  def dir_before(self, task: Task) -> Path:
    """Where the run before it is."""
    return self.out / "runs" / f"{task.name}.pretraining"

  def result(self, key: str, seed: int) -> Path:
    """The result of an evaluation."""
    return self.out / "results" / f"{key}.s{seed}.json"

  def values(self, key: str, seed: int) -> Path:
    """Its values of each example."""
    return self.out / "values" / f"{key}.s{seed}.npz"

  def trial(self, task: Task) -> Path:
    """The validation bound of a trial."""
    return self.out / "trials" / f"{task.name}.json"

  def failure(self, task: Task) -> Path:
    """Why a task failed."""
    return self.out / "failures" / f"{task.name}.json"

  def fail(self, task: Task, reason: str) -> None:
    """Notes that a task failed."""
    self.failure(task).parent.mkdir(parents=True, exist_ok=True)
    write_json(self.failure(task), {"reason": reason})

  def trial_bound(self, task: Task) -> float | None:
    """Validation bound of a trial; infinity if it failed, None if it is not done."""
    found = read_json(self.trial(task))
    if found is not None:
      return float(found["valid_bound"])
    return math.inf if self.failure(task).exists() else None


def candidate_of(table: Table, files: Files, row: Row) -> int | None:
  """The candidate with the best validation bound; None while the search is not over; 0 without a search."""
  bounds = [files.trial_bound(task) for task in trials(table, row)]
  if any(bound is None for bound in bounds):
    return None
  return min(range(len(bounds)), key=bounds.__getitem__, default=0)  # type: ignore[arg-type] # none is None


def trials(table: Table, row: Row) -> list[Task]:
  """The tasks of a row's search; none without one."""
  return [Task(row.key, c, 0, True) for c in range(len(table.candidates))] if table.tune else []


def open_tasks(table: Table, files: Files) -> list[Task]:
  """What is not done but can be done now: searches first, then the first seed of all rows, then the second."""
  found = [task for row in table.wanted for task in trials(table, row) if files.trial_bound(task) is None]
  for seed in range(table.seeds):
    for row in table.wanted:
      candidate = candidate_of(table, files, row)
      if candidate is not None:
        task = Task(row.key, candidate, seed)
        if not is_over(table, files, task):
          found.append(task)
  return found


def is_over(table: Table, files: Files, task: Task) -> bool:
  """Whether nothing is left to do of a task; it may have failed."""
  if files.failure(task).exists():
    return True
  if task.is_trial:
    return files.trial_bound(task) is not None
  row = table.row(task.row)
  return all(files.result(key, task.seed).exists() for key in table.evaluations(row))


def total(table: Table) -> int:
  """How many tasks a table has."""
  return len(table.wanted) * (table.seeds + len(table.candidates) * table.tune)


def select(rows: Sequence[Row], keys: Sequence[str] | None) -> tuple[Row, ...]:
  """The rows of these keys in the given order; None: all.

  Raises:
    UserError: a key that no row has.
  """
  by_key = {row.key: row for row in rows}
  for key in keys or ():
    if key not in by_key:
      raise UserError(f"unknown row {key}; the rows are {', '.join(by_key)}")
  return tuple(rows) if keys is None else tuple(by_key[key] for key in keys)


def about(table: Table, task: Task, changes: Settings | None = None) -> dict[str, Any]:
  """What a result depends on, as JSON; it goes into the result's file, and is compared when a command goes on."""
  hidden = ("data_dir", "download", "eval_batch_size", "checkpoint_every", "jit_compile")
  settings = {name: value for name, value in table.run_settings(task).items() if name not in hidden}
  draws = {"bound_samples": table.bound_samples, "iw_samples": table.iw_samples}
  measured = {"test_examples": table.test_examples, **draws}
  if table.curve:
    measured |= {"curve": list(table.curve), "curve_examples": table.curve_examples}
  if table.sweep:
    measured |= {"sweep": list(table.sweep), "sweep_examples": table.sweep_examples}
  before = table.row(task.row).before
  if before is not None:
    measured["pretraining"] = before.as_json()
  return {"budget": table.budget, **measured, "settings": settings, "at_test_time": dict(changes or {})}


def check(table: Table, files: Files) -> None:
  """Compares a table with the results that there are.

  Raises:
    UserError: one of them was made with other settings.
  """
  for row in table.rows:
    for key, changes in table.evaluations(row).items():
      for seed in range(table.seeds):
        found = read_json(files.result(key, seed))
        if found is None:
          continue
        was = found["about"]
        now = about(table, Task(row.key, int(found.get("candidate", 0)), seed), changes)
        for name, value, other in _differences(was, _as_json(now)):
          raise UserError(
            f"{files.result(key, seed)} was made with {name}={value}, now {other}; use another --out, or remove it"
          )


def _as_json(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {name: _as_json(part) for name, part in value.items()}
  return [_as_json(part) for part in value] if isinstance(value, list | tuple) else value


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]):
  """Yields (name, value then, value now)."""
  for name in sorted({*was, *now}):
    one, other = was.get(name), now.get(name)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
      yield from _differences(one, other)
    elif one != other:
      yield name, one, other
