"""Where a trained run loses nats: `python -m tf_savae gaps RUN [RUN ...]`."""

from __future__ import annotations

import sys

from tf_savae import startup
from tf_savae.commands.flags import Command, Flag, Given
from tf_savae.commands.run_flags import device_flags, devices_of, run_flags, several_runs
from tf_savae.errors import UserError
from tf_savae.runs.options import number, optional, whole

_ANNEALING = "Annealed importance sampling"


def _flags() -> list[Flag]:
  return [
    *run_flags(num=200, takes_several=True),
    Flag("eval_k", None, optional(whole(0)), "SVI steps", shown_default="the run's"),
    Flag("steps", 1000, whole(2), "steps of Adam that look for λ*, the best posterior of an example"),
    Flag("learning_rate", 0.1, number(above=0), "of that search at its first step"),
    Flag("draws", 8, whole(2), "noise draws per step of that search, in pairs: even"),
    Flag("restarts", 1, whole(0, 100), "further searches, from random starts"),
    Flag("bound_draws", 200, whole(2), "noise draws of each bound"),
    Flag("iw_samples", 1000, whole(1), "draws of the importance-sampled likelihood"),
    Flag("grid_size", 41, whole(5), "two latents: points per axis of the exact grid; odd"),
    Flag(
      "ais_steps",
      0,
      whole(0),
      "distributions between prior and posterior, for log p(x) by annealed importance sampling; 0: none",
      _ANNEALING,
    ),
    Flag("ais_chains", 8, whole(1), "chains per example", _ANNEALING),
    Flag("ais_leapfrogs", 5, whole(1), "leapfrog steps per transition", _ANNEALING),
    Flag(
      "simulated",
      50,
      whole(0),
      "examples that the model makes, on which annealing bounds log p(x) from both sides; 0: none",
      _ANNEALING,
    ),
    *device_flags(),
  ]


def _prepare(given: Given) -> Given:
  several_runs(given)
  if given.draws % 2 or given.grid_size % 2 == 0:
    raise UserError(
      f"--draws must be even and --grid_size odd; received --draws={given.draws} --grid_size={given.grid_size}"
    )
  if given.ais_steps == 1:
    raise UserError("--ais_steps must be 0 or at least 2; received 1")
  return given


def _work(given: Given) -> None:
  startup.import_tensorflow()
  from tf_savae.evaluation import gaps
  from tf_savae.evaluation.annealing import Annealing
  from tf_savae.evaluation.optimum import Search

  runs = several_runs(given)
  team, settings = devices_of(given, runs[0])
  settings["search"] = Search(
    *(settings.pop(name) for name in ("steps", "draws", "learning_rate", "restarts"))
  )
  chains = [settings.pop(f"ais_{name}") for name in ("steps", "chains", "leapfrogs")]
  settings["annealing"] = Annealing(*chains) if chains[0] else None
  del settings["run_dir"]
  out = settings.pop("out")
  with team.scope():
    if len(runs) == 1 and out is None:
      result, file = gaps.of_run(runs[0], **settings)
      print(f"{gaps.table(result)}\n\nwritten to {file}")
      return
    results, files = gaps.of_runs(runs, out, **settings)
  print(f"{gaps.compared(results)}\n\nwritten to {files[0]} and {files[1].name}")


COMMAND = Command(
  "gaps",
  "Approximation gap and amortisation gap of trained runs. Prints a table; writes gaps.json, and the values of each"
  " example as gaps_examples.npz, to the run's directory. With several runs also gaps_compared.json and .png, to OUT.",
  _flags,
  _work,
  prepare=_prepare,
  usage="RUN_DIR [RUN_DIR ...] [--name=value ...]",
  takes_arguments=True,
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
