"""The figure of `train_test`: bounds against steps at test time, a line per model, a panel per starting point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from experiments import figures_style as style
from experiments.figures_curves import shade

_MARKERS = "ov^DP"
_TITLES = {"encoder": "λ_0 from the encoder", "random": "λ_0 random, 0.1 · N(0, I)"}
_TICKS = (0, 1, 2, 4, 10, 20, 40, 100)


def draw(
  curves: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], names: Mapping[str, str], title: str
) -> Figure:
  """The paper's figure 3, from random λ_0 and from the encoder's.

  Args:
    curves: starting point → key of a model → its points, as `test_time_sweep.of_run` makes them.
    names: key of a model → its name.
    title: what is modelled.
  """
  shown = {start: models for start, models in curves.items() if models}
  figure = style.figure(4.6)
  axes = figure.subplots(1, len(shown), squeeze=False)[0]
  lines = {}
  text = any("ppl" in points[0] for models in shown.values() for points in models.values())
  for ax, (start, models) in zip(axes, shown.items(), strict=True):
    for key, points in models.items():
      lines.setdefault(key, _line(ax, key, points, "ppl" if text else "bound"))
    ax.set_xscale("symlog", linthresh=2)
    ax.xaxis.set_major_locator(FixedLocator(_TICKS))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(_TICKS, [str(k) for k in _TICKS])
    ax.grid(alpha=0.3)
    unit = "perplexity bound" if text else "−ELBO, nats per image"
    style.label(ax, "K, SVI steps at test time", unit if ax is axes[0] else "", f"{title}: {_TITLES[start]}")
  figure.legend(
    lines.values(),
    [names[key] for key in lines],
    loc="outside lower center",
    ncols=4,
    title="trained with (filled: as many steps as in training)",
    fontsize=style.SMALL,
    title_fontsize=style.SMALL,
    frameon=False,
  )
  return figure


def _line(ax: Any, key: str, points: Sequence[Mapping[str, Any]], value: str) -> Any:
  """Draws a model's points, and fills the one with as many steps as in training; returns its line."""
  method, _, trained = key.partition("-k")
  colour, marker = style.colour_of(method), style.marker_of(method)
  if method == "savae":
    place = ("2", "4", "10", "20").index(trained)
    colour, marker = shade(colour, 0.5 - 0.3 * place), _MARKERS[place]
  x, y = [p["k"] for p in points], [p[value] for p in points]
  (line,) = ax.plot(x, y, color=colour, marker=marker, markersize=6, markerfacecolor="white", linewidth=1.6)
  same = [p for p in points if p["k"] == int(trained or 0)]
  ax.plot([p["k"] for p in same], [p[value] for p in same], marker, color=colour, markersize=7)
  return line
