"""The saliency of several runs on the same examples side by side: tables and a figure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_savae.atomic_files import write_json
from tf_savae.errors import UserError
from tf_savae.evaluation import figures, saliency_report, several, tables
from tf_savae.evaluation.saliency_figures import bars_of_runs, group_names, maps

_KINDS = ("mean", "output")


def of_runs(
  run_dirs: Sequence[str | os.PathLike], out: str | os.PathLike | None = None, **settings: Any
) -> tuple[dict[str, dict[str, Any]], list[Path]]:
  """Computes the saliency of each run, and compares them; writes saliency_compared.json and .png.

  Args:
    run_dirs: directories of trained runs, all on documents or all on images, of the same data.
    out: the directory of the two files; default: that of the first run.
    **settings: as for `saliency_report.measure`.

  Returns:
    Name of a run → the content of its saliency.json, and the paths of the two files.

  Raises:
    UserError: a run has no saliency, or the runs are on different data.
  """
  names = several.names(run_dirs)
  found = {
    name: saliency_report.measure(run_dir, **settings) for name, run_dir in zip(names, run_dirs, strict=True)
  }
  results = {name: result for name, (result, _, _) in found.items()}
  first = results[names[0]]
  for name, result in results.items():
    if result["dataset_source"] != first["dataset_source"]:
      raise UserError(
        f"runs are compared on the same data; received {names[0]} on {first['dataset_source']} and {name} on"
        f" {result['dataset_source']}"
      )
  place = several.place(run_dirs, out)
  files = [place / "saliency_compared.json", place / "saliency_compared.png"]
  write_json(files[0], results)
  title = f"{first['examples']} {first['split']} examples"
  if "groups" in first:
    groups = {_with_k(name, result): result["groups"] for name, result in results.items()}
    titles = {kind: saliency_report.WORDS[kind] for kind in _KINDS}
    figure = bars_of_runs(groups, titles, f"{title}: mean ± 2 s.e.")
  else:
    rows = {"image": found[names[0]][2]["image"]}
    rows |= {_with_k(name, results[name]): pictures["mean"] for name, (_, _, pictures) in found.items()}
    figure = maps(rows, f"{title}: saliency of ‖μ(λ_K)‖, each relative to its largest")
  figures.save(figure, files[1])
  return results, files


def _with_k(name: str, result: Mapping[str, Any]) -> str:
  return f"{name}, K = {result['eval_k']}"


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
  """A table per kind of saliency and grouping, a column per run; for images the sums over pixels.

  Args:
    results: name of a run → the content of its saliency.json.
  """
  first, heads = next(iter(results.values())), [_with_k(*pair) for pair in results.items()]
  if "groups" not in first:
    rows = [
      [
        words.replace("e_t", "x_i"),
        *(f"{result['sum_over_pixels'][kind]:.4g}" for result in results.values()),
      ]
      for kind, words in saliency_report.WORDS.items()
      if kind in first["sum_over_pixels"]
    ]
    return tables.markdown([f"{first['examples']} images, sum over pixels", *heads], rows)
  groups = {name: result["groups"] for name, result in results.items()}
  parts = []
  for kind in _KINDS:
    for grouping in first["groups"]:
      rows = [
        [group, *(_cell(result["groups"][grouping], group, kind) for result in results.values())]
        for group in group_names(groups, grouping)
      ]
      head = f"{saliency_report.WORDS[kind]} by {grouping.replace('_', ' ')}"
      parts.append(tables.markdown([head, *heads], rows))
  return "\n\n".join(parts)


def _cell(groups: Sequence[Mapping[str, Any]], group: str, kind: str) -> str:
  found = next((entry for entry in groups if entry["group"] == group), None)
  return "–" if found is None else f"{found[kind]:.4g} ± {found[f'{kind}_se']:.2g}"
