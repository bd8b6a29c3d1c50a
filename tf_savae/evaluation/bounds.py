"""Evaluation of a model on a split: bounds at λ_0 and λ_K, their KL, importance-sampled likelihood, active units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae.data.dataset import DataSet
from tf_savae.model import SAVAE
from tf_savae.objective import Bound

# A latent counts as active if its posterior mean varies more than this over examples (Burda et al. 2016).
ACTIVE_VARIANCE = 0.01


class Evaluator:
  """Evaluates a model with its current weights; traced once, for all splits.

  Bounds take one noise draw an example, the same at λ_0 and λ_K, so that their difference is a paired one. The noise
  of an example depends on its place in its batch and on the number of examples before that batch: numbers repeat
  exactly for one batch size, and agree within their standard errors between two.

  Args:
    model: the model; K is its `eval_k`.
    iw_samples: draws of the importance-sampled likelihood.
    jit_compile: with XLA, where bits must repeat.
  """

  def __init__(self, model: SAVAE, iw_samples: int, jit_compile: bool = False):
    self._model, self._iw_samples = model, iw_samples
    self._step = tf.function(
      lambda x, seen: _batch_values(model, x, seen, iw_samples), autograph=False, jit_compile=jit_compile
    )

  def __call__(
    self, data: DataSet, split: str, batch_size: int, progress: Callable[[int], None] | None = None
  ) -> dict[str, Any]:
    """Everything that is reported of one split.

    Args:
      data: the data set.
      split: "train", "valid" or "test".
      batch_size: examples a batch.
      progress: called with the number of examples after each batch.

    Returns:
      In nats per example: `nll_bound`, `kl` (at λ_K), `nll_bound_initial`, `kl_initial` (at λ_0, with an encoder),
      `refinement_gain` (their paired difference), `nll_iw`, each but the KLs with its standard error over examples
      `…_se`; `iw_samples`, `examples`, `active_units` (with a latent), `eval_k`.
    """
    rows: dict[str, list[np.ndarray]] = {}
    batches, seen = data.eval_batches(split, batch_size), 0
    # For any batch size: a short last batch is not traced again.
    step = self._step.get_concrete_function(batches.element_spec, tf.TensorSpec([], tf.int64))
    for x in batches:
      for name, values in step(x, tf.constant(seen, tf.int64)).items():
        rows.setdefault(name, []).append(values.numpy())
      size = len(tf.nest.flatten(x)[0])
      seen += size
      if progress is not None:
        progress(size)
    values = {name: np.concatenate(parts) for name, parts in rows.items()}
    return _summary(values, self._model, self._iw_samples)


def evaluate(model: SAVAE, data: DataSet, split: str, batch_size: int, iw_samples: int) -> dict[str, Any]:
  """What an `Evaluator` of `model` says of one split."""
  return Evaluator(model, iw_samples)(data, split, batch_size)


def _batch_values(model: SAVAE, x: Any, seen: tf.Tensor, iw_samples: int) -> dict[str, tf.Tensor]:
  batch = model.evaluation_batch(x, step=seen)
  params, start, _ = model.posterior(batch)
  final: Bound = batch.bound(params)
  values = {"nll_bound": final.neg_elbo, "kl": final.kl}
  if model.method.has_encoder:
    initial = batch.bound(start)
    values |= {"nll_bound_initial": initial.neg_elbo, "kl_initial": initial.kl}
  if params is not None:
    values["mean"] = params.mean
  values["nll_iw"] = -model.importance_log_likelihood(batch, params, iw_samples)
  return values


def _summary(values: dict[str, np.ndarray], model: SAVAE, iw_samples: int) -> dict[str, Any]:
  means = values.pop("mean", None)
  if "nll_bound_initial" in values:
    values["refinement_gain"] = values["nll_bound_initial"] - values["nll_bound"]
  result: dict[str, Any] = {"examples": len(values["nll_bound"]), "eval_k": model.eval_k}
  for name, rows in values.items():
    rows = rows.astype(np.float64)
    result[name] = float(rows.mean())
    if not name.startswith("kl"):
      result[f"{name}_se"] = float(rows.std(ddof=1) / np.sqrt(len(rows))) if len(rows) > 1 else None
  result["iw_samples"] = iw_samples if means is not None else 1
  if means is not None:
    result["active_units"] = active_units(means)
  return result


def active_units(means: np.ndarray) -> int:
  """Number of latents whose posterior mean `[examples, latent]` varies over examples."""
  return int(np.sum(np.var(means, axis=0, dtype=np.float64) > ACTIVE_VARIANCE))
