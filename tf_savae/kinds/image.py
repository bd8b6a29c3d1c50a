"""Binary images, float32 `[batch, height, width, 1]`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from tf_savae.data.images import ImageDataSet, images_from_arrays
from tf_savae.evaluation import figures
from tf_savae.evaluation.posteriors import Posteriors
from tf_savae.kind import Kind
from tf_savae.model import SAVAE
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory
from tf_savae.runs.restore import Restored
from tf_savae.serving import images
from tf_savae.serving.payloads import FromLatent, Input, Payloads, checked, drawn_as_it_is

_SHAPE = "image_shape"  # among the facts about the data
_OMNIGLOT = (28, 28, 1)  # for runs of older versions, which did not store it


class ImageKind(Kind):
  """Images of one size, with pictures of data, reconstructions and samples; served as arrays and PNG files."""

  examples = "images"

  def facts(self, data: ImageDataSet) -> dict[str, Any]:
    return {_SHAPE: list(data.image_shape)}

  def outline(self, config: RunConfig, run: RunDirectory) -> ImageDataSet:
    blank = np.zeros([1, *run.data_facts().get(_SHAPE, _OMNIGLOT)], np.float32)
    return images_from_arrays(blank, blank, blank, source="none", seed=config.seed)

  def xla_pays_from(self, on_gpu: bool) -> float:
    return 0 if on_gpu else np.inf  # on CPU it makes the PixelCNN's convolutions 12 times slower

  def save_pictures(self, model: SAVAE, data: ImageDataSet, directory: Path) -> None:
    figures.save_overview(model, data, directory / "overview.png")

  def pictures(
    self, model: SAVAE, x: np.ndarray, posteriors: Posteriors | None, note: str
  ) -> Iterator[tuple[str, Figure]]:
    if posteriors is not None:
      # Few, with short labels, so that they are legible at the size of TensorBoard's cards.
      rows = figures.reconstruction_rows(model, x[:8], posteriors.first(8))
      title = f"data{note}, and x drawn from p(x | z), z = mean of q_λ"
      yield "pictures/reconstructions", figures.image_rows(rows, title)
      walks = figures.traversal_rows(model, posteriors.final.mean)
      if walks:
        yield "pictures/latent_traversals", figures.image_rows(walks, f"one latent from −3 to 3{note}")
    if hasattr(model.decoder, "sample"):
      samples = model.sample(24).numpy()
      yield "pictures/prior_samples", figures.image_grid(samples, f"samples from the model{note}")

  def sample_figure(self, x: np.ndarray, title: str) -> Figure:
    return figures.image_grid(x, title)

  def projector_columns(self, x: np.ndarray, data: ImageDataSet) -> Mapping[str, Sequence[object]]:
    return {"ink pixels": x.sum(axis=(1, 2, 3)).astype(int)}

  def sprites(self, x: np.ndarray) -> np.ndarray:
    return x

  def payloads(self, trained: Restored, seed: int) -> Payloads:
    model = trained.model
    height, width, _ = shape = model.decoder.image_shape
    size = f"`[{height}, {width}, 1]`"
    pixels = Input(
      tf.TensorSpec([None, *shape], tf.float32, "x"),
      lambda x: checked("x", x, shape),
      lambda n: (images.example_drawings(n, height, width) > 0.5).astype(np.float32)[..., np.newaxis],
      f"image {size}, float32: 1 where there is ink, 0 elsewhere",
    )
    probabilities = f"probability of ink of each pixel {size}, the pixels before it at their likelier value"
    return Payloads(
      {"": pixels, "_png": _png(shape, seed)},
      "",
      drawn_as_it_is(pixels),
      FromLatent("decode", "probabilities", "image", model.decode, probabilities),
    )


def _png(shape: Sequence[int], seed: int) -> Input:
  """PNG files of drawings of any size, turned into images of `shape`."""
  height, width, _ = shape
  thresholds = images.thresholds(shape, seed)

  def examples(n):
    return np.array([images.encode_png(grey) for grey in images.example_drawings(n, 105, 105)], dtype=object)

  return Input(
    tf.TensorSpec([None], tf.string, "image_bytes"),
    lambda data: images.from_png(checked("image_bytes", data, []), thresholds),
    examples,
    f"PNG file of any size up to {images.MAX_SIDE}×{images.MAX_SIDE}, dark ink on light or transparent ground; reduced"
    f" to {height}×{width} by area averaging and binarised with a fixed threshold for each pixel, drawn from U(0, 1):"
    " P(ink) is the grey value, as in training",
  )


KIND = ImageKind()
