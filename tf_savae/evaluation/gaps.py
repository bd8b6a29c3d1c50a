"""Where a trained run loses nats, as a table and files.

Splits log p(x) − ELBO into the approximation gap and the amortisation gap (Cremer et al. 2018) for any run with a
posterior. With two latents the result is exact.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tqdm

from tf_savae.atomic_files import write_json
from tf_savae.errors import UserError
from tf_savae.evaluation import (
  bidirectional,
  figures,
  gaps_figure,
  inference_gap,
  per_example,
  several,
  tables,
)
from tf_savae.evaluation.annealing import Annealing
from tf_savae.evaluation.optimum import Search
from tf_savae.networks.oracle_decoder import oracle_decoder
from tf_savae.runs import restore

_SEARCH = Search()

_ROWS = {
  "bound_initial": "bound at λ_0",
  "bound": "bound at λ_K",
  "bound_best": "bound at λ*",
  "nll": "−log p(x), importance sampling",
  "nll_ais": "−log p(x), annealed (AIS)",
  "amortisation_gap_initial": "amortisation gap of λ_0",
  "amortisation_gap": "amortisation gap of λ_K",
  "approximation_gap": "approximation gap",
  "approximation_gap_ais": "approximation gap, by AIS",
  "inference_gap": "inference gap: both, at λ_K",
  "inference_gap_ais": "inference gap, by AIS",
  "true_nll": "−log p(x) under the oracle, by grid",
  "gap_to_truth": "bound at λ_K above that",
}

_CHECKS = {
  "last_half_gain": "search for λ*: gained by its second half, nats",
  "restart_gain": "search for λ*: gained by restarts, nats",
  "gradient_norm": "search for λ*: norm of the gradient left, in units of σ",
  "gradient_gain": "search for λ*: gain of one more natural step, nats",
  "iw_effective_size": "importance sampling: effective sample size",
  "iw_growth": "importance sampling: growth from a tenth of the draws, nats",
  "ais_effective_size": "AIS: effective number of chains",
  "ais_acceptance": "AIS: acceptance",
}


def of_run(
  run_dir: str | os.PathLike,
  *,
  split: str = "test",
  num: int = 200,
  spread: bool = False,
  batch_size: int = 50,
  eval_k: int | None = None,
  search: Search = _SEARCH,
  bound_draws: int = 200,
  iw_samples: int = 1000,
  grid_size: int = 41,
  annealing: Annealing | None = None,
  simulated: int = 0,
  data_dir: str | None = None,
) -> tuple[dict[str, Any], Path]:
  """Measures the gaps; writes gaps.json and gaps_examples.npz to the run's directory.

  Args:
    run_dir: directory of a trained run.
    split: "train", "valid" or "test".
    num: number of examples, from the first on, or all if there are fewer.
    spread: whether they are spread evenly over the split instead.
    batch_size: examples per batch.
    eval_k: number of SVI steps; default: that of the run.
    search: how λ* is looked for.
    bound_draws: noise draws per bound.
    iw_samples: draws per example for the importance-sampled likelihood.
    grid_size: with two latents, points per axis of the exact grid; odd.
    annealing: how log p(x) is also estimated by annealed importance sampling; None: it is not.
    simulated: number of observations that the model makes, on which annealing is bounded from both sides; 0: none.
    data_dir: where the data are; default: where they were in training.

  Returns:
    The content of gaps.json, in nats, and the path of that file.

  Raises:
    UserError: there is no such run, or its model has no latent.
  """
  run_dir = Path(run_dir).expanduser()
  run, data = restore.load_with_data(run_dir, data_dir, **({} if eval_k is None else {"eval_k": eval_k}))
  if not run.model.latent_dim:
    raise UserError(f"--run_dir={run_dir} is a run of --model={run.config.model}, which has no posterior")
  num = min(num, data.num_examples(split))
  with tqdm.tqdm(total=num, unit="ex", desc=f"gaps on {split}", disable=None) as bar:
    rows = inference_gap.per_example(
      run.model,
      data,
      split,
      num,
      batch_size,
      search,
      bound_draws=bound_draws,
      iw_samples=iw_samples,
      grid_size=grid_size,
      true_decoder=_true_decoder(run, data),
      annealing=annealing,
      spread=spread,
      progress=bar.update,
    )
  result = {
    "model": run.config.model,
    "dataset_source": data.source,
    "eval_k": run.model.eval_k,
    "split": split,
    "spread": spread,
    **dataclasses.asdict(search),
    "bound_draws": bound_draws,
    "iw_samples": iw_samples,
    "annealing": None if annealing is None else dataclasses.asdict(annealing),
    **inference_gap.summary(rows),
  }
  if annealing is not None and simulated:
    result["sandwich"] = bidirectional.on_simulated(run.model, annealing, simulated, batch_size)
  per_example.save(run_dir / "gaps_examples.npz", rows)
  write_json(run_dir / "gaps.json", result)
  return result, run_dir / "gaps.json"


def table(result: Mapping[str, Any]) -> str:
  """The gaps in nats ± standard error over examples as a table, with one more column if there is a grid; and checks."""
  exact = result.get("grid")
  head = [f"{result['examples']} examples, K = {result['eval_k']}", "estimated, nats"]
  head += ["by grid, nats"] if exact else []
  lines = []
  for name, words in _ROWS.items():
    if name in result or (exact and name in exact):
      columns = [result, exact] if exact else [result]
      lines.append([words, *(_cell(column, name) for column in columns)])
  checks = [[words, _cell(result, name)] for name, words in _CHECKS.items() if name in result]
  if "sandwich" in result:
    checks.append([_width_of(result["sandwich"]), _cell(result["sandwich"], "width")])
  return f"{tables.markdown(head, lines)}\n\n{tables.markdown(['check', 'mean over examples'], checks)}"


def _width_of(sandwich: Mapping[str, Any]) -> str:
  return f"AIS: upper less lower bound of log p(x) on {sandwich['examples']} simulated examples, nats"


def compared(results: Mapping[str, Mapping[str, Any]]) -> str:
  """The gaps and checks of several runs side by side, a column per run.

  Args:
    results: name of a run → the content of its gaps.json.
  """
  first = next(iter(results.values()))
  blocks = []
  for title, rows in ((f"{first['examples']} examples, nats", _ROWS), ("check", _CHECKS)):
    lines = [
      [words, *(_cell(result, name) for result in results.values())]
      for name, words in rows.items()
      if any(name in result for result in results.values())
    ]
    if rows is _CHECKS and "sandwich" in first:
      lines.append([_width_of(first["sandwich"]), *(_cell(r["sandwich"], "width") for r in results.values())])
    head = [title, *(f"{name}, K = {result['eval_k']}" for name, result in results.items())]
    blocks.append(tables.markdown(head, lines))
  return "\n\n".join(blocks)


def of_runs(
  run_dirs: Sequence[str | os.PathLike], out: str | os.PathLike | None = None, **settings: Any
) -> tuple[dict[str, dict[str, Any]], tuple[Path, Path]]:
  """The gaps of several runs, with a figure; writes gaps_compared.json and gaps_compared.png.

  Args:
    run_dirs: directories of trained runs, on the same data.
    out: the directory of the two files; default: that of the first run.
    **settings: as for `of_run`.

  Returns:
    Name of a run → the content of its gaps.json, and the paths of the two files.
  """
  names = several.names(run_dirs)
  results = {name: of_run(run_dir, **settings)[0] for name, run_dir in zip(names, run_dirs, strict=True)}
  place = several.place(run_dirs, out)
  numbers, picture = place / "gaps_compared.json", place / "gaps_compared.png"
  write_json(numbers, results)
  first = next(iter(results.values()))
  figures.save(gaps_figure.stacks(results, f"{first['examples']} {first['split']} examples"), picture)
  return results, (numbers, picture)


def _cell(column: Mapping[str, Any], name: str) -> str:
  if name not in column:
    return "–"
  value, error = column[name], column.get(f"{name}_se")
  digits = 1 if abs(value) >= 100 and name.endswith("_size") else 3
  return f"{value:z.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None else "")


def _true_decoder(run: restore.Restored, data: Any) -> Any:
  """The p(x | z) that generated the data, if it is known."""
  if data.oracle is None:
    return None
  return run.model.decoder if run.config.generator == "oracle" else oracle_decoder(data.oracle)
