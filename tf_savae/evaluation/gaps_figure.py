"""The figure of several runs' gaps: a bar per run, with what the family loses and what inference loses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

_FAMILY, _REFINED, _ENCODER = "0.62", "#D55E00", "#56B4E9"


def stacks(results: Mapping[str, Mapping[str, Any]], title: str = "") -> Figure:
  """Approximation gap, amortisation gap of λ_K, and what the steps gained over λ_0, in nats.

  Args:
    results: name of a run → the content of its gaps.json. The approximation gap is by annealed importance sampling
      where it was measured.
    title: of the axes.
  """
  figure = Figure(figsize=(8.0, 1.6 + 0.45 * len(results)), dpi=100, layout="constrained")
  ax = figure.subplots()
  has_ais = all("approximation_gap_ais" in result for result in results.values())
  family = "approximation_gap_ais" if has_ais else "approximation_gap"
  for y, result in enumerate(results.values()):
    end = 0.0
    parts = [(family, _FAMILY, ""), ("amortisation_gap", _REFINED, "")]
    if "amortisation_gap_initial" in result:
      parts.append(("amortisation_gap_initial", _ENCODER, "//"))
    for name, colour, hatch in parts:
      value = result[name]
      if name == "amortisation_gap_initial":
        value -= result["amortisation_gap"]
      ax.barh(y, value, left=end, color=colour, hatch=hatch, edgecolor="white", height=0.65)
      end += value
      if result.get(f"{name}_se"):
        ax.errorbar(end, y, xerr=2 * result[f"{name}_se"], color="0.2", capsize=3, linewidth=1)
  labels = {
    f"approximation gap, the family's{' (AIS)' if has_ais else ''}": (_FAMILY, ""),
    "amortisation gap of λ_K": (_REFINED, ""),
    "further gap of λ_0, closed by the steps": (_ENCODER, "//"),
  }
  for label, (colour, hatch) in labels.items():
    ax.barh(0, 0, color=colour, hatch=hatch, edgecolor="white", label=label)
  ax.set_yticks(
    range(len(results)), [f"{name}, K = {r['eval_k']}" for name, r in results.items()], fontsize=10
  )
  ax.invert_yaxis()
  ax.set_xlabel("nats below log p(x), ± 2 s.e. of each part", fontsize=11)
  ax.grid(axis="x", alpha=0.3)
  ax.set_axisbelow(True)
  figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
  if title:
    ax.set_title(title, fontsize=11)
  return figure
