"""Evaluation of a model on a split: bounds at λ_0 and λ_K, likelihood, perplexity, and use of the latent."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae.data.dataset import DataSet
from tf_savae.evaluation import estimates, examples, per_example
from tf_savae.evaluation.latents import active_units, mutual_information
from tf_savae.evaluation.optimum import mean_elbo, mean_kl
from tf_savae.kind import KINDS
from tf_savae.model import SAVAE
from tf_savae.posterior import Params

# Name of the nats of a document, and name of the perplexity computed from them.
_PERPLEXITIES = {"nll_bound_initial": "ppl_bound_initial", "nll_bound": "ppl_bound", "nll_iw": "ppl_iw"}


# Name of the nats of an image, and name of its bits per dimension.
_BITS = {"nll_bound_initial": "bits_bound_initial", "nll_bound": "bits_bound", "nll_iw": "bits_iw"}


class Evaluator:
  """Evaluates a model with its current weights; traced once, for all splits.

  A bound is the mean over Gaussian noise draws of the one-draw bound, whatever draws the SVI steps take. The noise is
  the same at λ_0 and λ_K, so that their difference is paired. The noise of an example depends on its place in its
  batch and on the number of examples before that batch. Results therefore repeat exactly with the same batch size, and
  agree within their standard errors between batch sizes. All devices of the model's strategy share the examples of a
  batch, and give what one device gives. Each worker of several calls it, and gets all results.

  Args:
    model: the model; K is its `eval_k`.
    iw_samples: draws per example for the importance-sampled likelihood.
    bound_samples: draws per example for each bound: 1, or an even number in pairs ε, −ε.
    jit_compile: whether to compile with XLA.

  Raises:
    ValueError: there can be no such number of draws.
  """

  def __init__(self, model: SAVAE, iw_samples: int, bound_samples: int = 16, jit_compile: bool = False):
    if bound_samples < 1 or (bound_samples > 1 and bound_samples % 2):
      raise ValueError(f"bound_samples must be 1 or an even number. Received: {bound_samples}")
    self._model, self._iw_samples, self._bound_samples = model, iw_samples, bound_samples
    self._step = examples.function(
      lambda x, seen: _batch_values(model, x, seen, iw_samples, bound_samples),
      model.distribute_strategy,
      jit_compile,
    )

  def __call__(
    self,
    data: DataSet,
    split: str,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
    save_to: str | os.PathLike[str] | None = None,
  ) -> dict[str, Any]:
    """Everything that is reported about one split.

    Args:
      data: the data set.
      split: "train", "valid" or "test".
      batch_size: examples per batch.
      progress: called after each batch with the number of examples so far.
      save_to: file for the values of each example, which `tf_savae.evaluation.per_example.load` reads. It holds
        `nll_bound`, `kl`, `nll_iw` and, if they exist, `nll_bound_initial`, `kl_initial` and `tokens`. Its `digest`
        tells whether two files are about the same examples.

    Returns:
      A dictionary. For all data: `examples`, `eval_k`, `iw_samples`, and in nats per example `nll_bound` and `kl` (at
      λ_K), `nll_bound_initial` and `kl_initial` (at λ_0, with an encoder), `refinement_gain` (their paired difference)
      and `nll_iw`. Of images with 256 levels and a discrete likelihood: `bits_bound_initial`, `bits_bound` and
      `bits_iw`, the same in bits per dimension, which are channels of pixels. With a latent: `active_units` and
      `mutual_information` (nats), both at λ_K, and `mutual_information_initial` at λ_0. If the kind of data has
      perplexities: `ppl_bound_initial`, `ppl_bound` (at λ_0 and λ_K) and `ppl_iw`, each exp(total nats / total tokens),
      and `tokens`, the number of words and ENDs. All except counts, KLs and bits come with a standard error over
      examples, named `…_se`.
    """
    values, posteriors = self._rows(data, split, batch_size, progress)
    if save_to is not None:
      per_example.save(save_to, values)
    result = {"examples": len(values["nll_bound"]), "eval_k": self._model.eval_k}
    result["iw_samples"] = self._iw_samples if posteriors else 1
    result["bound_samples"] = self._bound_samples if posteriors else 1
    result |= _estimates(values) | self._of_the_latent(posteriors)
    return result | self._bits(result, KINDS.get(data.kind).dimensions(data))

  def _rows(self, data, split, batch_size, progress):
    """Values `[examples]` by name, and the posteriors: "final" and, with an encoder, "initial"."""

    def observe(x):
      lengths = KINDS.get(data.kind).lengths(x)
      observed = [part.numpy() for part in tf.nest.flatten(x)]
      found = {} if lengths is None else {"tokens": lengths}
      return found | {"digest": per_example.digests(observed, lengths)}

    batches = data.eval_batches(split, batch_size)
    rows = examples.rows(examples.traced(self._step, batches), batches, None, progress, observe)
    kind = self._model.family.kind
    posteriors = {
      stage: kind.unpack(rows.pop(f"lambda_{stage}"))
      for stage in ("initial", "final")
      if f"lambda_{stage}" in rows
    }
    return rows, posteriors

  def _bits(self, result: dict[str, Any], dimensions: int | None) -> dict[str, Any]:
    """Bits per dimension of images with levels; a density has none."""
    likelihood = getattr(self._model.decoder, "likelihood", None)
    if dimensions is None or not getattr(likelihood, "is_discrete", True):
      return {}
    nats = {name: result[name] for name in _BITS if name in result}
    return {_BITS[name]: value / (dimensions * math.log(2)) for name, value in nats.items()}

  def _of_the_latent(self, posteriors: dict[str, Params]) -> dict[str, Any]:
    if not posteriors:
      return {}
    final = mutual_information(posteriors["final"], self._model.seed)
    result = {
      "active_units": active_units(np.asarray(posteriors["final"].mean)),
      **_named("mutual_information", final),
    }
    if "initial" in posteriors:
      # Without refinement λ_0 is λ_K.
      initial = final
      if self._model.eval_k:
        initial = mutual_information(posteriors["initial"], self._model.seed)
      result |= _named("mutual_information_initial", initial)
    return result


def evaluate(
  model: SAVAE, data: DataSet, split: str, batch_size: int, iw_samples: int, bound_samples: int = 16
) -> dict[str, Any]:
  """The results of an `Evaluator` of `model` for one split."""
  return Evaluator(model, iw_samples, bound_samples)(data, split, batch_size)


def _batch_values(
  model: SAVAE, x: Any, seen: tf.Tensor, iw_samples: int, bound_samples: int
) -> dict[str, tf.Tensor]:
  batch = model.inference(x, step=seen)
  params, start, _ = model.posterior(batch)

  def bound(at: Params | None) -> tuple[tf.Tensor, tf.Tensor]:
    if at is None or bound_samples == 1:
      one_draw = batch.bound(at)
      return one_draw.neg_elbo, one_draw.kl
    return -mean_elbo(batch, at, bound_samples), mean_kl(batch, at, bound_samples)

  values = dict(zip(("nll_bound", "kl"), bound(params), strict=True))
  if model.method.has_encoder:
    values |= zip(("nll_bound_initial", "kl_initial"), bound(start), strict=True)
    values["lambda_initial"] = start.pack()
  if params is not None:
    values["lambda_final"] = params.pack()
  values["nll_iw"] = -batch.log_likelihood(params, iw_samples)
  return values


def _estimates(values: dict[str, np.ndarray]) -> dict[str, Any]:
  """Means and perplexities over examples."""
  result: dict[str, Any] = {}
  nats = {name: values[name] for name in _PERPLEXITIES if name in values}
  if "nll_bound_initial" in values:
    nats["refinement_gain"] = np.float64(values["nll_bound_initial"]) - values["nll_bound"]
  for name, rows in nats.items():
    result |= _named(name, estimates.mean(rows))
  for name in ("kl", "kl_initial"):
    if name in values:
      result[name] = estimates.mean(values[name]).value
  if "tokens" in values:
    result["tokens"] = int(values["tokens"].sum())
    for name, perplexity in _PERPLEXITIES.items():
      if name in values:
        result |= _named(perplexity, estimates.perplexity(values[name], values["tokens"]))
  return result


def _named(name: str, estimate: estimates.Estimate) -> dict[str, float | None]:
  return {name: estimate.value, f"{name}_se": estimate.se}
