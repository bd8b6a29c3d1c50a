"""The numbers of the synthetic table, from the files of its trials. NumPy only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import trials
from experiments.plan import Plan
from experiments.rows import Row
from experiments.trials import FIRST_READING, SECOND_READING, Trial
from tf_savae.evaluation import per_example

_VAES = ("vae-sgd", "vae-adam")
_BASE = "ablation-paper"  # what a repair is compared with
_ALSO = {"savae-repaired": ("vae-refined",)}  # does training through the steps add to taking them?

Values = Mapping[tuple[int, int], np.ndarray]  # (data seed, training seed) → nats of each test point `[n]`


def summary(values: Values) -> dict[str, float | None]:
  """The mean over oracles of the means over training seeds, and its uncertainty.

  Returns:
    `mean`; `se`, its standard error over test points; `sd_seeds`, the standard deviation between training seeds, pooled
    over oracles; `sd_oracles`, that between oracles. `se` averages each point over training seeds and takes oracles as
    independent. The deviation of a single value is None.
  """
  by_oracle: dict[int, list[np.ndarray]] = {}
  for (data_seed, _), nats in values.items():
    by_oracle.setdefault(data_seed, []).append(np.asarray(nats, np.float64))
  points = [np.mean(of_seeds, axis=0) for of_seeds in by_oracle.values()]
  means = [float(nats.mean()) for nats in points]
  errors = [nats.var(ddof=1) / len(nats) for nats in points if len(nats) > 1]
  spreads = [np.var([nats.mean() for nats in of], ddof=1) for of in by_oracle.values() if len(of) > 1]
  return {
    "mean": float(np.mean(means)),
    "se": float(np.sqrt(np.sum(errors)) / len(points)) if len(errors) == len(points) else None,
    "sd_seeds": float(np.sqrt(np.mean(spreads))) if spreads else None,
    "sd_oracles": float(np.std(means, ddof=1)) if len(means) > 1 else None,
  }


class Table:
  """The trials of a plan that are done.

  Args:
    out: the table's directory.
    plan: what was to be done.
  """

  def __init__(self, out: Path, plan: Plan):
    self._out, self._plan = out, plan
    self._truths = {
      (truth.reading, truth.data_seed): per_example.load(
        trials.truth_file(out, truth.reading, truth.data_seed)
      )
      for truth in plan.truths()
    }

  def collect(self) -> dict[str, Any]:
    """All results as JSON values; `report` shows them."""
    cells = [
      cell
      for row in self._plan.rows
      for column in row.columns
      for reading in ((FIRST_READING, SECOND_READING) if row.second_reading else (FIRST_READING,))
      if (cell := self._cell(row, column, reading)) is not None
    ]
    finals = [trial for row in self._plan.rows for column in row.columns for trial in self._done(row, column)]
    return {
      "oracle_seeds": self._plan.oracle_seeds,
      "seeds": self._plan.seeds,
      "truth": [self._of_truth(*key) for key in self._truths if self._truths[key] is not None],
      "rows": cells,
      "differences": self._differences(cells),
      "search": [
        line for row in self._plan.rows for column in row.columns for line in self._search(row, column)
      ],
      "chosen": {row.key: {c: self._chosen(row, c) for c in row.columns} for row in self._plan.rows},
      "finals": [dataclasses.asdict(trial) | {"name": trial.name} for trial in finals],
    }

  def _bound(self, trial: Trial, split: str) -> float | None:
    return trials.bound(self._out, trial, split)

  def _chosen(self, row: Row, column: str) -> int | None:
    return self._plan.chosen(row, column, self._bound)

  def _finals(self, row: Row, column: str, reading: str | None = None) -> list[Trial]:
    found = self._plan.finals(row, column, self._bound) or []
    return [trial for trial in found if reading in (None, trial.reading)]

  def _done(self, row: Row, column: str, reading: str | None = None) -> list[Trial]:
    finals = self._finals(row, column, reading)
    return [trial for trial in finals if trials.facts(self._out, trial, "test") is not None]

  def _cell(self, row: Row, column: str, reading: str) -> dict[str, Any] | None:
    """The results of a row in one column; None if its search is not over."""
    tried = self._finals(row, column, reading)
    if not tried:
      return None
    done = self._done(row, column, reading)
    reasons = {t.name: trials.failure(self._out, t) for t in tried if t not in done}
    cell: dict[str, Any] = {
      "row": row.key,
      "name": row.name,
      "part": row.part,
      "column": column,
      "reading": reading,
      "paper": row.paper.get(column),
      "trials": len(tried),
      "failed": {name: reason or "not done" for name, reason in reasons.items()},
    }
    if not done:
      return cell
    values = {(t.data_seed, t.seed): trials.values(self._out, t, "test") for t in done}
    for name in ("bound", "kl", "bound_initial", "kl_initial"):
      of_name = {key: found[name] for key, found in values.items() if name in found}
      if of_name:
        cell[name] = summary(of_name)
    for name, gap in (("bound", "gap"), ("bound_initial", "gap_initial")):
      gaps = {
        key: self._gap(found[name], reading, key[0])
        for key, found in values.items()
        if name in found and self._truths.get((reading, key[0])) is not None
      }
      if gaps:
        cell[gap] = summary(gaps)
    seconds = [trials.facts(self._out, t, "test").get("seconds_per_step") for t in done]
    seconds = [value for value in seconds if value is not None]
    cell["seconds_per_step"] = float(np.median(seconds)) if seconds else None
    return cell

  def _gap(self, nats: np.ndarray, reading: str, data_seed: int) -> np.ndarray:
    """−ELBO above the true −log p(x), of each test point whose truth is known."""
    truth = self._truths[reading, data_seed]["nll"]
    num = min(len(nats), len(truth))
    return np.float64(nats[:num]) - truth[:num]

  def _differences(self, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bounds of rows minus those of the rows that they are compared with, on the same points."""
    pairs = [(cell, against) for cell in cells for against in self._compared_with(cell)]
    lines = [self._difference(*pair) for pair in pairs]
    return [line for line in lines if "bound" in line]

  def _difference(self, cell: Mapping[str, Any], against: str) -> dict[str, Any]:
    keys = {row.key: row for row in self._plan.rows}
    ours, other = (
      {(t.data_seed, t.seed): t for t in self._done(keys[key], cell["column"], cell["reading"])}
      for key in (cell["row"], against)
    )
    line = {name: cell[name] for name in ("row", "name", "part", "column", "reading")} | {"against": against}
    for name in ("bound", "bound_initial"):
      differences = {}
      for key in ours.keys() & other.keys():
        one = trials.values(self._out, ours[key], "test")
        two = trials.values(self._out, other[key], "test")
        if name in one:
          differences[key] = np.float64(one[name]) - two["bound"]
      if differences:
        line[name] = summary(differences)
    return line

  def _compared_with(self, cell: Mapping[str, Any]) -> list[str]:
    """Keys of the plan's rows: the unrepaired SA-VAE for a repair, the best VAE for others."""
    if cell["row"] in (_BASE, *_VAES):
      return []
    if cell["row"].startswith("ablation-"):
      against = [_BASE]
    else:
      against = [self._best_vae(cell["column"]), *_ALSO.get(cell["row"], ())]
    return [key for key in against if key in {row.key for row in self._plan.rows}]

  def _best_vae(self, column: str) -> str | None:
    """The row of the VAE with the better validation bound; where there was no search, the first that is there."""
    found = {}
    for row in self._plan.rows:
      if row.key in _VAES and column in row.columns:
        bounds = [self._bound(trial, "valid") for trial in self._plan.searched(row, column)]
        found[row.key] = min((b for b in bounds if b is not None), default=math.inf)
    return min(found, key=found.__getitem__, default=None)

  def _search(self, row: Row, column: str) -> list[dict[str, Any]]:
    """The candidates of a row and column; empty for a row without a search."""
    chosen = self._chosen(row, column)
    return [
      {
        "row": row.key,
        "name": row.name,
        "column": column,
        "candidate": trial.candidate,
        "settings": dict(row.candidates[trial.candidate]),
        "bound": (trials.facts(self._out, trial, "valid") or {}).get("bound"),
        "chosen": trial.candidate == chosen,
        "failed": trials.failure(self._out, trial),
      }
      for trial in self._plan.searched(row, column)
    ]

  def _of_truth(self, reading: str, data_seed: int) -> dict[str, Any]:
    """True −log p(x) of an oracle's test points, and the approximation gap of the best Gaussian of the first ones."""
    truth = self._truths[reading, data_seed]
    gaps = truth["best_bound"] - truth["nll"][: len(truth["best_bound"])]
    full = {}
    if "best_full_bound" in truth:
      of_full = truth["best_full_bound"] - truth["nll"][: len(truth["best_full_bound"])]
      full = {"full_gaussian_gap": summary({(data_seed, 0): of_full})}
    return {
      "reading": reading,
      "data_seed": data_seed,
      "examples": len(truth["nll"]),
      "nll": summary({(data_seed, 0): truth["nll"]}),
      "gaussian_examples": len(gaps),
      "gaussian_gap": summary({(data_seed, 0): gaps}),
      **full,
      "largest_step_error": float(truth["step_error"].max()),
      "largest_outside": float(truth["outside"].max()),
    }


def settings_in_words(settings: Mapping[str, Any]) -> str:
  """`svi_lr 0.02, k 20`."""
  return ", ".join(f"{name} {value}" for name, value in settings.items())
