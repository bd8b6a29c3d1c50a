"""The bound after more or fewer SVI steps than in training, on examples of a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae.data.dataset import DataSet
from tf_savae.evaluation import estimates, examples
from tf_savae.evaluation.optimum import mean_elbo, mean_kl
from tf_savae.model import SAVAE

_RANDOM_START = 0.1  # scale of the random λ_0 of SVI (paper, appendix)

STARTS = ("own", "random")


def bounds(
  model: SAVAE,
  data: DataSet,
  split: str,
  steps: Sequence[int],
  num: int,
  batch_size: int,
  *,
  bound_draws: int = 20,
  spread: bool = False,
  progress: Callable[[int], None] | None = None,
) -> dict[int, dict[str, np.ndarray]]:
  """`of_batches` for the first `num` examples of a split, or for as many that are spread evenly over it."""
  batches = examples.chosen(data, split, num, batch_size, spread)
  return of_batches(model, batches, steps, num, bound_draws=bound_draws, progress=progress)


def of_batches(
  model: SAVAE,
  batches: tf.data.Dataset,
  steps: Sequence[int],
  num: int | None = None,
  *,
  bound_draws: int = 20,
  start: str = "own",
  progress: Callable[[int], None] | None = None,
) -> dict[int, dict[str, np.ndarray]]:
  """−ELBO (`bound`) and KL (`kl`) at λ_k for every k of `steps`, nats, `[num]`.

  All λ_k lie on one trajectory. It is refined with the model's step sizes, and beyond its K the last one is repeated.

  Args:
    model: a model with a latent.
    batches: observations.
    steps: numbers of SVI steps.
    num: number of examples, from the first on; default: all.
    bound_draws: noise draws per bound, the same at every k.
    start: where the trajectory starts, a name in `STARTS`: "own" is the model's λ_0, the encoder's if there is one,
      and "random" that of SVI.
    progress: called after each batch with the number of examples so far.

  Raises:
    ValueError: the model has no latent, or there is no such start.
  """
  if not model.latent_dim:
    raise ValueError(f"The method {model.method_name!r} has no posterior.")
  if start not in STARTS:
    raise ValueError(f"A trajectory starts at one of {', '.join(STARTS)}. Received: {start!r}")

  def values(x, seen):
    return _at_steps(model, x, seen, steps, bound_draws, start)

  rows = examples.rows(examples.traced(values, batches, model.distribute_strategy), batches, num, progress)
  return {k: {name: value[:, i] for name, value in rows.items()} for i, k in enumerate(steps)}


def _at_steps(model, x, seen, steps, bound_draws, where):
  """`bound` and `kl` at λ_k for every k of `steps`, `[batch, len(steps)]`."""
  batch = model.inference(x, max(steps), step=seen)
  start = batch.start() if where == "own" else batch.random_initial(_RANDOM_START)
  path = tf.nest.map_structure(lambda part: part[tf.newaxis], start)
  if max(steps):
    _, path, _ = batch.refine(start, adjoint=None)
  chosen = tf.nest.map_structure(lambda part: tf.gather(part, list(steps)), path)

  def at(params):
    return -mean_elbo(batch, params, bound_draws), mean_kl(batch, params, bound_draws)

  # One after another, so that memory does not grow with their number.
  dtype = start.mean.dtype
  bound, kl = tf.map_fn(at, chosen, fn_output_signature=(dtype, dtype), parallel_iterations=1)
  return {"bound": tf.transpose(bound), "kl": tf.transpose(kl)}


def summary(rows: dict[int, dict[str, np.ndarray]]) -> list[dict[str, Any]]:
  """One dictionary per k, with means over examples and their standard errors `…_se`, nats.

  Its keys are `k`, `bound`, `kl` and `difference`, the difference of the bound to that at the first k.
  """
  first = np.float64(next(iter(rows.values()))["bound"])
  result = []
  for k, values in rows.items():
    bound, difference = estimates.mean(values["bound"]), estimates.mean(np.float64(values["bound"]) - first)
    result.append(
      {
        "k": k,
        "bound": bound.value,
        "bound_se": bound.se,
        "difference": difference.value,
        "difference_se": difference.se,
        "kl": estimates.mean(values["kl"]).value,
      }
    )
  return result
