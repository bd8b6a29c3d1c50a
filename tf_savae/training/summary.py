"""Texts that a run prints at its end: the table of results, and what to do next."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

from tf_savae.methods import METHODS

# Key in results["valid"] and results["test"] → name of the row. λ_K is named by its K.
_ROWS = (
  ("nll_bound_initial", "bound at λ_0"),
  ("nll_bound", "bound at λ_{k}"),
  ("refinement_gain", "gain of refinement"),
  ("kl_initial", "KL at λ_0"),
  ("kl", "KL at λ_{k}"),
  ("nll_iw", "−log p(x), {samples} importance samples"),
  ("bits_bound", "bits per dimension, bound at λ_{k}"),
  ("bits_iw", "bits per dimension, {samples} importance samples"),
  ("ppl_bound_initial", "perplexity bound at λ_0"),
  ("ppl_bound", "perplexity bound at λ_{k}"),
  ("ppl_iw", "perplexity, {samples} importance samples"),
  ("mutual_information_initial", "mutual information of x and z at λ_0"),
  ("mutual_information", "mutual information of x and z at λ_{k}"),
  ("active_units", "active latent units at λ_{k}"),
  ("examples", "{examples}"),
  ("tokens", "tokens, ends included"),
)
_REFINEMENT_ROWS = (
  *("nll_bound_initial", "refinement_gain", "kl_initial"),
  *("ppl_bound_initial", "mutual_information_initial"),
)
# Without a latent the bound is exact.
_LATENT_ROWS = ("kl", "kl_initial", "nll_iw", "ppl_iw", "bits_iw", "active_units")
_WITHOUT_LATENT = {
  "nll_bound": "−log p(x)",
  "ppl_bound": "perplexity",
  "bits_bound": "bits per dimension",
}
_SPLITS = {"valid": "validation", "test": "test"}


def summary_table(results: Mapping[str, Any]) -> str:
  """The final table of validation and test results: bounds, KL, likelihood, perplexity of text, use of the latent.

  Args:
    results: the content of results.json. Values that a method lacks, such as bounds at λ_0 without an encoder, may be
      missing or None. `preset`, `is_stand_in`, `epochs` and `seconds` are optional and shown if they are given.

  Returns:
    Lines of at most 100 characters. A value with a standard error `…_se` is written "value ± error".
  """
  splits = [split for split in _SPLITS if results.get(split)]
  k = results.get("eval_k", results.get("k", "K"))
  has_latent = any("active_units" in results[split] for split in splits)
  unit = "document" if any("tokens" in results[split] for split in splits) else "example"
  rows = []
  for key, name in _ROWS:
    if (not has_latent and key in _LATENT_ROWS) or (k == 0 and key in _REFINEMENT_ROWS):
      continue
    cells = [_cell(results[split], key) for split in splits]
    if any(cells):
      samples = next((results[s]["iw_samples"] for s in splits if results[s].get("iw_samples")), "")
      if not has_latent:
        name = _WITHOUT_LATENT.get(key, name)
      rows.append((name.format(k=k, samples=samples, examples=f"{unit}s"), *cells))
  lines = [_title(results), f"data: {_source(results)}", ""]
  if rows:
    lines += [*_aligned([(f"nats per {unit}, lower is better", *(_SPLITS[s] for s in splits)), *rows]), ""]
  if results.get("enough_steps"):
    lines += [_enough_steps(results["enough_steps"], k), ""]
  return "\n".join([*lines, _cost(results)])


def _enough_steps(found: Mapping[str, Any], k: int) -> str:
  """How much the later steps gained, and on how many examples that was measured."""
  measured = f"({_count(found['examples'], 'example')})"
  if found["k"] == k:
    return f"all {k} steps gained something {measured}"
  if not found["k"]:
    return f"the {k} steps gained {max(found['rest'], 0):.1f} nats {measured}"
  return f"steps after step {found['k']} gained {max(found['rest'], 0):.1f} nats {measured}"


def next_steps(run_dir: str | os.PathLike[str], writes: bool = False, encodes: bool = True) -> str:
  """Commands to copy that work with a finished run.

  Args:
    run_dir: the run's directory.
    writes: whether its model generates text.
    encodes: whether its model has a latent code, so that it can be exported.
  """
  run_dir = os.path.normpath(os.fspath(run_dir))
  here, parent = shlex.quote(run_dir), shlex.quote(os.path.dirname(run_dir) or ".")
  output = shlex.quote(f"models/{os.path.basename(os.path.abspath(run_dir))}")
  has_picture = os.path.isfile(os.path.join(run_dir, "overview.png"))
  commands = [
    *([("see examples", f"{here}/overview.png")] if has_picture else []),
    ("see charts", f"tensorboard --logdir={here}/tensorboard"),
    ("compare runs", f"tensorboard --logdir={parent}"),
    ("evaluate", f"python -m tf_savae evaluate --run_dir={here}"),
    *([("read texts", f"python -m tf_savae generate --run_dir={here}")] if writes else []),
    *([("export", f"python -m tf_savae export --run_dir={here} --output={output}")] if encodes else []),
    ("train another", "python train.py --dataset=… --k=… --seed=… (--help lists all)"),
  ]
  width = max(len(name) for name, _ in commands)
  return "\n".join(["next:", *(f"  {name:{width}}  {command}" for name, command in commands)])


def _cell(values: Mapping[str, Any], key: str) -> str:
  value, error = values.get(key), values.get(f"{key}_se")
  if value is None:
    return ""
  if isinstance(value, int):
    return str(value)
  decimals = 4 if key.startswith("bits") else 2
  return f"{value:z.{decimals}f}" + (f" ± {error:.2f}" if error is not None else "")


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
  """Rows with names on the left, numbers on the right, and a rule below the head."""
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  lines = [
    "  ".join(
      cell.ljust(width) if i == 0 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  ]
  return [lines[0], "  ".join("─" * width for width in widths), *lines[1:]]


def _title(results: Mapping[str, Any]) -> str:
  title = f"{results.get('model', 'model')} on {results.get('dataset', 'data')}"
  name = results.get("model", "")
  method = METHODS.get(name) if name in METHODS else None
  k = results.get("k") if method is None or method.refines else 0
  eval_k = results.get("eval_k", k)
  if k:
    title += f", K = {k}" + (f" in training, {eval_k} in this evaluation" if eval_k != k else "")
  elif eval_k:
    title += f", K = {eval_k} in this evaluation only"
  return title + (f", preset {results['preset']}" if results.get("preset") else "")


def _source(results: Mapping[str, Any]) -> str:
  source = str(results.get("dataset_source", "unknown"))
  is_stand_in = results.get("is_stand_in", "stand-in" in source)
  if is_stand_in:
    return (
      f"{source}\n      A STAND-IN: these numbers say nothing about {results.get('dataset', 'the data set')}"
    )
  return source


def _cost(results: Mapping[str, Any]) -> str:
  parts = [
    _count(results[key], unit) for key, unit in (("steps", "update"), ("epochs", "epoch")) if results.get(key)
  ]
  if results.get("seconds"):
    parts.append(f"{_duration(results['seconds'])}")
  limit = results.get("stopped_by")
  ended = f" (ended by --{limit})" if limit not in (None, "epochs", "callback") else ""
  return f"trained for {', '.join(parts)}{ended}" if parts else ""


def _count(number: int, unit: str) -> str:
  return f"{number} {unit}" + ("s" if number != 1 else "")


def _duration(seconds: float) -> str:
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours} h {minutes:02d} min"
  return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.3g} s"
