"""The gaps of a trained model on a split: estimated by `optimum` and, with two latents, computed exactly by `grid`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae.data.dataset import DataSet
from tf_savae.evaluation import annealing as ais
from tf_savae.evaluation import estimates, examples, grid, optimum
from tf_savae.evaluation.annealing import Annealing
from tf_savae.model import SAVAE

# Name of a result → the quantity that it is the mean of. Positive gaps are nats lost.
_GAPS = {
  "approximation_gap": lambda v: v["bound_best"] - v["nll"],
  "amortisation_gap": lambda v: v["bound"] - v["bound_best"],
  "amortisation_gap_initial": lambda v: v["bound_initial"] - v["bound_best"],
  "inference_gap": lambda v: v["bound"] - v["nll"],
  "last_half_gain": lambda v: v["bound_halfway"] - v["bound_first"],
  "restart_gain": lambda v: v["bound_first"] - v["bound_best"],
  "approximation_gap_ais": lambda v: v["bound_best"] - v["nll_ais"],
  "inference_gap_ais": lambda v: v["bound"] - v["nll_ais"],
}


def per_example(
  model: SAVAE,
  data: DataSet,
  split: str,
  num: int,
  batch_size: int,
  search: optimum.Search,
  *,
  bound_draws: int,
  iw_samples: int,
  grid_size: int = 41,
  true_decoder: Any = None,
  annealing: Annealing | None = None,
  spread: bool = False,
  progress: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
  """Nats `[num]` and posterior parameters `[num, latent]` of each of the first `num` examples of a split.

  Args:
    model: a model with a latent; K is its `eval_k`.
    data: the data set of the examples.
    split: "train", "valid" or "test".
    num: number of examples, or all if there are fewer.
    batch_size: examples per batch.
    search: how λ* is looked for.
    bound_draws, iw_samples: as in `optimum.gap_parts`.
    grid_size: points per axis of the grid.
    true_decoder: the p(x | z) that generated the data, if it is known and has two latents.
    annealing: how log p(x) is also estimated by annealed importance sampling; None: it is not.
    spread: whether the examples are spread evenly over the split, instead of being its first ones.
    progress: called after each batch with the number of examples so far.

  Returns:
    Arrays by name. Always `bound`, `bound_best`, `bound_first`, `bound_halfway`, `nll`, and with an encoder
    `bound_initial`. Of the search `gradient_norm` and `gradient_gain`, of importance sampling `iw_effective_size` and
    `iw_growth`. With `annealing` also `nll_ais`, `ais_effective_size` and `ais_acceptance`. With two
    latents, the bounds and `nll` with the prefix `grid_`, and `grid_step_error` and `grid_outside`. If the truth is
    known, `true_nll`. `mean` and `log_var` are those of λ_K, `mean_best` and `log_var_best` those of λ*; see
    `PosteriorFamily.columns` for those of other families. A grid finds the best Gaussian, but no best flow, so that
    `grid_bound_best` is missing there.
  """

  def values(x, seen):
    found = optimum.gap_parts(model, x, seen, search, bound_draws=bound_draws, iw_samples=iw_samples)
    rows = _estimated(found)
    for suffix, params in {"": found.params, "_best": found.best}.items():
      rows |= {f"{name}{suffix}": value for name, value in model.family.columns(params).items()}
    if annealing is not None:
      rows |= _annealed(model.inference(x, step=seen), annealing, found.best)
    if model.latent_dim == 2:
      rows |= _by_grid(model, x, found, grid_size)
    if true_decoder is not None:
      rows["true_nll"] = _true_nll(model.decoder, true_decoder, x, rows, grid_size)
    return rows

  batches = examples.chosen(data, split, num, batch_size, spread)
  # Chains draw for all examples of a batch at once, so another division of it would give others.
  strategy = model.distribute_strategy if annealing is None else None
  return examples.rows(examples.traced(values, batches, strategy), batches, num, progress)


def _estimated(found: optimum.GapParts) -> dict[str, tf.Tensor]:
  """The parts of the gap under the names of `per_example`."""
  rows = {
    "bound": -found.elbo,
    "bound_best": -found.elbo_best,
    "bound_first": -found.elbo_first,
    "bound_halfway": -found.elbo_halfway,
    "gradient_norm": found.left.norm,
    "gradient_gain": found.left.gain,
    "nll": -found.likelihood.log_likelihood,
    "iw_effective_size": found.likelihood.effective_size,
    "iw_growth": found.likelihood.growth,
  }
  return rows if found.initial is None else rows | {"bound_initial": -found.elbo_initial}


def _annealed(batch, settings, near) -> dict[str, tf.Tensor]:
  found = ais.log_likelihood(batch, settings, near)
  return {
    "nll_ais": -found.log_likelihood,
    "ais_effective_size": found.effective_size,
    "ais_acceptance": found.acceptance,
  }


def _true_nll(decoder, true_decoder, x, rows, size):
  """−log p(x) under the decoder that generated the data, `[batch]`; taken from `rows` if it is the model's own."""
  if true_decoder is decoder and "grid_nll" in rows:
    return rows["grid_nll"]
  return -grid.posterior(true_decoder, x, _context(true_decoder, x), size=size).log_likelihood


