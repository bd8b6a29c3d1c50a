"""How many of the SVI steps matter: the first λ_k whose bound is as good as that of λ_K."""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_savae.data.dataset import DataSet
from tf_savae.evaluation import estimates, steps_curve
from tf_savae.model import SAVAE

EXAMPLES = 64
BOUND_DRAWS = 8
TOLERANCE = 0.05  # nats per example; less is 0.0 in a text
_EACH = 8  # up to here every k is looked at


def numbers_of_steps(num_steps: int) -> list[int]:
  """Every k up to 8, then about 1.5 times as many each time, and K = `num_steps`."""
  chosen = list(range(min(num_steps, _EACH) + 1))
  while chosen[-1] < num_steps:
    chosen.append(min(chosen[-1] + chosen[-1] // 2, num_steps))
  return chosen


def find(model: SAVAE, data: DataSet, split: str, batch_size: int) -> dict[str, Any]:
  """The smallest k from which on no λ_k is worse than λ_K by 0.05 nats per example.

  All λ_k lie on the trajectory of the model's own steps, `model.eval_k` of them. The bounds have eight noise draws, the
  same at every k, on the first 64 examples.

  Args:
    model: a model with a latent.
    data: the data set of the examples.
    split: "train", "valid" or "test".
    batch_size: examples per batch.

  Returns:
    `k`; `rest` with `rest_se`, how much the steps after it lower the bound, in nats per example; and `examples`.

  Raises:
    ValueError: the model has no latent.
  """
  steps = numbers_of_steps(model.eval_k)
  curve = steps_curve.bounds(model, data, split, steps, EXAMPLES, batch_size, bound_draws=BOUND_DRAWS)
  return _enough({k: np.float64(values["bound"]) for k, values in curve.items()})


def _enough(bounds: dict[int, np.ndarray]) -> dict[str, Any]:
  """The result of `find` from the bounds `[examples]` at each k, in nats."""
  last = max(bounds)
  k = last
  for earlier in sorted(bounds, reverse=True):
    if not np.mean(bounds[earlier] - bounds[last]) < TOLERANCE:
      break
    k = earlier
  rest = estimates.mean(bounds[k] - bounds[last])
  return {"k": k, "rest": rest.value, "rest_se": rest.se, "examples": len(bounds[k])}
