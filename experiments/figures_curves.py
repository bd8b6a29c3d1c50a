"""Numbers of an experiment as figures: bounds against test-time K, gaps in their parts, learned step sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from experiments import figures_style as style
from tf_savae.evaluation.figures import step_ticks

_MARKERS = "sov^DP"  # of several K in training


class SweepPoint(NamedTuple):
  """The bound of a model at one K.

  Attributes:
    k: SVI steps at test time.
    value: nats.
    se: its standard error; None: not known.
  """

  k: int
  value: float
  se: float | None


class Gap(NamedTuple):
  """A method's inference gap in its parts, nats.

  Attributes:
    key: key of the method's row, which decides its colour.
    name: label of the bar.
    approximation: loss of the best Gaussian.
    amortisation: additional loss of the method.
    se: standard error of the sum; None: not known.
    runs: the sum for each run, that is for each seed and oracle.
  """

  key: str
  name: str
  approximation: float
  amortisation: float
  se: float | None = None
  runs: Sequence[float] = ()

  @property
  def total(self) -> float:
    return self.approximation + self.amortisation


class StepCurves(NamedTuple):
  """Step sizes of runs that differ in their seeds.

  Attributes:
    initial: sizes before learning, `[K]`.
    learned: sizes of each run after learning, `[K]` or `[K, latent]`.
  """

  initial: np.ndarray
  learned: Sequence[np.ndarray]


def train_vs_test(curves: Mapping[int, Sequence[SweepPoint]], quantity: str, title: str = "") -> Figure:
  """Bound against K at test time, with one line per K in training; the point where both are equal is filled.

  Args:
    curves: K in training → its points. K = 0 is a VAE and has its colour, the others shades of SA-VAE's.
    quantity: what the numbers are, with their unit. Those that are positive and span more than a factor of 10 get
      a logarithmic axis.
    title: above the axes.
  """
  figure = style.figure(4.6)
  ax = figure.subplots()
  refined = sorted(k for k in curves if k)
  for (trained, points), marker in zip(sorted(curves.items()), _MARKERS, strict=False):
    points = sorted(points)
    colour = style.COLOURS["vae"]
    if trained:
      place = refined.index(trained) / max(len(refined) - 1, 1)
      colour = shade(style.COLOURS["savae"], 0.45 - 0.95 * place)
    x, y = [p.k for p in points], [p.value for p in points]
    label = f"SA-VAE, K = {trained}" if trained else "VAE, K = 0"
    errors = [2 * (p.se or 0) for p in points]
    ax.errorbar(x, y, yerr=errors, color=colour, linewidth=1.8, capsize=3, elinewidth=1.2)
    line = ax.plot(x, y, color=colour, marker=marker, markersize=7, markerfacecolor="white", linestyle="")[0]
    line.set_label(label)
    same = [p for p in points if p.k == trained]
    ax.plot(
      [p.k for p in same], [p.value for p in same], color=colour, marker=marker, markersize=9, linestyle=""
    )
  values = [p.value for points in curves.values() for p in points]
  if min(values) > 0 and max(values) > 10 * min(values):
    _log(ax)
  ax.set_xticks(step_ticks({p.k for points in curves.values() for p in points}))
  ax.grid(alpha=0.3, which="both")
  style.label(ax, "K, SVI steps at test time", f"{quantity}, ± 2 s.e.", title)
  figure.legend(
    loc="outside right upper",
    title="trained with\n(filled: as in training)",
    fontsize=style.SMALL,
    title_fontsize=style.SMALL,
    frameon=False,
  )
  return figure


def gap_stacks(gaps: Sequence[Gap], title: str = "") -> Figure:
  """One bar per method: in grey the loss due to the family, in colour that due to the method, at its end the sum.

  A bar far longer than the others is cut and marked, because the others would be too short to read. Dots are runs.

  Args:
    gaps: from top to bottom.
    title: above the axes.
  """
  figure = style.figure(1.5 + 0.42 * len(gaps))
  ax = figure.subplots()
  totals = np.array([gap.total for gap in gaps])
  limit = _cut(totals)
  for i, gap in enumerate(gaps):
    colour, cut = style.colour_of(gap.key), gap.total > limit
    ax.barh(i, gap.approximation, color=style.FAMILY_LIMIT, height=0.62)
    ax.barh(i, gap.amortisation, left=gap.approximation, color=colour, height=0.62)
    seen = [run for run in gap.runs if run <= limit]
    ax.plot(seen, [i + 0.19] * len(seen), "o", color="black", markersize=4, markerfacecolor="white", zorder=4)
    error = 2 * (gap.se or 0)
    text = f"{gap.total:.3f}" + ("" if gap.se is None else f" ± {error:.3f}")
    place = {"textcoords": "offset points", "va": "center", "fontsize": style.SMALL}
    if cut:
      ax.annotate(f"{text} →", (limit, i), (-6, 0), ha="right", color="white", **place)
      continue
    if gap.se is not None:
      ax.errorbar(gap.total, i, xerr=error, color="black", capsize=4, linewidth=1.4, zorder=3)
    ax.annotate(text, (max([gap.total + error, *seen]), i), (6, 0), **place)
  ax.set_yticks(range(len(gaps)), [gap.name for gap in gaps])
  ax.set_xlim(0, limit)
  ax.set_ylim(len(gaps) - 0.5, -0.5)
  for side in ("top", "right"):
    ax.spines[side].set_visible(False)
  ax.grid(alpha=0.3, axis="x")
  ax.set_axisbelow(True)
  style.label(ax, "−ELBO − true NLL, nats per example (± 2 s.e.; dots: runs)", "", title)
  ax.tick_params(axis="y", labelsize=style.TEXT)
  colours = dict.fromkeys(style.colour_of(gap.key) for gap in gaps)
  handles = [Patch(color=style.FAMILY_LIMIT), tuple(Patch(color=colour) for colour in colours)]
  names = ["approximation gap: the best diagonal Gaussian's", "amortisation gap: the method's own"]
  figure.legend(
    handles,
    names,
    loc="outside lower center",
    ncols=2,
    fontsize=style.SMALL,
    frameon=False,
    handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
    handlelength=3,
  )
  return figure


def step_sizes(panels: Mapping[str, StepCurves], title: str = "") -> Figure:
  """Learned α_k against k: one thin line per run, and the initial values dashed. μ and log σ² share one α_k.

  Args:
    panels: title → runs. If each latent has a separate step size, that of the second latent is darker and dotted.
    title: title of the figure.
  """
  figure = style.figure(4.2)
  axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
  colour, handles = style.COLOURS["savae"], {}  # no other method can learn them
  for ax, (name, curves) in zip(axes, panels.items(), strict=True):
    for sizes in curves.learned:
      sizes = np.reshape(sizes, [len(sizes), -1])
      for j, column in enumerate(sizes.T):
        look = {"color": shade(colour, -0.5 * j), "linestyle": (":" if j else "-")}
        line = ax.plot(np.arange(len(sizes)), column, linewidth=1.4 if j else 1.1, **look)[0]
        label = (
          "learned, for all latents"
          if len(sizes.T) == 1
          else f"learned, of z{'₁₂₃₄₅₆₇₈₉'[j] if j < 9 else j + 1}"
        )
        handles.setdefault(label, line)
    initial = np.asarray(curves.initial, np.float64)
    first = ax.plot(np.arange(len(initial)), initial, color="black", linestyle="--", linewidth=1.4)[0]
    handles.setdefault("at the beginning", first)
    _log(ax)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.3, which="both")
    style.label(ax, "k, SVI step", "α_k, step size" if ax is axes[0] else "", name)
  figure.legend(
    handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=style.SMALL, frameon=False
  )
  if title:
    figure.suptitle(title, fontsize=style.TEXT)
  return figure


def _cut(totals: np.ndarray) -> float:
  """Where the axis of `gap_stacks` ends: with room for the numbers, and not far beyond all but the largest."""
  return 1.3 * float(min(totals.max(), 2.5 * np.median(totals)))


def _log(ax) -> None:
  """A logarithmic y axis with plain numbers at 1, 2 and 5 of every decade: one decade alone has several."""
  ax.set_yscale("log")
  for ticks, of_ticks in (
    (ax.yaxis.set_major_locator, (1.0, 2.0, 5.0)),
    (ax.yaxis.set_minor_locator, range(1, 10)),
  ):
    ticks(LogLocator(subs=of_ticks))
  ax.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
  ax.yaxis.set_minor_formatter(NullFormatter())


def shade(colour: str, amount: float) -> tuple[float, ...]:
  """The colour mixed with white (amount > 0) or black (< 0)."""
  towards = 1.0 if amount > 0 else 0.0
  return tuple((1 - abs(amount)) * c + abs(amount) * towards for c in to_rgb(colour))
