"""Figures of images and of the refinement, for TensorBoard and for README."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from tf_savae import atomic_files, observations
from tf_savae.evaluation.latents import most_active, traversal
from tf_savae.evaluation.posteriors import Posteriors
from tf_savae.model import SAVAE
from tf_savae.seeds import Purpose, stateless_seed

_INCHES = 0.62  # side of a small image
_DPI = 100


def mosaic(images: np.ndarray, columns: int) -> np.ndarray:
  """Images in [0, 1] side by side, separated by a light line.

  Args:
    images: `[n, height, width, channels]` or `[n, height, width]`.
    columns: images per row.

  Returns:
    One image `[rows · (height + 1) + 1, columns · (width + 1) + 1]`, which is 0 where there is paper; of images in
    colour, `[…, 3]`.
  """
  images = np.asarray(images, np.float32)
  images = images if images.shape[3:] == (3,) else images.reshape(images.shape[:3])
  height, width, *colours = images.shape[1:]
  rows = -(-len(images) // columns)
  line = 0.75 if colours else 0.25
  canvas = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1, *colours), line, np.float32)
  for i, image in enumerate(images):
    top, left = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
    canvas[top : top + height, left : left + width] = image
  return canvas


def image_rows(rows: Mapping[str, np.ndarray], title: str = "") -> Figure:
  """A figure with one labelled row of images per entry, such as data and their reconstructions.

  Args:
    rows: label, of one line or two → images `[n, height, width, channels]` in [0, 1], with the same n in each row; one
      channel is drawn as ink on paper.
    title: title of the figure.
  """
  columns = max(len(images) for images in rows.values())
  label_inches = 0.2 + 0.105 * max(len(line) for label in rows for line in label.splitlines())
  title_inches, row_inches, gap = (0.4 if title else 0.05), _INCHES, 0.08
  width = label_inches + _INCHES * columns + 0.05
  height = title_inches + (row_inches + gap) * len(rows)
  figure = Figure(figsize=(width, height), dpi=_DPI)
  for i, (label, images) in enumerate(rows.items()):
    bottom = height - title_inches - (i + 1) * row_inches - i * gap
    box = (label_inches / width, bottom / height, _INCHES * len(images) / width, row_inches / height)
    ax = figure.add_axes(box)
    _show(ax, mosaic(images, len(images)))
    ax.set_ylabel(label, rotation=0, ha="right", va="center", multialignment="right", fontsize=13)
  if title:
    figure.suptitle(title, fontsize=12)
  return figure


def image_grid(images: np.ndarray, title: str = "", columns: int = 8) -> Figure:
  """A figure of images `[n, height, width, channels]` in [0, 1], row by row."""
  columns = min(columns, len(images))
  rows = -(-len(images) // columns)
  figure = _figure(0.2 + _INCHES * columns, _INCHES * rows + (0.4 if title else 0.1))
  _show(figure.subplots(), mosaic(images, columns))
  if title:
    figure.suptitle(title, fontsize=12)
  return figure


def svi_curve(curves: Sequence[tuple[str, np.ndarray]], title: str = "") -> Figure:
  """The bound at each SVI step relative to λ_0, so that epochs with very different bounds share axes.

  Args:
    curves: label and mean −ELBO at λ_0 … λ_K, `[K + 1]`, in nats per example. The last curve stands out; earlier ones,
      such as those of earlier epochs, are paler. The numbers at both ends are added to the labels.
    title: title of the axes.
  """
  figure = _figure(6.4, 4.0)
  ax = figure.subplots()
  for i, (label, values) in enumerate(curves):
    last = i == len(curves) - 1
    style = {"color": "C0", "linewidth": 2.5, "marker": "."} if last else {"color": "0.4", "linewidth": 1}
    shade = 1.0 if last else 0.3 + 0.6 * i / len(curves)
    name = f"{label}: {values[0]:.2f} → {values[-1]:.2f}"
    ax.plot(np.arange(len(values)), values - values[0], label=name, alpha=shade, **style)
  ax.axhline(0, color="0.7", linewidth=0.8)
  ax.xaxis.get_major_locator().set_params(integer=True)
  ax.set_xlabel("k, SVI steps done", fontsize=12)
  ax.set_ylabel("−ELBO(λ_k) + ELBO(λ_0), nats", fontsize=12)
  ax.tick_params(labelsize=11)
  ax.grid(alpha=0.3)
  ax.legend(loc="best", fontsize=10)
  if title:
    ax.set_title(title, fontsize=12)
  return figure


def steps_curve(rows: Sequence[Mapping[str, Any]], trained: int, title: str = "") -> Figure:
  """Bound against SVI steps at test time.

  Args:
    rows: result of `tf_savae.evaluation.steps_curve.summary`. Error bars are two paired standard errors of the
      difference to the first row.
    trained: K in training, which is marked.
    title: title of the axes.
  """
  figure = _figure(6.4, 4.0)
  ax = figure.subplots()
  label = f"−ELBO, ± 2 s.e. of the difference to K = {rows[0]['k']}"
  rows = sorted(rows, key=lambda row: row["k"])
  steps, bounds = [row["k"] for row in rows], [row["bound"] for row in rows]
  errors = [2 * (row["difference_se"] or 0) for row in rows]
  ax.axvline(trained, color="0.6", linestyle="--", linewidth=1.2, label=f"K = {trained} in training")
  ax.errorbar(steps, bounds, yerr=errors, color="C0", marker="o", linewidth=2, capsize=4, label=label)
  ax.set_xticks(step_ticks(steps))
  ax.set_xlabel("K, SVI steps at test time", fontsize=12)
  ax.set_ylabel("−ELBO, nats per example", fontsize=12)
  ax.tick_params(labelsize=11)
  ax.grid(alpha=0.3)
  figure.legend(loc="outside lower center", ncols=2, fontsize=10, frameon=False)  # where it hides no point
  if title:
    ax.set_title(title, fontsize=12)
  return figure


def step_ticks(steps: Sequence[int]) -> list[int]:
  """The numbers of steps for which an axis has room: the largest, and those far enough from the others."""
  steps = sorted(steps)
  result, apart = [steps[-1]], (steps[-1] - steps[0]) / 25
  for k in reversed(steps[:-1]):
    if result[-1] - k >= apart and (k == steps[0] or k - steps[0] >= apart):
      result.append(k)
  return result[::-1]


def to_array(figure: Figure) -> np.ndarray:
  """The pixels of a figure, uint8 `[height, width, 3]`."""
  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
  """Writes the figure as PNG atomically: a kill leaves either the old file or the new one.

  Raises:
    UserError: the file cannot be written.
  """
  image = Image.fromarray(to_array(figure))
  with atomic_files.writing(path) as new:
    image.save(new, format="PNG", optimize=True)


def draw(model: SAVAE, z: Any, seed: int = 0, x: Any = None) -> np.ndarray | None:
  """Images x ~ p_θ(x | z) for z `[n, latent]`, or expected images if the decoder cannot sample.

  The noise is a function of (model seed, `seed`, row), so pictures drawn from λ_0 and λ_K differ only by λ.

  Args:
    model: the model.
    z: `[n, latent]`.
    seed: of the noise.
    x: observations with the conditions of a conditional model.

  Returns:
    `[n, height, width, channels]`, or None if the decoder offers neither.
  """
  z, given = tf.convert_to_tensor(z), {} if x is None else model.given(x)
  if hasattr(model.decoder, "sample"):
    return model.decoder.sample(z, stateless_seed(model.seed, seed, Purpose.GENERATE), **given).numpy()
  return model.decoder.decode(z, **given).numpy() if hasattr(model.decoder, "decode") else None


def reconstruction_rows(model: SAVAE, x: Any, posteriors: Posteriors | None) -> dict[str, np.ndarray]:
  """Rows for `image_rows`: n images x, and images drawn at the posterior means of λ_0 and λ_K."""
  rows = {"data": observations.image_of(x)}
  if posteriors is not None:
    if posteriors.initial is not None and model.eval_k:
      rows[lambda_name(0)] = draw(model, posteriors.centers_initial, x=x)
    rows[lambda_name(model.eval_k)] = draw(model, posteriors.centers, x=x)
  return {name: images for name, images in rows.items() if images is not None}


def traversal_rows(model: SAVAE, means: np.ndarray, x: Any = None, num: int = 4) -> dict[str, np.ndarray]:
  """Rows for `image_rows`: the expected image as one latent goes from −3 to 3, for each of the most active latents.

  Args:
    model: a model with a latent.
    means: posterior means `[examples, latent]`. The other latents stay as in the first example.
    x: the examples, whose first one also says what a conditional model is given.
    num: number of latents.

  Returns:
    Rows by the names of the latents, such as z₁₂; none if the decoder has no expected image.
  """
  if not hasattr(model.decoder, "decode"):
    return {}
  latents, values = most_active(means, num), np.linspace(-3, 3, 7)
  z = np.concatenate([traversal(means[0], latent, values) for latent in latents])
  given = {} if x is None else model.given(observations.take(x, np.zeros(len(z), int)))
  images = np.split(model.decode(tf.convert_to_tensor(z), **given).numpy(), len(latents))
  return {f"z{_subscript(latent)}": row for latent, row in zip(latents, images, strict=True)}


def lambda_name(k: int) -> str:
  """λ with k as its subscript, such as λ₂₀."""
  return f"λ{_subscript(k)}"


def _subscript(number: int) -> str:
  return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _figure(width: float, height: float) -> Figure:
  return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def _show(ax, canvas: np.ndarray) -> None:
  canvas = np.clip(canvas, 0, 1)  # draws of a Gaussian may lie outside
  ax.imshow(canvas, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
  ax.set_xticks([])
  ax.set_yticks([])
  for spine in ax.spines.values():
    spine.set_visible(False)
