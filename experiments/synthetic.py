"""The paper's synthetic table: `python -m experiments.synthetic`.

Trains and evaluates every row of `rows`, both columns, with a search of equal size for each, and writes a table, what
the searches saw, and figures. The same command goes on where a killed one stopped.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from experiments import report, rows, schedule
from experiments.plan import Plan, select
from tf_savae.commands.flags import Command, Flag, Given

# Nothing imported here may import TensorFlow: a wrong flag and --help answer at once.
from tf_savae.errors import UserError
from tf_savae.runs.directory import RunDirectory
from tf_savae.runs.options import one_of, optional, path, whole

_MOST_WORKERS = 8


def _flags() -> list[Flag]:
  whole_or_default = optional(whole(1))
  return [
    Flag("out", "runs/synthetic", path(), "directory of the table; the same command resumes there"),
    Flag(
      "workers",
      None,
      optional(whole(1, _MOST_WORKERS)),
      "processes, of one thread each",
      shown_default=f"one per CPU, at most {_MOST_WORKERS}",
    ),
    Flag("budget", "full", one_of(*rows.BUDGETS), "how much of everything; tiny: its numbers mean nothing"),
    Flag(
      "oracle_seeds",
      None,
      whole_or_default,
      "oracles, each with its data",
      shown_default="the budget's, 2",
    ),
    Flag("seeds", None, whole_or_default, "trainings on each of them", shown_default="the budget's, 3"),
    Flag(
      "only", None, optional(path()), "keys of rows with commas; rows that they start from come with them"
    ),
  ]


def _work(given: Given) -> None:
  out = Path(os.path.expanduser(given.out))
  budget = rows.BUDGETS[given.budget]
  plan = Plan(
    select(given.only.split(",") if given.only else None),
    budget,
    given.oracle_seeds or budget.oracle_seeds,
    given.seeds or budget.seeds,
  )
  place = RunDirectory(out)
  try:
    place.create()
    place.lock()
  except UserError as error:
    raise UserError(str(error).replace("--run_dir", "--out")) from error
  with place:
    schedule.check_settings(out, plan)
    try:
      schedule.run(out, plan, given.workers or min(len(os.sched_getaffinity(0)), _MOST_WORKERS))
    except KeyboardInterrupt as stop:
      stop.args = (f"what is trained is in {out}; the same command goes on from there",)
      raise
    print(report.write(out, plan), flush=True)
    _draw(out)
    print(f"\nwritten to {out}", flush=True)


def _draw(out: Path) -> None:
  from tf_savae import startup

  startup.import_tensorflow()
  from experiments import figures

  figures.draw_all(out)


COMMAND = Command(
  "synthetic", "The paper's synthetic table, whole.", _flags, _work, program="python -m experiments.synthetic"
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
