"""Figures of the comparison, as PNG."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.tables import Row


def bars(path: pathlib.Path, by_setting: Mapping[str, Sequence[Row]]) -> None:
  """Time per step relative to the first program, one group of bars per setting; failed programs have no bar."""
  figure, axis = plt.subplots(figsize=(9, 1.2 + 1.1 * len(by_setting)), layout="constrained")
  names = list(dict.fromkeys(row.program.name for rows in by_setting.values() for row in rows))
  titles = {row.program.name: row.program.title for rows in by_setting.values() for row in rows}
  height = 0.8 / max(len(names), 1)
  for i, name in enumerate(names):
    places, lengths, spread = [], [], []
    for place, rows in enumerate(by_setting.values()):
      for row in rows:
        if row.program.name == name and row.ratio is not None:
          median, low, high = row.ratio
          places.append(place + i * height)
          lengths.append(median)
          spread.append((median - low, high - median))
    error = list(zip(*spread, strict=True)) if spread else None
    axis.barh(places, lengths, height, xerr=error, label=titles[name], capsize=2)
  axis.set_yticks([i + 0.4 - height / 2 for i in range(len(by_setting))], list(by_setting))
  axis.invert_yaxis()
  axis.set_xlabel("time of a step against the first program of its group (median; range over the rounds)")
  axis.legend(fontsize="small")
  figure.savefig(path, dpi=120)
  plt.close(figure)


def lines(
  path: pathlib.Path, series: Mapping[str, Mapping[float, float]], *, x_label: str, y_label: str
) -> None:
  """One line for each of `series`: y by x. Axes begin at 0, so that what is constant or proportional looks so."""
  figure, axis = plt.subplots(figsize=(9, 6), layout="constrained")
  for name, values in series.items():
    if values:
      xs = sorted(values)
      axis.plot(xs, [values[x] for x in xs], marker="o", label=name)
  axis.set_xlim(left=0)
  axis.set_ylim(bottom=0)
  axis.set_xlabel(x_label)
  axis.set_ylabel(y_label)
  axis.grid(alpha=0.3)
  if series:
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
  figure.savefig(path, dpi=120)
  plt.close(figure)
