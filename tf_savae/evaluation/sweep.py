"""The bound of a trained run against the number of SVI steps at test time, as a table, a file and a picture.

All points lie on one trajectory λ_0, λ_1, … per example, and their bounds share the same noise, so that differences
between them are paired.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tqdm

from tf_savae.atomic_files import write_json
from tf_savae.errors import UserError
from tf_savae.evaluation import figures, steps_curve, tables
from tf_savae.runs import restore


def of_run(
  run_dir: str | os.PathLike,
  *,
  eval_k: Sequence[int],
  split: str = "test",
  num: int = 1000,
  spread: bool = False,
  batch_size: int = 50,
  bound_draws: int = 20,
  data_dir: str | None = None,
  steps: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], tuple[Path, Path]]:
  """Measures the bound for each number of steps; writes sweep.json and sweep.png to the run's directory.

  Args:
    run_dir: directory of a trained run.
    eval_k: numbers of SVI steps; differences are to the first.
    split: "train", "valid" or "test".
    num: number of examples, from the first on, or all if there are fewer.
    spread: whether they are spread evenly over the split instead.
    batch_size: examples per batch.
    bound_draws: noise draws per bound.
    data_dir: where the data are; default: where they were in training.
    steps: settings of the SVI steps that differ from the run's, such as `{"svi_rule": "natural"}`.

  Returns:
    The content of sweep.json, in nats, and the paths of the two files.

  Raises:
    UserError: there is no such run, or it cannot be evaluated with these settings.
  """
  run_dir = Path(run_dir).expanduser()
  run, data = restore.load_with_data(run_dir, data_dir, **(steps or {}))
  _check(run, run_dir, max(eval_k))
  num = min(num, data.num_examples(split))
  with tqdm.tqdm(total=num, unit="ex", desc=f"sweep on {split}", disable=None) as bar:
    rows = steps_curve.bounds(
      run.model,
      data,
      split,
      eval_k,
      num,
      batch_size,
      bound_draws=bound_draws,
      spread=spread,
      progress=bar.update,
    )
  trained = run.config.k if run.model.method.refines else 0
  result = {
    "model": run.config.model,
    "dataset_source": data.source,
    "k": trained,
    "split": split,
    "spread": spread,
    "examples": num,
    "bound_draws": bound_draws,
    **run.config.values(("svi_rule", "svi_noise", "svi_lr", "svi_lr_log_var", "svi_schedule", "svi_samples")),
    "rows": steps_curve.summary(rows),
  }
  numbers, picture = run_dir / "sweep.json", run_dir / "sweep.png"
  write_json(numbers, result)
  title = f"{run_dir.absolute().name}, {num} {split} examples"
  figures.save(figures.steps_curve(result["rows"], trained, title), picture)
  return result, (numbers, picture)


def table(result: Mapping[str, Any]) -> str:
  """A table with one row per K, in nats ± standard error over examples."""
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


def _error(error: float | None) -> str:
  return "" if error is None else f" ± {error:.3f}"


def _check(run: restore.Restored, run_dir: Path, most_steps: int) -> None:
  """Raises UserError if the run cannot be swept with these settings."""
  if not run.model.latent_dim:
    raise UserError(f"--run_dir={run_dir} is a run of --model={run.config.model}, which has no posterior")
  schedule = run.config.svi_schedule
  if most_steps and not run.config.k and schedule != "constant":
    raise UserError(
      f"--eval_k={most_steps} has no step sizes: the run in {run_dir} has --svi_schedule={schedule} over --k=0"
    )
