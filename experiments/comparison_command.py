"""The command of a table: its flags, and how it does the tasks that are left. No TensorFlow until it draws."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments import comparison, comparison_report, origin, pool
from experiments.comparison import Files, Table, Task
from tf_savae.commands.flags import Command, Flag, Given, show_default
from tf_savae.errors import UserError
from tf_savae.runs.directory import RunDirectory
from tf_savae.runs.options import number, one_of, optional, path, switch, whole

_MOST_JOBS = 64
_NOT_SHOWN = ("out", "only", "jobs", "data_dir", "torch_python")  # on the page: they change no number


def flags(name: str, reference: str, budget: float, seeds: int = 3) -> list[Flag]:
  """The flags that all tables have.

  Args:
    name: of the table.
    reference: key of the row with which others are compared.
    budget: default of `--budget_s`.
    seeds: default of `--seeds`.
  """
  return [
    Flag("out", f"runs/table-{name}", path(), "directory of the table; the same command goes on there"),
    Flag("data_dir", "data", path(), "directory with one sub-directory per data set"),
    Flag(
      "preset", "small", one_of("small", "tiny"), "sizes of models and data; tiny: its numbers mean nothing"
    ),
    Flag(
      "only", None, optional(path()), "keys of rows, separated by commas, in the order in which to do them"
    ),
    Flag("seeds", seeds, whole(1, 100), "trainings of each row"),
    Flag("reference", reference, path(), "key of the row with which others are compared"),
    Flag(
      "budget_s",
      budget,
      number(0),
      "seconds of processor time for the updates of each training; 0: until validation stops improving",
    ),
    Flag(
      "tune", False, switch(), "first search settings for each row, on validation data, equally many for each"
    ),
    Flag("test_examples", None, optional(whole(1)), "test examples, spread evenly", shown_default="all"),
    Flag("bound_samples", 16, whole(2), "Gaussian draws per bound"),
    Flag("iw_samples", 500, whole(1), "draws per example of the importance-sampled likelihood"),
    Flag("jobs", 1, whole(0, _MOST_JOBS), "processes, of one thread each; 0: no training, only the page"),
  ]


def command(
  name: str,
  about: str,
  flags: Callable[[], Sequence[Flag]],
  table_of: Callable[[Given], Table],
  finish: Callable[[Given, Table, Files], None] | None = None,
  program: str | None = None,
  perform: Callable[[Given], Callable[[Path, Table, Task], None]] | None = None,
) -> Command:
  """A command that fills the table that the flags ask for.

  Args:
    name: of the module in `experiments`.
    about: for `--help`.
    flags: makes the flags.
    table_of: the table that they ask for. Its UserErrors are those of wrong flags.
    finish: makes more of the results; default: nothing.
    program: as the user calls it; default: `python -m experiments.NAME`.
    perform: makes what a worker does with a task, which must be importable by name; default: training and evaluation.
  """

  program = program or f"python -m experiments.{name}"

  def prepare(given: Given) -> tuple[Given, Table]:
    shown = [f"--{flag}={_shown(value)}" for flag, value in given.typed.items() if flag not in _NOT_SHOWN]
    return given, dataclasses.replace(table_of(given), command=" ".join([program, *shown]))

  return Command(
    name,
    about,
    flags,
    lambda asked: _work(*asked, finish, perform and perform(asked[0])),
    prepare,
    program=program,
  )


def _shown(value: Any) -> str:
  return f"{value:g}" if isinstance(value, float) else show_default(value)


def _work(
  given: Given,
  table: Table,
  finish: Callable[[Given, Table, Files], None] | None,
  perform: Callable[[Path, Table, Task], None] | None,
) -> None:
  out = Path(os.path.expanduser(given.out)).absolute()
  place = RunDirectory(out)
  try:
    place.create()
    place.lock()
  except UserError as error:
    raise UserError(str(error).replace("--run_dir", "--out")) from error
  with place:
    files = Files(out)
    origin.check_not_trained(out, given.jobs)
    if origin.read(out) is None:
      comparison.check(table, files)
    if given.jobs:
      run(out, table, given.jobs, perform)
    found = comparison_report.write(table, files)
    print(comparison_report.page(found), flush=True)
    _draw(found, out)
    if finish is not None:
      finish(given, table, files)
    print(f"\nwritten to {out}", flush=True)


def run(
  out: Path,
  table: Table,
  jobs: int,
  perform: Callable[[Path, Table, Task], None] | None = None,
  prepare: Callable[[Path], None] = pool.prepare,
) -> None:
  """Does the tasks that are not done; those that failed before are tried again.

  Raises:
    UserError: a task left neither a result nor a reason; the others are done.
    KeyboardInterrupt: Ctrl-C or SIGTERM. Runs in training have saved; the same call goes on.
  """
  files = Files(out)
  for file in out.glob("failures/*.json"):
    file.unlink()
  number = comparison.total(table)
  work = functools.partial(perform or globals()["perform"], out, table)

  def after(task: Task, problem: str | None) -> bool:
    if problem is not None:
      files.fail(task, problem)
    left = len(comparison.open_tasks(table, files))
    print(f"{number - left}/{number} {task.name}: {_outcome(table, files, task)}", flush=True)
    comparison_report.write(table, files)
    return comparison.is_over(table, files, task)

  broken = pool.carry_out(
    lambda: comparison.open_tasks(table, files), jobs, work, functools.partial(prepare, out), after
  )
  if broken:
    task, problem = next(iter(broken.items()))
    raise UserError(f"{task.name} could not be done: {problem}; the same command tries again")


def perform(out: Path, table: Table, task: Task) -> None:
  """A task, in a worker."""
  from experiments import comparison_work

  comparison_work.execute(out, table, task)


def _outcome(table: Table, files: Files, task: Task) -> str:
  from tf_savae.atomic_files import read_json

  failure = read_json(files.failure(task))
  if failure is not None:
    return f"FAILED, {failure.get('reason')}"
  if task.is_trial:
    return f"{files.trial_bound(task):.2f} nats on validation"
  found = read_json(files.result(task.row, task.seed)) or {}
  unit, name = ("perplexity", "ppl") if "ppl_iw" in found else ("nats", "nll")
  if f"{name}_iw" not in found:
    return "nothing"
  return f"bound {found[f'{name}_bound']:.2f}, importance-sampled {found[f'{name}_iw']:.2f} {unit}"


def _draw(found, out: Path) -> None:
  from tf_savae import startup

  startup.import_tensorflow()
  from experiments import comparison_figure
  from tf_savae.evaluation.figures import save

  figure = comparison_figure.draw(found)
  if figure is not None:
    save(figure, out / "table.png")
