"""Bound against the number of SVI steps at test time: `python -m tf_savae sweep --run_dir=RUN`."""

from __future__ import annotations

import sys

from tf_savae import startup
from tf_savae.commands.flags import Command, Flag, Given
from tf_savae.commands.run_flags import run_flags
from tf_savae.runs.options import number, optional, whole, whole_list


def _flags() -> list[Flag]:
  return [
    *run_flags(num=1000),
    Flag("eval_k", (0, 5, 10, 20, 40), whole_list(0), "SVI steps; differences are to the first"),
    Flag("bound_draws", 20, whole(2), "noise draws of each bound"),
    Flag("svi_lr", None, optional(number(above=0)), "step size", shown_default="the run's"),
    Flag("svi_samples", None, optional(whole(1)), "noise draws of an SVI step", shown_default="the run's"),
  ]


def _work(given: Given) -> None:
  startup.import_tensorflow()
  from tf_savae.evaluation import sweep

  result, files = sweep.of_run(**given.settings)
  print(f"{sweep.table(result)}\n\nwritten to {files[0]} and {files[1].name}")


COMMAND = Command(
  "sweep",
  "Bound of a trained run against SVI steps at test time. Prints a table; writes sweep.json and sweep.png to the run's"
  " directory.",
  _flags,
  _work,
  usage="--run_dir=RUN [--name=value ...]",
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
