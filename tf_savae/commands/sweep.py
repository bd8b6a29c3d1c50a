"""Bound against the number of SVI steps at test time: `python -m tf_savae.commands.sweep --run_dir=RUN`.

All points lie on one trajectory λ_0, λ_1, … of each example, and their bounds take the same noise: differences between
them are paired. Prints a table; writes sweep.json and sweep.png to the run's directory.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tf_savae.commands import evaluation_flags as command_line

# Nothing imported here may import TensorFlow: a wrong flag and --help answer at once.
from tf_savae.errors import UserError
from tf_savae.evaluation import tables
from tf_savae.files import write_json
from tf_savae.runs.options import number, optional, whole, whole_list


def main(argv: Sequence[str]) -> int:
  """Runs the command line `argv`, without the program's name; returns the exit status."""
  flags = command_line.Flags(
    "tf_savae.commands.sweep", "Bound of a trained run against SVI steps at test time.", num=1000
  )
  flags.flag("eval_k", (0, 5, 10, 20, 40), whole_list(0), "SVI steps; differences are to the first")
  flags.flag("bound_draws", 20, whole(2), "noise draws of each bound")
  flags.flag("svi_lr", None, optional(number(above=0)), "step size; default: the run's")
  flags.flag("svi_samples", None, optional(whole(1)), "noise draws of an SVI step; default: the run's")
  return command_line.run(flags, argv, _work)


def table(result: Mapping[str, Any]) -> str:
  """A row a K, nats ± standard error over examples."""
  first = result["rows"][0]["k"]
  head = ["K at test", "−ELBO, nats", f"difference to K = {first}", "KL"]
  lines = []
  for row in result["rows"]:
    difference = "–"
    if row["k"] != first:
      difference = f"{row['difference']:+z.3f}{_error(row['difference_se'])}"
    name = f"{row['k']} (as in training)" if row["k"] == result["k"] else str(row["k"])
    lines.append([name, f"{row['bound']:.3f}{_error(row['bound_se'])}", difference, f"{row['kl']:.3f}"])
  return tables.markdown(head, lines)


def _error(error):
  return "" if error is None else f" ± {error:.3f}"


def _work(given: argparse.Namespace) -> None:
  import tqdm

  from tf_savae.evaluation import figures
  from tf_savae.evaluation import steps_curve as test_time
  from tf_savae.runs import restore

  changes = {name: getattr(given, name) for name in ("svi_lr", "svi_samples") if getattr(given, name)}
  run, data = restore.load_with_data(given.run_dir, given.data_dir, **changes)
  if not run.model.latent_dim:
    raise UserError(
      f"--run_dir={given.run_dir} is a run of --model={run.config.model}, which has no posterior"
    )
  if given.svi_lr and run.model.step_sizes.log_sizes is not None:
    raise UserError(
      f"--svi_lr={given.svi_lr} cannot be used: the run in {given.run_dir} has learned step sizes"
    )
  if max(given.eval_k) and not run.config.k and run.config.svi_schedule == "linear":
    raise UserError(
      f"--eval_k={max(given.eval_k)} has no step sizes: the run in {given.run_dir} has --svi_schedule=linear over --k=0"
    )
  num = min(given.num, data.num_examples(given.split))
  with tqdm.tqdm(total=num, unit="ex", desc=f"sweep on {given.split}", disable=None) as bar:
    rows = test_time.bounds(
      run.model,
      data,
      given.split,
      given.eval_k,
      num,
      given.batch_size,
      bound_draws=given.bound_draws,
      progress=bar.update,
    )
  trained = run.config.k if run.model.method.refines else 0
  result = {
    "model": run.config.model,
    "dataset_source": data.source,
    "k": trained,
    "split": given.split,
    "examples": num,
    "bound_draws": given.bound_draws,
    "svi_lr": run.config.svi_lr,
    "svi_samples": run.config.svi_samples,
    "rows": test_time.summary(rows),
  }
  write_json(given.run_dir / "sweep.json", result)
  title = f"{given.run_dir.absolute().name}, {num} {given.split} examples"
  figures.save(figures.steps_curve(result["rows"], trained, title), given.run_dir / "sweep.png")
  print(f"{table(result)}\n\nwritten to {given.run_dir / 'sweep.json'} and sweep.png", flush=True)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
