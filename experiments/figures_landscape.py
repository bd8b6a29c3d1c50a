"""−ELBO of an example over the means (μ₁, μ₂), and where methods put their λ in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from matplotlib import colors
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments import figures_style as style
from tf_savae.model import SAVAE
from tf_savae.objective import precompute
from tf_savae.posterior import GaussianParams

_SIGMAS = (
  6.0  # how far beyond the outermost mean z is looked at, in standard deviations: e^−18 of q is beyond
)
_STEP = 0.5  # of z, in standard deviations: sums over an even grid are then exact to 1e-7 nats
_FLOOR = 0.01  # nats above the optimum of the lowest level


class Landscape(NamedTuple):
  """−ELBO of examples over a square of means each, log σ² being that of the example's optimum.

  Attributes:
    axes: the values of μ₁ and of μ₂, `[batch, 2, n]`.
    excess: nats above the optimum, `[batch, n, n]`, μ₁ first; not negative, but for rounding.
  """

  axes: np.ndarray
  excess: np.ndarray


def landscape(
  decoder: Any, x: Any, best: GaussianParams, low: np.ndarray, high: np.ndarray, points: int = 81
) -> Landscape:
  """−ELBO over even squares of means, by sums over a grid of z that is finer than σ.

  The grid of z is evaluated once and serves all means: the expectation of log p(x | z) over them is a convolution
  with q, one axis at a time.

  Args:
    decoder: log p(x | z) with two latents.
    x: observations, batched on dimension 0.
    best: λ*, `[batch, 2]`: σ² is taken from it, and its −ELBO is the level 0.
    low, high: corners of the squares, `[batch, 2]`.
    points: n, on each axis.
  """
  best = GaussianParams(*(np.asarray(part, np.float64) for part in best))
  sigma = np.exp(0.5 * best.log_var)
  # One number of points for all: tf.function traces it once. λ* itself is on no square of means, but within z's.
  first, last = np.minimum(low, best.mean) - _SIGMAS * sigma, np.maximum(high, best.mean) + _SIGMAS * sigma
  count = 1 + int(np.ceil(np.max((last - first) / (_STEP * sigma))))
  axes, nodes = _even(low, high, points), _even(first, last, count)
  x = tf.convert_to_tensor(x)

  def values(x):
    expanded = tf.repeat(x, count, axis=0)  # a row of the grid of z at a time
    context, dtype = precompute(decoder, expanded, False, None), decoder.variable_dtype

    def at(i):
      z = tf.stack([tf.repeat(nodes[:, 0, i], count), tf.reshape(nodes[:, 1], [-1])], axis=1)
      log_prob = decoder.log_prob(expanded, tf.cast(z, dtype), context)
      return tf.cast(tf.reshape(log_prob, [-1, count]), tf.float64)

    log_prob = tf.map_fn(at, tf.range(count), fn_output_signature=tf.float64, parallel_iterations=1)
    surface = _neg_elbo(log_prob, nodes, axes, best.log_var)
    return surface - _neg_elbo(log_prob, nodes, best.mean[..., np.newaxis], best.log_var)

  nodes = tf.constant(nodes)
  return Landscape(axes, tf.function(values, autograph=False)(x).numpy())


def _neg_elbo(log_prob, nodes, means, log_var):
  """−ELBO `[batch, n, n]` at `means` `[batch, 2, n]`; log p(x | z) at `nodes` is `[count, batch, count]`, z₁ first."""
  sigma = np.exp(0.5 * log_var)[..., np.newaxis, np.newaxis]
  # The normal density over the grid, normalised there: [batch, 2, n, count].
  q = tf.nn.softmax(-0.5 * ((nodes[:, :, tf.newaxis, :] - means[..., np.newaxis]) / sigma) ** 2)
  expected = tf.einsum("ibj,bmi,bnj->bmn", log_prob, q[:, 0], q[:, 1])
  kl = 0.5 * (means**2 + (np.exp(log_var) - log_var - 1)[..., np.newaxis])  # [batch, 2, n]
  return kl[:, 0, :, np.newaxis] + kl[:, 1, np.newaxis, :] - expected


def path(model: SAVAE, x: Any, k: int | None = None) -> np.ndarray:
  """The means of λ_0 … λ_K, `[K + 1, batch, latent]`, in `k` steps (default: the model's `eval_k`)."""

  def means(x):
    batch = model.inference(x, k)
    start = batch.start()
    if not batch.settings.num_steps:
      return start.mean[tf.newaxis]
    return batch.refine(start, adjoint=None)[1].mean

  return tf.function(means, autograph=False)(tf.convert_to_tensor(x)).numpy()


def levels(top: float, floor: float = _FLOOR) -> np.ndarray:
  """1, 3, 10, 30, … times `floor`, up to the first one that is not below `top`."""
  result = [floor]
  while result[-1] < top:
    decade, odd = divmod(len(result), 2)
    result.append(floor * 10**decade * (3 if odd else 1))
  return np.array(result)


def views(paths: Mapping[str, np.ndarray], best: GaussianParams, reach: float = 3.0) -> list[np.ndarray]:
  """Corners `[2, batch, 2]`, low and high, of the wide squares, all the same, and of the ones around each optimum.

  Wide ones reach as far as the prior does, and as the paths do. Narrow ones hold each path's end, if it is not much
  farther from the optimum than q is wide.
  """
  mean, batch = np.asarray(best.mean, np.float64), len(best.mean)
  points = np.concatenate([mean[np.newaxis], *paths.values()])
  low, high = min(-reach, points.min() - 0.3), max(reach, points.max() + 0.3)
  wide = np.stack([np.full([batch, 2], low), np.full([batch, 2], high)])
  sigma = np.exp(0.5 * np.asarray(best.log_var)).max(axis=1)
  farthest = np.max([np.abs(p[-1] - mean).max(axis=1) for p in paths.values()] or [0 * sigma], axis=0)
  half = np.clip(1.25 * farthest, 2 * sigma, 6 * sigma)[:, np.newaxis]
  return [wide, np.stack([mean - half, mean + half])]


def draw(
  rows: Sequence[Landscape],
  paths: Mapping[str, np.ndarray],
  best: GaussianParams,
  names: Sequence[str],
  *,
  title: str = "",
) -> Figure:
  """One column per example and one row per view, with contours of −ELBO in nats above the optimum.

  Args:
    rows: the wide view and the one around the optimum, of the same examples.
    paths: name of a method → means of its λ, `[steps + 1, batch, 2]`; one of one λ is a point.
    best: λ*, `[batch, 2]`.
    names: of the examples.
    title: above all.
  """
  columns = len(names)
  figure = style.figure(0.9 + 2.75 * len(rows))
  axes = figure.subplots(len(rows), columns, squeeze=False)
  edges = levels(max(float(row.excess.max()) for row in rows))
  norm = colors.BoundaryNorm([0, *edges], 256, extend="neither")
  shades = colors.LinearSegmentedColormap.from_list("paper", ["#ffffff", "#999999"])
  for i, (ax, row) in enumerate(zip(axes.flat, [r for r in rows for _ in names], strict=True)):
    column = i % columns
    first, second = row.axes[column]
    z = np.maximum(row.excess[column].T, 0.0)  # contours take the second axis first
    filled = ax.contourf(first, second, z, levels=[0, *edges], cmap=shades, norm=norm)
    ax.contour(first, second, z, levels=edges, colors="0.45", linewidths=0.6)
    is_first, is_last = column == 0, i >= columns * (len(rows) - 1)
    handles = _paths(ax, {name: p[:, column] for name, p in paths.items()}, 7 if is_last else 5)
    size = 11 if is_last else 8
    handles += ax.plot(*best.mean[column], "*", color=style.OPTIMUM, markersize=size, zorder=6, linestyle="")
    handles[-1].set_label("best Gaussian, λ*")
    if not is_last:
      corner, opposite = rows[-1].axes[column][:, 0], rows[-1].axes[column][:, -1]
      ax.add_patch(Rectangle(corner, *(opposite - corner), fill=False, linewidth=1.0, zorder=3))
    ax.set(xlim=first[[0, -1]], ylim=second[[0, -1]], aspect="equal")
    ax.locator_params(nbins=5)
    heading = names[column] if i < columns else "around its optimum"
    style.label(ax, "μ₁" if is_last else "", "μ₂" if is_first else "", heading)
  bar = figure.colorbar(filled, ax=axes, ticks=edges, format=lambda v, _: f"{v:g}", shrink=0.9, pad=0.01)
  bar.set_label("−ELBO above its minimum, nats", fontsize=style.TEXT)
  bar.ax.tick_params(labelsize=style.SMALL)
  bar.ax.minorticks_off()
  figure.legend(
    handles=handles, loc="outside lower center", ncols=len(handles), fontsize=style.SMALL, frameon=False
  )
  if title:
    figure.suptitle(title, fontsize=style.TEXT)
  return figure


def _paths(ax, paths, size):
  """Lines from λ_0, hollow, to λ_K, filled; returns what a legend shows."""
  handles = []
  for name, points in paths.items():
    mark = {"color": style.colour_of(name), "marker": style.marker_of(name), "markersize": size}
    if len(points) > 1:
      line = ax.plot(
        *points.T, color=mark["color"], linewidth=1.4, marker=".", markersize=0.5 * size, zorder=4
      )
      ax.plot(*points[0], **mark, markerfacecolor="white", zorder=5)
    end = ax.plot(*points[-1], **mark, markeredgecolor="white", linestyle="", zorder=5)
    handles.append((line if len(points) > 1 else end)[0])
    handles[-1].set_label(name)
  return handles


def _even(low, high, count):
  """Even points from `low` to `high` `[batch, 2]`: `[batch, 2, count]`."""
  return low[..., np.newaxis] + (high - low)[..., np.newaxis] * np.linspace(0.0, 1.0, count)
