"""Pictures of saliency: means of groups, sentences with coloured words, maps over pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

_NARROW = 8  # groups that share a line with other groupings
_CUT = 4.0  # times the second tallest group
_LINE = 95  # characters per line of a coloured sentence


def bars(groups: Mapping[str, Sequence[Mapping[str, Any]]], titles: Mapping[str, str], title: str) -> Figure:
  """Means of groups with two standard errors: a row per kind of saliency, a column per grouping.

  Args:
    groups: as `saliency_groups.summary` makes it.
    titles: kinds of saliency and their names.
    title: title of the figure.
  """
  figure = Figure(figsize=(0.8 + 3.9 * len(groups), 0.6 + 3.1 * len(titles)), dpi=100, layout="constrained")
  axes = figure.subplots(len(titles), len(groups), squeeze=False)
  for row, (name, label) in enumerate(titles.items()):
    for column, (grouping, entries) in enumerate(groups.items()):
      ax = axes[row, column]
      names = [entry["group"].removesuffix(" times in train") for entry in entries]
      means, errors = ([entry[key] for entry in entries] for key in (name, f"{name}_se"))
      ax.bar(range(len(names)), means, yerr=2 * np.array(errors), color="C0", alpha=0.8, capsize=3)
      ax.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
      ax.set_ylim(bottom=0)
      ax.grid(alpha=0.3, axis="y")
      if not column:
        ax.set_ylabel(label, fontsize=10)
      if not row:
        ax.set_title(f"by {grouping.replace('_', ' ')}", fontsize=11)
  figure.suptitle(title, fontsize=12)
  return figure


def coloured(
  sentences: Sequence[tuple[Sequence[str], Mapping[str, np.ndarray]]], titles: Mapping[str, str]
) -> Figure:
  """Documents whose words have a colour by their saliency, relative to the document's largest.

  Args:
    sentences: words, and saliency of each by kind.
    titles: kinds of saliency and their names.
  """
  lines = []  # of (word, colour) pairs; a string is a heading
  for words, values in sentences:
    for name, of_words in values.items():
      lines += [titles[name], *_broken(words, of_words / max(float(np.max(of_words)), 1e-30))]
    lines.append("")
  height = 0.2 * len(lines) + 0.1
  figure = Figure(figsize=(9.0, height), dpi=100)
  for i, line in enumerate(lines):
    y = 1 - (0.2 * i + 0.12) / height
    if isinstance(line, str):
      figure.text(0.01, y, line, fontsize=7, color="0.45", va="center")
      continue
    column = 0
    for word, strength in line:
      box = {"facecolor": (0.84, 0.15, 0.16, float(strength)), "edgecolor": "none", "pad": 1.0}
      # A dollar sign would begin mathematics.
      figure.text(
        0.01 + 0.98 * column / _LINE,
        y,
        word.replace("$", r"\$"),
        family="monospace",
        fontsize=8,
        va="center",
        bbox=box,
      )
      column += len(word) + 1
  return figure


def _broken(words, strengths):
  """(word, strength) pairs in lines of at most `_LINE` characters."""
  lines, length = [[]], 0
  for word, strength in zip(words, strengths, strict=True):
    if length and length + len(word) > _LINE:
      lines.append([])
      length = 0
    lines[-1].append((word, strength))
    length += len(word) + 1
  return lines


def bars_of_runs(
  results: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], titles: Mapping[str, str], title: str
) -> Figure:
  """Means of groups with two standard errors, side by side for several runs.

  A group that would make all others too short to read is cut, and its mean written above it.

  Args:
    results: name of a run → its groups, as `saliency_groups.summary` makes them.
    titles: kinds of saliency and their names; a row each.
    title: title of the figure.
  """
  groupings = list(next(iter(results.values())))
  names = {grouping: group_names(results, grouping) for grouping in groupings}
  narrow = [grouping for grouping in groupings if len(names[grouping]) <= _NARROW]
  wide = [grouping for grouping in groupings if grouping not in narrow]
  per_kind = bool(narrow) + len(wide)
  figure = Figure(figsize=(10.5, 0.9 + 2.5 * per_kind * len(titles)), dpi=100, layout="constrained")
  places = figure.add_gridspec(per_kind * len(titles), max(len(narrow), 1))
  for i, (value, label) in enumerate(titles.items()):
    top = i * per_kind
    axes = {grouping: figure.add_subplot(places[top, column]) for column, grouping in enumerate(narrow)}
    for row, grouping in enumerate(wide, start=top + bool(narrow)):
      axes[grouping] = figure.add_subplot(places[row, :])
    for grouping, ax in axes.items():
      _side_by_side(ax, {run: groups[grouping] for run, groups in results.items()}, names[grouping], value)
      ax.set_title(f"by {grouping.replace('_', ' ')}", fontsize=10)
      if ax.get_subplotspec().is_first_col():
        ax.set_ylabel(label, fontsize=9)
  handles, labels = figure.axes[0].get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
  figure.suptitle(title, fontsize=12)
  return figure


def _side_by_side(ax, results, names, value):
  """Bars of the groups `names`, one for each run."""
  width, heights = 0.8 / len(results), {}
  for i, (run, groups) in enumerate(results.items()):
    found = {entry["group"]: entry for entry in groups}
    places = [x for x, group in enumerate(names) if group in found]
    means, errors = (np.array([found[names[x]][key] for x in places]) for key in (value, f"{value}_se"))
    x = np.array(places) + (i - (len(results) - 1) / 2) * width
    ax.bar(x, means, width, yerr=2 * errors, label=run, error_kw={"linewidth": 0.8})
    for place, mean in zip(places, means, strict=True):
      heights[place] = max(heights.get(place, 0.0), float(mean))
  *_, second, largest = [0.0, *sorted(heights.values())]
  ax.set_ylim(bottom=0)
  if len(heights) > 1 and largest > _CUT * second > 0:
    ax.set_ylim(0, 1.5 * second)
    place = max(heights, key=heights.__getitem__)
    ax.text(place, 1.42 * second, f"{largest:.3g}", ha="center", fontsize=8, backgroundcolor="white")
  shown = [group.removesuffix(" times in train") for group in names]
  ax.set_xticks(range(len(names)), shown, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
  ax.set_xlim(-0.6, len(names) - 0.4)
  ax.grid(alpha=0.3, axis="y")


def group_names(results: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], grouping: str) -> list[str]:
  """The groups that any of the runs has, in their order."""
  return list(dict.fromkeys(entry["group"] for groups in results.values() for entry in groups[grouping]))


def maps(rows: Mapping[str, np.ndarray], title: str, labels: Mapping[str, str] | None = None) -> Figure:
  """Images and their maps of saliency, each relative to its largest value.

  Args:
    rows: "image" `[n, height, width, channels]`; any others are maps `[n, height, width]`.
    title: title of the figure.
    labels: words for the names of rows; default: those of one run's maps.
  """
  labels = labels or {"image": "image", "mean": "‖μ(λ_K)‖", "entropy": "entropy of q"}
  count = len(rows["image"])
  figure = Figure(figsize=(1.1 + 0.8 * count, 0.4 + 0.8 * len(rows)), dpi=100, layout="constrained")
  axes = figure.subplots(len(rows), count, squeeze=False)
  for row, (name, images) in zip(axes, rows.items(), strict=True):
    for ax, picture in zip(row, images, strict=True):
      if name == "image":
        ax.imshow(np.squeeze(picture), cmap="gray_r", vmin=0, vmax=1)
      else:
        ax.imshow(picture, cmap="Reds", vmin=0, vmax=max(float(np.max(picture)), 1e-30))
      ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(labels.get(name, name), rotation=0, ha="right", va="center")
  figure.suptitle(title, fontsize=11)
  return figure
