"""The figure of a table: bounds and likelihoods of its rows, with a point for each seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from experiments import figures_style as style

_SERIES = (
  ("nll_bound", "ppl_bound", "bound at λ_K", "#D55E00"),
  ("nll_iw", "ppl_iw", "importance-sampled", "#0072B2"),
)


def draw(found: Mapping[str, Any]) -> Figure | None:
  """The rows that are done, from `comparison_report.collect`; None while there are none."""
  cells = [cell for cell in found["rows"] if cell["seeds"]]
  if not cells:
    return None
  text = any("ppl_iw" in cell for cell in cells)
  figure = style.figure(1.2 + 0.34 * len(cells))
  ax = figure.add_subplot()
  for nats, perplexity, name, colour in _SERIES:
    measure = perplexity if text else nats
    for i, cell in enumerate(cells):
      y = i + (0.14 if measure.endswith("bound") else -0.14)
      shown = name if not i else None
      ax.plot(cell[measure]["mean"], y, "o", color=colour, label=shown)
      ax.plot(cell[measure]["each"], [y] * len(cell[measure]["each"]), "|", color=colour, markersize=9)
  ax.set_yticks(range(len(cells)), [cell["name"] for cell in cells])
  ax.invert_yaxis()
  ax.grid(axis="x", color="0.9")
  ax.legend(fontsize=style.SMALL, frameon=False)
  style.label(ax, "perplexity" if text else "nats per image", "", found["title"])
  return figure
