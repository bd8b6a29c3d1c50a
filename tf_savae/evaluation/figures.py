"""Figures of images and of the refinement, for TensorBoard and for README."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from tf_savae.data.dataset import DataSet
from tf_savae.evaluation.posteriors import Inference, Posteriors
from tf_savae.model import SAVAE
from tf_savae.seeds import Purpose, stateless_seed

_INCHES = 0.62  # side of a small image
_DPI = 100


def mosaic(images: np.ndarray, columns: int) -> np.ndarray:
  """Images in [0, 1] side by side, a light line between them.

  Args:
    images: `[n, height, width, 1]` or `[n, height, width]`.
    columns: images a row.

  Returns:
    One image `[rows · (height + 1) + 1, columns · (width + 1) + 1]`, 0 where there is paper.
  """
  images = np.asarray(images, np.float32).reshape(len(images), *images.shape[1:3])
  _, height, width = images.shape
  rows = -(-len(images) // columns)
  canvas = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1), 0.25, np.float32)
  for i, image in enumerate(images):
    top, left = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
    canvas[top : top + height, left : left + width] = image
  return canvas


def image_rows(rows: Mapping[str, np.ndarray], title: str = "") -> Figure:
  """One labelled row for each entry: for instance data and its reconstructions, example below example.

  Args:
    rows: label → images `[n, height, width, 1]` in [0, 1], the same n in each row; drawn as ink on paper.
    title: above them.
  """
  columns = max(len(images) for images in rows.values())
  figure = _figure(1.5 + _INCHES * columns, (_INCHES + 0.06) * len(rows) + (0.4 if title else 0.1))
  axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
  for ax, (label, images) in zip(axes, rows.items(), strict=True):
    _show(ax, mosaic(images, columns))
    ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10)
  if title:
    figure.suptitle(title, fontsize=10)
  return figure


def image_grid(images: np.ndarray, title: str = "", columns: int = 8) -> Figure:
  """Images `[n, height, width, 1]` in [0, 1], row by row."""
  rows = -(-len(images) // columns)
  figure = _figure(0.2 + _INCHES * columns, _INCHES * rows + (0.4 if title else 0.1))
  _show(figure.subplots(), mosaic(images, columns))
  if title:
    figure.suptitle(title, fontsize=10)
  return figure


def svi_curve(curves: Sequence[tuple[str, np.ndarray]], title: str = "") -> Figure:
  """The bound against the SVI step: what refinement gains, and whether K steps are enough.

  Args:
    curves: label and mean −ELBO at λ_0 … λ_K, `[K + 1]`, in nats per example. The last one stands out and its label
      names its numbers; the ones before, such as earlier epochs, are drawn paler the earlier they come.
    title: above the axes.
  """
  figure = _figure(6.4, 3.8)
  ax = figure.subplots()
  for i, (label, values) in enumerate(curves):
    last = i == len(curves) - 1
    style = {"color": "C0", "linewidth": 2, "marker": "."} if last else {"color": "0.6", "linewidth": 1}
    shade = 1.0 if last else 0.25 + 0.6 * (i + 1) / len(curves)
    name = f"{label}: {values[0]:.2f} → {values[-1]:.2f}" if last else label
    ax.plot(np.arange(len(values)), values, label=name, alpha=shade, **style)
  newest = curves[-1][1]
  # Scaled to the newest curve: those of the first epochs may lie far above it.
  spread = max(float(np.max(newest) - np.min(newest)), 1e-3 * abs(float(newest[-1])), 1e-6)
  if all(np.isfinite(newest)):
    ax.set_ylim(np.min(newest) - 0.15 * spread, np.max(newest) + 0.6 * spread)
  ax.xaxis.get_major_locator().set_params(integer=True)
  ax.set_xlabel("k, SVI steps done")
  ax.set_ylabel("−ELBO at λ_k, nats per example")
  ax.grid(alpha=0.3)
  ax.legend(loc="upper right", fontsize=9)
  if title:
    ax.set_title(title, fontsize=10)
  return figure


def to_array(figure: Figure) -> np.ndarray:
  """The figure's pixels, uint8 `[height, width, 3]`."""
  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
  """Writes the figure as PNG."""
  buffer = io.BytesIO()
  Image.fromarray(to_array(figure)).save(buffer, format="PNG", optimize=True)
  with open(path, "wb") as file:
    file.write(buffer.getvalue())


def draw(model: SAVAE, z: Any, seed: int = 0) -> np.ndarray | None:
  """Images x ~ p_θ(x | z) for z `[n, latent]`; the expected image from a decoder that cannot sample.

  The noise is a function of (model seed, `seed`, row): pictures drawn from λ_0 and λ_K differ by λ only.

  Returns:
    `[n, height, width, 1]`, or None from a decoder that offers neither.
  """
  z = tf.convert_to_tensor(z)
  if hasattr(model.decoder, "sample"):
    return model.decoder.sample(z, stateless_seed(model.seed, seed, Purpose.GENERATE)).numpy()
  return model.decoder.decode(z).numpy() if hasattr(model.decoder, "decode") else None


def reconstruction_rows(model: SAVAE, x: np.ndarray, posteriors: Posteriors | None) -> dict[str, np.ndarray]:
  """Rows for `image_rows`: data x `[n, height, width, 1]`, and images drawn at the means of λ_0 and λ_K."""
  rows = {"data": x}
  if posteriors is not None:
    if posteriors.initial is not None and model.eval_k:
      rows[f"drawn at {lambda_name(0)}"] = draw(model, posteriors.initial.mean)
    rows[f"drawn at {lambda_name(model.eval_k)}"] = draw(model, posteriors.final.mean)
  return {name: images for name, images in rows.items() if images is not None}


def lambda_name(k: int) -> str:
  """λ with k as its index: λ₂₀."""
  return "λ" + str(k).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def save_overview(
  model: SAVAE, data: DataSet, path: str | os.PathLike[str], *, split: str = "test", n: int = 10
) -> None:
  """One picture of a model of images: data, reconstructions at λ_0 and λ_K, samples from the prior.

  Args:
    model: a trained model.
    data: image data; a stand-in is called so in the picture.
    path: the PNG file to write.
    split: where the examples come from.
    n: examples a row.

  Raises:
    ValueError: the data are not images.
  """
  if data.kind != "image":
    raise ValueError(f"Only images can be drawn. Received: data of kind {data.kind!r}")
  x = data.examples(split, n)
  rows = reconstruction_rows(model, x, Inference(model)(x) if model.latent_dim else None)
  rows["prior samples" if model.latent_dim else "samples"] = model.sample(n).numpy()
  save(image_rows(rows, title="stand-in data" if data.is_stand_in else ""), path)


def _figure(width: float, height: float) -> Figure:
  return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def _show(ax, canvas: np.ndarray) -> None:
  ax.imshow(canvas, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
  ax.set_xticks([])
  ax.set_yticks([])
  for spine in ax.spines.values():
    spine.set_visible(False)