def summary(rows: dict[str, np.ndarray]) -> dict[str, Any]:
  """Means over examples of the results of `per_example`, with standard errors `…_se`, nats.

  These are the bounds, the likelihoods, `approximation_gap`, `amortisation_gap` (at λ_K, and `…_initial` at λ_0) and
  their sum `inference_gap`. `last_half_gain` is what the second half of the search for λ* gained. Unless it is small
  compared with the amortisation gap, the search was too short. `restart_gain` is what the best of the restarts gained
  over the first search. Exact values are in a separate entry, `grid`.
  """
  result = _means({name: v for name, v in rows.items() if not name.startswith("grid_") and v.ndim == 1})
  exact = {name.removeprefix("grid_"): v for name, v in rows.items() if name.startswith("grid_")}
  if exact:
    checks = {name: float(exact.pop(name).max()) for name in ("step_error", "outside")}
    result["grid"] = _means(exact) | {f"largest_{name}": value for name, value in checks.items()}
  return {"examples": len(rows["bound"]), **result}


def _means(rows):
  values = dict(rows)
  for name, gap in _GAPS.items():
    try:
      values[name] = gap({key: np.asarray(value, np.float64) for key, value in rows.items()})
    except KeyError:  # without an encoder there is no λ_0, and a grid needs no search
      continue
  if "true_nll" in rows:
    values["gap_to_truth"] = np.float64(rows["bound"]) - rows["true_nll"]
  result = {}
  for name, value in values.items():
    estimate = estimates.mean(value)
    result |= {name: estimate.value, f"{name}_se": estimate.se}
  return result


def _by_grid(model, x, found, size):
  """The same quantities from a grid, without noise."""
  decoder, family = model.decoder, model.family
  context = _context(decoder, x)
  exact = grid.posterior(decoder, x, context, size=size)
  rows = {
    "grid_nll": -exact.log_likelihood,
    "grid_bound": -grid.elbo(decoder, x, context, found.params, family=family),
    "grid_step_error": exact.step_error,
    "grid_outside": exact.outside,
  }
  if family.kl_in_closed_form:
    starts = [params for params in (found.params, found.best) if params is not None]
    best = grid.best_gaussian(exact, starts, kind=family.kind)
    rows["grid_bound_best"] = -grid.elbo(decoder, x, context, best)
  if found.initial is not None:
    rows["grid_bound_initial"] = -grid.elbo(decoder, x, context, found.initial, family=family)
  return rows


def _context(decoder, x):
  return decoder.precompute(x) if hasattr(decoder, "precompute") else ()
