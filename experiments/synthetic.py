"""The paper's synthetic table: `python -m experiments.synthetic`.

Trains and evaluates every row of `rows`, both columns, with a search of equal size for each, and writes a table, what
the searches saw, and figures. The same command goes on where a killed one stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import report, rows, schedule
from experiments.plan import Plan, select
from tf_savae.commands import evaluation_flags as command_line

# Nothing imported here may import TensorFlow: a wrong flag and --help answer at once.
from tf_savae.errors import UserError
from tf_savae.runs.directory import RunDirectory
from tf_savae.runs.options import one_of, optional, path, whole

_MOST_WORKERS = 8


def main(argv: Sequence[str]) -> int:
  """Runs the command line `argv`, without the program's name; returns the exit status."""
  flags = command_line.Parser("experiments.synthetic", "The paper's synthetic table, whole.")
  flags.flag("out", "runs/synthetic", path(), "directory of the table; the same command resumes there")
  flags.flag(
    "workers",
    None,
    optional(whole(1, _MOST_WORKERS)),
    f"processes, of one thread each; default: one a CPU, at most {_MOST_WORKERS}",
  )
  flags.flag(
    "budget", "full", one_of(*rows.BUDGETS), "how much of everything; tiny: its numbers mean nothing"
  )
  flags.flag(
    "oracle_seeds", None, optional(whole(1)), "oracles, each with its data; default: the budget's, 2"
  )
  flags.flag("seeds", None, optional(whole(1)), "trainings on each of them; default: the budget's, 3")
  flags.flag(
    "only", None, optional(path()), "keys of rows with commas; rows that they start from come with them"
  )
  return command_line.run(flags, argv, _work, needs_tensorflow=False)


def _work(given: argparse.Namespace) -> None:
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
    except KeyboardInterrupt:
      print(f"what is trained is in {out}; the same command goes on from there", file=sys.stderr)
      raise
    print(report.write(out, plan), flush=True)
    _draw(out)
    print(f"\nwritten to {out}", flush=True)


def _draw(out: Path) -> None:
  from tf_savae import startup

  startup.import_tensorflow()
  from experiments import figures

  figures.draw_all(out)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
