"""Writes the files of the synthetic table: table.md, table.csv, search.csv, results.json. No TensorFlow."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import results, rows
from experiments.plan import Plan
from experiments.trials import FIRST_READING, SECOND_READING
from tf_savae.atomic_files import atomic_write_text, write_json
from tf_savae.evaluation.tables import markdown

_WORDS = {"lstm_input": "z in the LSTM's input", "output_layer": "z in the output layer"}
_COLUMNS = {"oracle": "Oracle Gen", "learned": "Learned Gen"}
_SUMMARIES = ("bound", "gap", "gap_initial", "kl", "kl_initial")
_PARTS = ("mean", "se", "sd_seeds", "sd_oracles")
_HEAD = (
  *("", "−ELBO, nats", "gap to the true NLL", "sd over seeds", "sd over oracles", "gap at λ_0", "KL"),
  *("s per step", "paper: −ELBO"),
)
_LEGEND = (
  "Means over oracles and training seeds. The gap is −ELBO at λ_K minus the true −log p(x) of the same test point, over"
  " the points whose truth is known, ± the standard error over test points. sd is the standard deviation of the mean"
  " gap between training seeds, and between oracles. s per step is a median over epochs, beside the other workers."
)


def write(out: Path, plan: Plan) -> str:
  """Writes all files from the results so far; returns the table in Markdown.

  Raises:
    UserError: a file is damaged or cannot be written.
  """
  found = results.Table(out, plan).collect()
  write_json(out / "results.json", found)
  text = page(found)
  atomic_write_text(out / "table.md", text + "\n")
  atomic_write_text(out / "table.csv", _table_csv(found))
  atomic_write_text(out / "search.csv", _search_csv(found))
  return text


def page(found: Mapping[str, Any]) -> str:
  """The tables as Markdown, from `results.Table.collect`."""
  blocks = ["# Synthetic data", _truth(found["truth"])]
  for reading in (FIRST_READING, SECOND_READING):
    words = _WORDS[reading]
    for column, name in _COLUMNS.items():
      cells = _cells(found, "table", column, reading)
      if cells:
        blocks += [f"## {name}, {words}", markdown(_HEAD, [_line(cell) for cell in cells])]
  blocks.append(_LEGEND)
  if any(line["part"] == "table" for line in found["differences"]):
    blocks += ["## Against the best VAE", _differences(found["differences"], "table")]
  if cells := _cells(found, "beyond", "oracle", FIRST_READING):
    blocks += ["## Other posteriors and steps (Oracle Gen, one oracle)"]
    blocks += [markdown(_HEAD, [_line(cell) for cell in cells])]
  for column, what in (("oracle", "One repair at a time"), ("learned", "KL annealed, and free bits")):
    if cells := _cells(found, "ablation", column, FIRST_READING):
      blocks += [f"## {what} ({_COLUMNS[column]}, one oracle, one training)"]
      blocks += [markdown(_HEAD, [_line(cell) for cell in cells])]
  blocks += [_differences(found["differences"], "ablation")]
  if cells := _cells(found, "data", "learned", FIRST_READING):
    blocks += ["## More to learn from (Learned Gen, one oracle, one training)"]
    blocks += [markdown(_HEAD, [_line(cell) for cell in cells])]
  if cells := _cells(found, "train_k", "oracle", FIRST_READING):
    blocks += ["## K in training (Oracle Gen, one oracle, one training)"]
    blocks += [markdown(_HEAD, [_line(cell) for cell in cells])]
  if found["search"]:
    blocks += ["## Searches, on validation data of the first oracle", _searches(found["search"])]
  failed = {name: why for cell in found["rows"] for name, why in cell["failed"].items()}
  if failed:
    blocks += ["## Failed", "\n".join(f"* {name}: {why}" for name, why in failed.items())]
  return "\n\n".join(block for block in blocks if block)


def _cells(found, part, column, reading):
  wanted = {"part": part, "column": column, "reading": reading}
  return [cell for cell in found["rows"] if all(cell[name] == value for name, value in wanted.items())]


def _line(cell: Mapping[str, Any]) -> list[str]:
  paper = "–" if cell["paper"] is None else f"{cell['paper']:.2f}"
  name = cell["name"]
  if cell["failed"]:
    name += f" ({len(cell['failed'])} of {cell['trials']} failed)"
  if "bound" not in cell:
    return [name, "FAILED", *["–"] * (len(_HEAD) - 3), paper]
  gap = cell.get("gap", {})
  seconds = cell["seconds_per_step"]
  return [
    name,
    _number(cell["bound"]["mean"]),
    _with_error(gap),
    _number(gap.get("sd_seeds"), 3),
    _number(gap.get("sd_oracles"), 3),
    _with_error(cell.get("gap_initial", {})),
    _number(cell["kl"]["mean"]),
    "–" if seconds is None else f"{seconds:.3f}",
    paper,
  ]


def _truth(truths: Sequence[Mapping[str, Any]]) -> str:
  head = [
    "oracle",
    "data seed",
    "test points",
    "true NLL, nats",
    "gap of the best diagonal Gaussian",
    "of the best Gaussian",
    "of them",
  ]
  lines = [
    [
      t["reading"],
      str(t["data_seed"]),
      str(t["examples"]),
      _with_error(t["nll"]),
      _with_error(t["gaussian_gap"]),
      _with_error(t.get("full_gaussian_gap", {})),
      f"the first {t['gaussian_examples']}",
    ]
    for t in truths
  ]
  return markdown(head, lines) + f"\n\nThe paper's true NLL: {rows.TRUE_NLL_OF_PAPER}." if lines else ""


def _differences(differences: Sequence[Mapping[str, Any]], part: str) -> str:
  lines = [line for line in differences if line["part"] == part]
  if not lines:
    return ""
  head = ["", "column", "oracle", "minus", "−ELBO at λ_K, nats", "sd over seeds", "at λ_0"]
  return markdown(
    head,
    [
      [
        line["name"],
        _COLUMNS[line["column"]],
        line["reading"],
        rows.get(line["against"]).name,
        _with_error(line["bound"], signed=True),
        _number(line["bound"]["sd_seeds"], 3),
        _with_error(line.get("bound_initial", {}), signed=True),
      ]
      for line in lines
    ],
  )


def _searches(search: Sequence[Mapping[str, Any]]) -> str:
  lines = []
  for one in search:
    bound = "FAILED" if one["bound"] is None else f"{one['bound']:.3f}"
    mark = "chosen" if one["chosen"] else ""
    settings = results.settings_in_words(one["settings"])
    lines.append([one["name"], _COLUMNS[one["column"]], settings, bound, mark])
  return markdown(["", "column", "settings", "−ELBO on validation", ""], lines)


def _number(value: float | None, digits: int = 2) -> str:
  return "–" if value is None else f"{value:z.{digits}f}"


def _with_error(estimate: Mapping[str, Any], signed: bool = False) -> str:
  if not estimate:
    return "–"
  text = f"{estimate['mean']:{'+' if signed else ''}z.3f}"
  return text + (f" ± {estimate['se']:.3f}" if estimate["se"] is not None else "")


def _table_csv(found: Mapping[str, Any]) -> str:
  names = ("part", "row", "name", "column", "reading", "paper", "trials", "seconds_per_step")
  lines = []
  for cell in found["rows"]:
    line = {name: cell.get(name) for name in names} | {"failed": len(cell["failed"])}
    for name in _SUMMARIES:
      line |= {f"{name}_{part}": cell.get(name, {}).get(part) for part in _PARTS}
    lines.append(line)
  return _csv(lines)


def _search_csv(found: Mapping[str, Any]) -> str:
  return _csv([one | {"settings": results.settings_in_words(one["settings"])} for one in found["search"]])


def _csv(lines: Sequence[Mapping[str, Any]]) -> str:
  text = io.StringIO()
  if lines:
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
  return text.getvalue()
