"""Where a trained run loses nats: `python -m tf_savae gaps --run_dir=RUN`."""

from __future__ import annotations

import sys

from tf_savae import startup
from tf_savae.commands.flags import Command, Flag, Given
from tf_savae.commands.run_flags import run_flags
from tf_savae.errors import UserError
from tf_savae.runs.options import number, optional, whole


def _flags() -> list[Flag]:
  return [
    *run_flags(num=200),
    Flag("eval_k", None, optional(whole(0)), "SVI steps", shown_default="the run's"),
    Flag("steps", 1000, whole(2), "steps of Adam that look for λ*, the best posterior of an example"),
    Flag("learning_rate", 0.1, number(above=0), "of that search at its first step"),
    Flag("draws", 8, whole(2), "noise draws per step of that search, in pairs: even"),
    Flag("bound_draws", 200, whole(2), "noise draws of each bound"),
    Flag("iw_samples", 1000, whole(1), "draws of the importance-sampled likelihood"),
    Flag("grid_size", 41, whole(5), "two latents: points per axis of the exact grid; odd"),
  ]


def _prepare(given: Given) -> Given:
  if given.draws % 2 or given.grid_size % 2 == 0:
    raise UserError(
      f"--draws must be even and --grid_size odd; received --draws={given.draws} --grid_size={given.grid_size}"
    )
  return given


def _work(given: Given) -> None:
  startup.import_tensorflow()
  from tf_savae.evaluation import gaps
  from tf_savae.evaluation.optimum import Search

  settings = given.settings
  search = Search(*(settings.pop(name) for name in ("steps", "draws", "learning_rate")))
  result, file = gaps.of_run(search=search, **settings)
  print(f"{gaps.table(result)}\n\nwritten to {file}")


COMMAND = Command(
  "gaps",
  "Approximation gap and amortisation gap of a trained run. Prints a table; writes gaps.json, and the values of each"
  " example as gaps_examples.npz, to the run's directory.",
  _flags,
  _work,
  prepare=_prepare,
  usage="--run_dir=RUN [--name=value ...]",
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
