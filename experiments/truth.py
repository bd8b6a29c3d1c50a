"""What the synthetic table is compared with: exact quantities of the oracle's test points, by a grid over z."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments import trials
from experiments.rows import Budget
from tf_savae import data as data_lib
from tf_savae.evaluation import examples, grid, per_example
from tf_savae.networks.oracle_decoder import oracle_decoder

_BATCH = 100  # a process that is to stop does so between two of them


def write(out: Path, reading: str, data_seed: int, budget: Budget) -> None:
  """Writes, where it is not there, the truth about the first `budget.truth` test points of an oracle.

  The file has `nll`, true −log p(x) `[n]`, nats; `step_error` and `outside` `[n]`, what the grid says of its own
  error; and of the first `budget.best` points λ* as `best_mean` and `best_log_var` `[m, 2]`, the best diagonal
  Gaussian, and its −ELBO `best_bound` `[m]`.
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
  """What `write` writes, of any decoder with two latents; `size` points an axis of the grid."""

  def likelihood(x, _):
    exact = grid.posterior(decoder, x, decoder.precompute(x), size=size)
    return exact, {"nll": -exact.log_likelihood, "step_error": exact.step_error, "outside": exact.outside}

  def all_of(x, seen):
    exact, found = likelihood(x, seen)
    params = grid.best_gaussian(exact)
    bound = -grid.elbo(decoder, x, decoder.precompute(x), params)
    return found | {"best_mean": params.mean, "best_log_var": params.log_var, "best_bound": bound}

  num = min(num, data.num_examples(split))
  batches = data.eval_batches(split, min(_BATCH, num))
  with_best = examples.traced(all_of, batches)
  without = examples.traced(lambda x, seen: likelihood(x, seen)[1], batches)
  found = examples.rows(lambda x, seen: (with_best if seen < best else without)(x, seen), batches, num)
  return {name: value[:best] if name.startswith("best") else value for name, value in found.items()}
