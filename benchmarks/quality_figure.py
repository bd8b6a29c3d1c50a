"""The figure of `benchmarks.quality`: bound and likelihood against processor time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments import figures_style as style
from tf_savae.evaluation.figures import save

_PANELS = (("nll_bound", "−ELBO at λ_K"), ("nll_iw", "−log p(x), importance-sampled"))


def draw(path: Path, found: Mapping[str, Mapping[str, Any]], title: str) -> None:
  """Writes a PNG with two panels, one line per row of `benchmarks.quality.curves`."""
  figure = style.figure(4.2)
  panels = figure.subplots(1, 2)
  for ax, (measure, name) in zip(panels, _PANELS, strict=True):
    best = min(point[1] for one in found.values() for point in one[measure])
    for one in found.values():
      seconds, values, errors = zip(*one[measure], strict=True)
      ax.errorbar(seconds, values, yerr=errors, marker="o", markersize=3, capsize=2, label=one["name"])
    # The first points are far away from what is compared.
    worst = max(one[measure][-1][1] for one in found.values())
    ax.set_ylim(best - 0.05 * (worst - best) - 0.1, best + 2.0 * (worst - best) + 0.5)
    ax.grid(alpha=0.3)
    style.label(ax, "processor seconds of training", "nats per example", name)
  figure.suptitle(title, fontsize=style.TEXT)
  handles, labels = panels[0].get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=style.SMALL)
  save(figure, path)
