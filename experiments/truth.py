"""What the synthetic table is compared with: exact quantities of the oracle's test points, by a grid over z."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments import trials
from experiments.rows import Budget
from tf_savae import data as data_lib
from tf_savae.evaluation import examples, grid, per_example
from tf_savae.full_gaussian import FullGaussianParams
from tf_savae.networks.oracle_decoder import oracle_decoder

_BATCH = 100  # a process that is to stop does so between two of them


def write(out: Path, reading: str, data_seed: int, budget: Budget) -> None:
  """Writes the truth about the first `budget.truth` test points of an oracle, unless the file exists.

  The file has `nll` `[n]`, the true −log p(x) in nats, and `step_error` and `outside` `[n]`, the grid's own estimates
  of its error. For the first `budget.best` points it also has λ*, the best diagonal Gaussian, as `best_mean` and
  `best_log_var` `[m, 2]`, and its −ELBO as `best_bound` `[m]`. `best_full_bound` is that of the best Gaussian with any
  covariance.
  """
  path = trials.truth_file(out, reading, data_seed)
  if path.exists():
    return
  data = data_lib.load("synthetic", data_dir="data", seed=0, data_seed=data_seed, oracle=reading)
  num = min(budget.examples, budget.truth)
  decoder, size = oracle_decoder(data.oracle), budget.grid_sizes[reading]
  per_example.save(path, of_points(decoder, data, "test", num, budget.best, size))


def of_points(
  decoder: Any, data: data_lib.DataSet, split: str, num: int, best: int, size: int
) -> dict[str, np.ndarray]:
  """The content of the file of `write` for any decoder with two latents; `size`: points per axis of the grid."""

  def likelihood(x, _):
    exact = grid.posterior(decoder, x, decoder.precompute(x), size=size)
    return exact, {"nll": -exact.log_likelihood, "step_error": exact.step_error, "outside": exact.outside}

  def all_of(x, seen):
    exact, found = likelihood(x, seen)
    params = grid.best_gaussian(exact)
    full = grid.best_gaussian(exact, kind=FullGaussianParams)
    bounds = [-grid.elbo(decoder, x, decoder.precompute(x), best) for best in (params, full)]
    found |= {"best_mean": params.mean, "best_log_var": params.log_var}
    return found | {"best_bound": bounds[0], "best_full_bound": bounds[1]}

  num = min(num, data.num_examples(split))
  batches = data.eval_batches(split, min(_BATCH, num))
  with_best = examples.traced(all_of, batches)
  without = examples.traced(lambda x, seen: likelihood(x, seen)[1], batches)
  found = examples.rows(lambda x, seen: (with_best if seen < best else without)(x, seen), batches, num)
  return {name: value[:best] if name.startswith("best") else value for name, value in found.items()}
