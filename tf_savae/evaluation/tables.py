"""Markdown tables of evaluated runs, from the contents of results.json. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tf_savae.evaluation import estimates
from tf_savae.evaluation.estimates import Estimate
from tf_savae.methods import METHODS
from tf_savae.networks.catalogue import DECODERS

_IMAGE_HEAD = (
  *("method", "K", "bound at λ_0", "bound at λ_K", "KL at λ_0", "KL at λ_K"),
  *("−log p(x)", "MI", "AU", "updates", "minutes"),
)
_TEXT_HEAD = (
  *("system", "KL", "perplexity bound at λ_0", "perplexity bound at λ_K", "perplexity", "MI", "AU"),
  *("minutes", "stopped by"),
)
_LEGEND = "MI: mutual information of x and z at λ_K, nats, at most log of the examples; AU: active units."

# The setting that ended training → a word for it.
_STOPPED_BY = {
  "early_stop_patience": "patience",
  "min_learning_rate": "learning rate",
  "epochs": "epochs",
  "max_steps": "updates",
  "max_minutes": "time",
  None: "not over",
}


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """A table with one row per run in the order given, followed by notes on where the data come from.

  Runs with perplexities get a separate table.

  Args:
    results: contents of results.json. "−log p(x)" and "perplexity" are importance-sampled, ± their standard error over
      examples. A model without a latent has no other numbers, and these are exact.
  """
  text = [result for result in results if has_perplexity(result)]
  other = [result for result in results if not has_perplexity(result)]
  blocks = []
  if other:
    names = methods(other)
    blocks.append(markdown(_IMAGE_HEAD, [_image_row(*pair) for pair in zip(names, other, strict=True)]))
  if text:
    names = systems(text)
    blocks.append(markdown(_TEXT_HEAD, [_text_row(*pair) for pair in zip(names, text, strict=True)]))
  notes = _notes(results)
  if any(has_latent(result) for result in results):
    notes.append(_LEGEND)
  return "\n\n".join([*blocks, "\n".join(notes)])


def paired_table(
  names: Sequence[str], rows: Sequence[Mapping[str, np.ndarray]], against: Mapping[str, np.ndarray]
) -> str:
  """A table of differences between runs and one run on the same examples; negative is better.

  Args:
    names: names of the runs.
    rows: values of each example, from `tf_savae.evaluation.per_example.load`.
    against: values of the run that is subtracted.
  """
  head = ["", "bound at λ_K, nats", "−log p(x), nats"]
  if "tokens" in against:
    head += ["perplexity bound at λ_K", "perplexity"]
  lines = []
  for name, values in zip(names, rows, strict=True):
    nats = [(np.float64(values[key]), np.float64(against[key])) for key in ("nll_bound", "nll_iw")]
    cells = [estimates.mean(one - other) for one, other in nats]
    if "tokens" in against:
      cells += [estimates.perplexity_difference(*pair, against["tokens"]) for pair in nats]
    lines.append((name, *(_signed(cell) for cell in cells)))
  return markdown(head, lines)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table with the columns `head`."""
  return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def has_perplexity(result: Mapping[str, Any]) -> bool:
  """Whether the data of a run are text, or of another kind that has perplexities."""
  return "ppl_bound" in result["test"]


def has_latent(result: Mapping[str, Any]) -> bool:
  """Whether a run's model has a latent."""
  return "active_units" in result["test"]


def systems(results: Sequence[Mapping[str, Any]]) -> list[str]:
  """Names of runs as in the paper's table for text, with the name of the run added where they would be equal."""
  return _distinct([_system(result) for result in results], results)


def methods(results: Sequence[Mapping[str, Any]]) -> list[str]:
  """Names of runs by their methods, with the name of the run added where they would be equal."""
  return _distinct([f"`{result['model']}`" for result in results], results)


def _distinct(names, results):
  return [
    f"{name} ({result['run']})" if names.count(name) > 1 and "run" in result else name
    for name, result in zip(names, results, strict=True)
  ]


def _system(result):
  model = result["model"]
  method = METHODS.get(model) if model in METHODS else None
  name = method.label.format(k=result.get("k", "?")) if method else model
  decoder = DECODERS.find(result.get("decoder"))
  if decoder is not None and decoder.label:
    name = decoder.method_labels.get(model, f"{name}, {decoder.label}")
  if result.get("word_dropout"):
    name += f" + word-drop {100 * result['word_dropout']:.3g} %"
  if result.get("init_from"):
    name += ", from a trained model"
  k = result.get("k") if method is None or method.refines else 0
  if has_latent(result) and result["eval_k"] != k:
    name += f", K={result['eval_k']} in evaluation"
  return name


def _image_row(name, result):
  test, latent = result["test"], has_latent(result)
  return (
    name,
    str(result["eval_k"]) if latent else "–",
    _number(test.get("nll_bound_initial")),
    _number(test["nll_bound"]) if latent else "–",
    _number(test.get("kl_initial")),
    _number(test["kl"]) if latent else "–",
    _with_error(test, "nll_iw"),
    *_use_of_latent(test),
    str(result["steps"]),
    f"{result['seconds'] / 60:.1f}",
  )


def _text_row(name, result):
  test, latent = result["test"], has_latent(result)
  stopped = result.get("stopped_by", "–")
  return (
    name,
    _number(test["kl"]) if latent else "–",
    _number(test.get("ppl_bound_initial")),
    _number(test["ppl_bound"]) if latent else "–",
    _with_error(test, "ppl_iw"),
    *_use_of_latent(test),
    f"{result['seconds'] / 60:.1f}",
    _STOPPED_BY.get(stopped, stopped),
  )


def _use_of_latent(test):
  return _number(test.get("mutual_information")), str(test.get("active_units", "–"))


def _number(value: float | None) -> str:
  return "–" if value is None else f"{value:z.2f}"


def _with_error(values, name):
  error = values.get(f"{name}_se")
  return _number(values[name]) + (f" ± {error:z.2f}" if error is not None else "")


def _signed(estimate: Estimate) -> str:
  return f"{estimate.value:+z.2f}" + (f" ± {estimate.se:.2f}" if estimate.se is not None else "")


def _notes(results):
  """One line per data source and setting."""
  samples: dict[str, set[int]] = {}
  for result in results:
    stand_in = ", A STAND-IN" if result.get("is_stand_in") else ""
    note = f"{result['dataset_source']}{stand_in}; preset {result['preset']}, seed {result['seed']}"
    known = samples.setdefault(note, set())
    if has_latent(result):
      known.add(result["test"].get("iw_samples", 1))
  return [
    note + (f", {' or '.join(map(str, sorted(known)))} importance samples." if known else ".")
    for note, known in samples.items()
  ]
