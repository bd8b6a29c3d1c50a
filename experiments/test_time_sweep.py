"""The bound of a trained run against the number of SVI steps at test time, from two starting points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from experiments.comparison import Table
from tf_savae.evaluation import estimates, examples, steps_curve
from tf_savae.kind import KINDS
from tf_savae.runs import restore


def of_run(run_dir: Path, table: Table) -> dict[str, list[dict[str, Any]]]:
  """Bounds of a run at the table's numbers of steps, on test examples that are spread over the test set.

  The step sizes go on falling as in training, so a trajectory of few steps is the beginning of a longer one.

  Args:
    run_dir: directory of a trained run.
    table: its `sweep` has the numbers of steps, and `sweep_examples` the number of examples.

  Returns:
    By starting point, "encoder" (if there is one) and "random", one dictionary per number of steps. It has `k`, and in
    nats `bound`, `kl` and `difference` to the first, with standard errors `…_se`. Documents also have `ppl`.
  """
  most = max(table.sweep)
  run, data = restore.load_with_data(run_dir, k=most, eval_k=most)
  batches = examples.spread(data, "test", table.sweep_examples, run.config.eval_batch_size)
  tokens = _tokens(data, batches, table.sweep_examples)
  starts = {"encoder": "own"} if run.model.method.has_encoder else {}
  found = {}
  for name, start in (starts | {"random": "random"}).items():
    rows = steps_curve.of_batches(
      run.model, batches, table.sweep, table.sweep_examples, bound_draws=table.bound_samples, start=start
    )
    found[name] = steps_curve.summary(rows)
    if tokens is not None:
      for point in found[name]:
        perplexity = estimates.perplexity(rows[point["k"]]["bound"], tokens)
        point |= {"ppl": perplexity.value, "ppl_se": perplexity.se}
  return found


def _tokens(data: Any, batches: tf.data.Dataset, num: int) -> np.ndarray | None:
  """Tokens of each example, `[num]`; None where there is no perplexity."""

  def lengths(x):
    found = KINDS.get(data.kind).lengths(x)
    return {} if found is None else {"tokens": found}

  nothing = examples.rows(lambda x, seen: {}, batches, num, observe=lengths)
  return nothing.get("tokens")
