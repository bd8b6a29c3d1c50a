"""What the synthetic table is compared with: exact quantities of the oracle's test points, by a grid over z."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae import data as data_lib
from tf_savae.evaluation import grid, per_example
from tf_savae.experiments import trials
from tf_savae.experiments.rows import Budget
from tf_savae.training.oracle_decoder import oracle_decoder

_BATCH = 250


def write(out: Path, reading: str, data_seed: int, budget: Budget) -> None:
  """Writes, where it is not there, the truth about the first `budget.examples` test points.

  The file has `nll`, true −log p(x) `[n]`, nats; `step_error` and `outside` `[n]`, what the grid says of its own
  error; and of the first `budget.best` points λ* as `best_mean` and `best_log_var` `[m, 2]`, the best diagonal
  Gaussian, and its −ELBO `best_bound` `[m]`.
  """
  path = trials.truth_file(out, reading, data_seed)
  if path.exists():
    return
  data = data_lib.load("synthetic", data_dir="data", seed=0, data_seed=data_seed, oracle=reading)
  decoder = oracle_decoder(data.oracle)
  found = of_points(decoder, data, "test", budget.examples, budget.best, budget.grid_size)
  per_example.save(path, found)


def of_points(
  decoder: Any, data: data_lib.DataSet, split: str, num: int, best: int, size: int
) -> dict[str, np.ndarray]:
  """What `write` writes, of any decoder with two latents; `size` points an axis of the grid."""

  def likelihood(x):
    exact = grid.posterior(decoder, x, decoder.precompute(x), size=size)
    return {"nll": -exact.log_likelihood, "step_error": exact.step_error, "outside": exact.outside}

  def gaussian(x):
    context = decoder.precompute(x)
    found = grid.best_gaussian(grid.posterior(decoder, x, context, size=size))
    bound = -grid.elbo(decoder, x, context, found)
    return {"best_mean": found.mean, "best_log_var": found.log_var, "best_bound": bound}

  num = min(num, data.num_examples(split))
  best = min(best, num)
  return _over(likelihood, data, split, num) | _over(gaussian, data, split, best)


def _over(work, data, split, num):
  batches = data.eval_batches(split, min(_BATCH, num))
  traced = tf.function(work, input_signature=[batches.element_spec], autograph=False)
  parts, seen = [], 0
  for x in batches:
    x = x[: num - seen]
    parts.append({name: value.numpy() for name, value in traced(x).items()})
    seen += len(x)
    if seen >= num:
      break
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
