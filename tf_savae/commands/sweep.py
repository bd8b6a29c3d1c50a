"""Bound against the number of SVI steps at test time: `python -m tf_savae sweep --run_dir=RUN`."""

from __future__ import annotations

import sys

from tf_savae import startup
from tf_savae.commands.flags import Command, Flag, Given
from tf_savae.commands.run_flags import changed_steps, device_flags, devices_of, run_flags, step_flags
from tf_savae.runs.options import whole, whole_list


def _flags() -> list[Flag]:
  return [
    *run_flags(num=1000),
    Flag("eval_k", (0, 5, 10, 20, 40), whole_list(0), "SVI steps; differences are to the first"),
    Flag("bound_draws", 20, whole(2), "noise draws of each bound"),
    *step_flags(),
    *device_flags(),
  ]


def _work(given: Given) -> None:
  startup.import_tensorflow()
  from tf_savae.evaluation import sweep

  steps = {flag.name for flag in step_flags()}
  team, settings = devices_of(given, given.run_dir)
  settings = {name: value for name, value in settings.items() if name not in steps}
  with team.scope():
    result, files = sweep.of_run(**settings, steps=changed_steps(given))
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
