"""Where a trained run loses nats, as a table and files.

Splits log p(x) − ELBO into the approximation gap and the amortisation gap (Cremer et al. 2018) for any run with a
posterior. With two latents the result is exact.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tqdm

from tf_savae.atomic_files import write_json
from tf_savae.errors import UserError
from tf_savae.evaluation import inference_gap, per_example, tables
from tf_savae.evaluation.optimum import Search
from tf_savae.networks.oracle_decoder import oracle_decoder
from tf_savae.runs import restore

_SEARCH = Search()

_ROWS = {
  "bound_initial": "bound at λ_0",
  "bound": "bound at λ_K",
  "bound_best": "bound at λ*",
  "nll": "−log p(x)",
  "amortisation_gap_initial": "amortisation gap of λ_0",
  "amortisation_gap": "amortisation gap of λ_K",
  "approximation_gap": "approximation gap",
  "inference_gap": "inference gap: both, at λ_K",
  "last_half_gain": "still gained by the second half of the search for λ*",
  "true_nll": "−log p(x) under the oracle, by grid",
  "gap_to_truth": "bound at λ_K above that",
}


def of_run(
  run_dir: str | os.PathLike,
  *,
  split: str = "test",
  num: int = 200,
  batch_size: int = 50,
  eval_k: int | None = None,
  search: Search = _SEARCH,
  bound_draws: int = 200,
  iw_samples: int = 1000,
  grid_size: int = 41,
  data_dir: str | None = None,
) -> tuple[dict[str, Any], Path]:
  """Measures the gaps; writes gaps.json and gaps_examples.npz to the run's directory.

  Args:
    run_dir: directory of a trained run.
    split: "train", "valid" or "test".
    num: number of examples, from the first on, or all if there are fewer.
    batch_size: examples per batch.
    eval_k: number of SVI steps; default: that of the run.
    search: how λ* is looked for.
    bound_draws: noise draws per bound.
    iw_samples: draws per example for the importance-sampled likelihood.
    grid_size: with two latents, points per axis of the exact grid; odd.
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
      progress=bar.update,
    )
  result = {
    "model": run.config.model,
    "dataset_source": data.source,
    "eval_k": run.model.eval_k,
    "split": split,
    **dataclasses.asdict(search),
    "bound_draws": bound_draws,
    "iw_samples": iw_samples,
    **inference_gap.summary(rows),
  }
  per_example.save(run_dir / "gaps_examples.npz", rows)
  write_json(run_dir / "gaps.json", result)
  return result, run_dir / "gaps.json"


def table(result: Mapping[str, Any]) -> str:
  """The gaps in nats ± standard error over examples as a table, with one more column if there is a grid."""
  exact = result.get("grid")
  head = [f"{result['examples']} examples, K = {result['eval_k']}", "estimated, nats"]
  head += ["by grid, nats"] if exact else []
  lines = []
  for name, words in _ROWS.items():
    if name in result or (exact and name in exact):
      columns = [result, exact] if exact else [result]
      lines.append([words, *(_cell(column, name) for column in columns)])
  return tables.markdown(head, lines)


def _cell(column: Mapping[str, Any], name: str) -> str:
  if name not in column:
    return "–"
  error = column[f"{name}_se"]
  return f"{column[name]:z.3f}" + (f" ± {error:.3f}" if error is not None else "")


def _true_decoder(run: restore.Restored, data: Any) -> Any:
  """The p(x | z) that generated the data, if it is known."""
  if data.oracle is None:
    return None
  return run.model.decoder if run.config.generator == "oracle" else oracle_decoder(data.oracle)
