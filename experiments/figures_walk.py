"""How λ walks up the ELBO of one example, with two latents: the contours that it crosses, and what each step gains."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from matplotlib import colors, rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from experiments import figures_landscape as scenery
from experiments import figures_style as style
from tf_savae import atomic_files
from tf_savae.data.dataset import DataSet
from tf_savae.errors import UserError
from tf_savae.evaluation import grid
from tf_savae.evaluation.figures import lambda_name
from tf_savae.model import SAVAE
from tf_savae.objective import precompute
from tf_savae.posterior import GaussianParams
from tf_savae.runs import restore

_MARGIN = 0.45  # of the plane around the path


class Walk(NamedTuple):
  """How one example's posterior moves.

  Attributes:
    means: those of λ_0 … λ_K, `[K + 1, 2]`.
    neg_elbo: at λ_0 … λ_K, by quadrature, `[K + 1]`, nats.
    best: the best diagonal Gaussian, `[1, 2]`.
    optimum: its −ELBO, nats.
    square: −ELBO over the plane of means around the walk.
  """

  means: np.ndarray
  neg_elbo: np.ndarray
  best: GaussianParams
  optimum: float
  square: scenery.Landscape


def draw_run(run_dir: str, out: str | os.PathLike[str], *, example: int = 0, k: int | None = None) -> Walk:
  """Draws the walk of one test example of a run, and writes it as SVG.

  Args:
    run_dir: a run with two latents, whose method refines.
    out: the file to write.
    example: which example of the test split.
    k: SVI steps; default: the run's.

  Raises:
    UserError: the run does not refine two latents, or there is no such example.
  """
  run, data = restore.load_with_data(run_dir)
  found = walk(run.model, example_of(data, example), k)
  save_svg(draw(found, f"test example {example}, K = {len(found.means) - 1}"), out)
  return found


def example_of(data: DataSet, example: int) -> tf.Tensor:
  """A batch of this one test example.

  Raises:
    UserError: there is no such example.
  """
  count = data.num_examples("test")
  if example >= count:
    raise UserError(f"--example must be below {count}, the number of test examples; received {example}")
  return tf.convert_to_tensor(data.examples("test", example + 1)[-1:])


def walk(model: SAVAE, x: tf.Tensor, k: int | None = None) -> Walk:
  """The walk of the example x `[1, …]` in `k` steps (default: the model's `eval_k`).

  Raises:
    UserError: the model does not refine two latents.
  """
  if model.latent_dim != 2 or not model.method.refines:
    raise UserError(
      "a walk can be drawn for a method that refines two latents;"
      f" received latent_dim={model.latent_dim} and model={model.method_name}"
    )
  every, values, exact = tf.function(lambda x: _measured(model, x, k), autograph=False)(x)
  best = grid.best_gaussian(exact)
  means = every.mean.numpy()
  points = np.concatenate([means, best.mean.numpy()])
  middle, half = (points.max(0) + points.min(0)) / 2, np.ptp(points, axis=0).max() / 2 + _MARGIN
  square = scenery.landscape(model.decoder, x, best, (middle - half)[np.newaxis], (middle + half)[np.newaxis])
  return Walk(means, values.numpy(), best, float(-grid.grid_elbo(exact, best)[0]), square)


def _measured(model, x, k):
  """λ_0 … λ_K, `[K + 1, 2]` each, their −ELBO `[K + 1]`, and the exact posterior."""
  batch = model.inference(x, k)
  every = GaussianParams(*(part[:, 0] for part in batch.refine(batch.start(), adjoint=None)[1]))
  repeated = tf.repeat(x, every.mean.shape[0], axis=0)
  values = -grid.elbo(model.decoder, repeated, precompute(model.decoder, repeated, False, None), every)
  return every, values, grid.posterior(model.decoder, x, precompute(model.decoder, x, False, None))


def draw(walk: Walk, title: str = "") -> Figure:
  """The contours that the means cross, and −ELBO against the step."""
  means, values, best, optimum, square = walk
  figure, colour, last = style.figure(3.9), style.COLOURS["savae"], len(means) - 1
  plane, curve = figure.subplots(1, 2, width_ratios=[1, 1.15])
  first, second = square.axes[0]
  edges = scenery.levels(float(square.excess.max()), floor=0.03)
  norm = colors.BoundaryNorm([0, *edges], 256)
  shades = colors.LinearSegmentedColormap.from_list("paper", ["#ffffff", "#b8c4d6"])
  excess = np.maximum(square.excess[0].T, 0.0)
  plane.contourf(first, second, excess, levels=[0, *edges], cmap=shades, norm=norm)
  lines = plane.contour(first, second, excess, levels=edges, colors="0.4", linewidths=0.6)
  plane.clabel(lines, fmt="%g", fontsize=8)
  plane.plot(*means.T, color=colour, linewidth=1.5, marker=".", markersize=7)
  plane.plot(*means[0], "o", color=colour, markerfacecolor="white", markersize=8)
  plane.plot(*means[-1], "o", color=colour, markersize=8)
  plane.plot(*best.mean.numpy()[0], "*", color=style.OPTIMUM, markersize=11)
  for name, point in ((lambda_name(0), means[0]), (lambda_name(last), means[-1])):
    plane.annotate(name, point, xytext=(7, 7), textcoords="offset points", fontsize=style.TEXT)
  plane.set_aspect("equal")
  style.label(plane, "μ₁", "μ₂", "−ELBO above its minimum, nats")
  curve.axhline(optimum, color=style.OPTIMUM, linewidth=1, linestyle="--", label="the best Gaussian (★)")
  curve.plot(np.arange(len(values)), values, color=colour, marker="o", linewidth=1.8, label="λ after k steps")
  curve.plot(0, values[0], "o", color=colour, markerfacecolor="white", zorder=3)
  curve.xaxis.get_major_locator().set_params(integer=True)
  curve.grid(alpha=0.3)
  curve.legend(fontsize=style.SMALL, frameon=False)
  style.label(curve, "k, SVI steps done", "−ELBO, nats", title)
  return figure


def save_svg(figure: Figure, path: str | os.PathLike[str]) -> None:
  """Writes the figure as SVG that depends on its content alone, with text as outlines."""
  with rc_context({"svg.hashsalt": "tf_savae"}), atomic_files.writing(path) as new:
    FigureCanvasSVG(figure).print_svg(new, metadata={"Date": None})
