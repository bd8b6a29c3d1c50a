"""Images, float32 `[batch, height, width, channels]`: binary, grey or in colour; and such images with labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from tf_savae import observations
from tf_savae.data.dataset import SPLITS
from tf_savae.data.images import ImageDataSet
from tf_savae.evaluation import figures, overview
from tf_savae.evaluation.posteriors import Posteriors
from tf_savae.kind import Kind
from tf_savae.model import SAVAE
from tf_savae.observations import BINARY
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory
from tf_savae.runs.restore import Restored
from tf_savae.serving import images
from tf_savae.serving.payloads import (
  FromLatent,
  Input,
  Payloads,
  checked,
  drawn_as_it_is,
  label_input,
  mask_input,
)

# Among the facts about the data; the last two only where there are other images than binary ones without labels.
_SHAPE, _PIXELS, _LABELS = "image_shape", "pixels", "label_names"
_OMNIGLOT = (28, 28, 1)  # for runs of older versions, which did not store it


class ImageKind(Kind):
  """Images of one size, with pictures of data, reconstructions and samples; served as arrays and PNG files."""

  examples = "images"

  def facts(self, data: ImageDataSet) -> dict[str, Any]:
    facts = {_SHAPE: list(data.image_shape)}
    if data.pixels != "binary":
      facts[_PIXELS] = data.pixels
    return facts | ({_LABELS: list(data.label_names)} if data.label_names else {})

  def outline(self, config: RunConfig, run: RunDirectory) -> ImageDataSet:
    facts = run.data_facts()
    blank = np.zeros([1, *facts.get(_SHAPE, _OMNIGLOT)], np.float32)
    options = {"name": config.dataset, "source": "none", "is_stand_in": False, "seed": config.seed}
    data = ImageDataSet(dict.fromkeys(SPLITS, blank), binarise=_PIXELS not in facts, **options)
    names = facts.get(_LABELS, ())
    return data.set_condition(names, dict.fromkeys(SPLITS, names[:1])) if names else data

  def dimensions(self, data: ImageDataSet) -> int | None:
    return int(np.prod(data.image_shape)) if data.pixels == "levels" else None

  def xla_pays_from(self, on_gpu: bool) -> float:
    return 0 if on_gpu else np.inf  # on CPU it makes the PixelCNN's convolutions 12 times slower

  def save_pictures(self, model: SAVAE, data: ImageDataSet, directory: Path) -> None:
    overview.save(model, data, directory / "overview.png")

  def pictures(
    self, model: SAVAE, x: Any, posteriors: Posteriors | None, note: str
  ) -> Iterator[tuple[str, Figure]]:
    if posteriors is not None:
      # Few, with short labels, so that they are legible at the size of TensorBoard's cards.
      rows = figures.reconstruction_rows(model, observations.take(x, slice(8)), posteriors.first(8))
      title = f"data{note}, and x drawn from p(x | z), z = mean of q_λ"
      yield "pictures/reconstructions", figures.image_rows(rows, title)
      walks = figures.traversal_rows(model, posteriors.centers, x)
      if walks:
        yield "pictures/latent_traversals", figures.image_rows(walks, f"one latent from −3 to 3{note}")
    if hasattr(model.decoder, "sample"):
      samples = model.sample(24).numpy()
      yield "pictures/prior_samples", figures.image_grid(samples, f"samples from the model{note}")

  def sample_figure(self, x: np.ndarray, title: str) -> Figure:
    return figures.image_grid(x, title)

  def row_figure(self, rows: Mapping[str, np.ndarray], title: str) -> Figure:
    return figures.image_rows(rows, title)

  def projector_columns(self, x: Any, data: ImageDataSet) -> Mapping[str, Sequence[object]]:
    image = observations.image_of(x)
    if data.pixels == "binary":
      return {"ink pixels": image.sum(axis=(1, 2, 3)).astype(int)}
    return {"mean value": image.mean(axis=(1, 2, 3)).round(3)}

  def sprites(self, x: Any) -> np.ndarray:
    return observations.image_of(x)

  def payloads(self, trained: Restored, seed: int) -> Payloads:
    model = trained.model
    height, width, channels = shape = model.decoder.image_shape
    size = f"`[{height}, {width}, {channels}]`"
    is_binary = getattr(getattr(model.decoder, "likelihood", None), "support", BINARY) == BINARY
    form = _of_binary(model, shape, size, seed) if is_binary else _of_levels(model, shape, size)
    if hasattr(model.decoder, "log_prob_of_parts"):
      form = dataclasses.replace(form, mask=mask_input([height, width]))
    if hasattr(model.decoder, "condition_of"):
      names = RunDirectory(trained.config.run_dir).data_facts().get(_LABELS, ())
      form = _with_labels(form, label_input(observations.LABEL, model.decoder.num_labels, names))
    return form


def _with_labels(form: Payloads, label: Input) -> Payloads:
  """The same for images with labels beside them."""

  def labelled(given: Input) -> Input:
    name = observations.IMAGE if given is form.x else given.spec.name
    spec = tf.TensorSpec(given.spec.shape, given.spec.dtype, name)
    return Input(
      {name: spec, observations.LABEL: label.spec},
      lambda raw: {
        observations.IMAGE: given.to_x(raw[name]),
        observations.LABEL: label.to_x(raw[observations.LABEL]),
      },
      lambda n: {name: given.examples(n), observations.LABEL: label.examples(n)},
      {name: given.text, observations.LABEL: label.text},
    )

  inputs = {suffix: labelled(given) for suffix, given in form.inputs.items()}
  drawn = drawn_as_it_is(inputs[form.plain], observations.IMAGE)
  return dataclasses.replace(form, inputs=inputs, condition=label, drawn=drawn)


def _of_binary(model: SAVAE, shape: Sequence[int], size: str, seed: int) -> Payloads:
  height, width, _ = shape
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


def _of_levels(model: SAVAE, shape: Sequence[int], size: str) -> Payloads:
  """Of images with grey values or colours."""
  height, width, channels = shape
  what = "red, green and blue" if channels == 3 else "grey values, 1 where there is ink"
  pixels = Input(
    tf.TensorSpec([None, *shape], tf.float32, "x"),
    lambda x: checked("x", x, shape),
    lambda n: images.example_values(n, shape),
    f"image {size}, float32: {what}, 8-bit values divided by 255",
  )
  files = Input(
    tf.TensorSpec([None], tf.string, "image_bytes"),
    lambda data: images.levels_from_png(checked("image_bytes", data, []), shape),
    lambda n: np.array(
      [images.encode_levels(x) for x in images.example_values(n, (64, 64, channels))], dtype=object
    ),
    f"PNG file of any size up to {images.MAX_SIDE}×{images.MAX_SIDE}; what is transparent is white; reduced to"
    f" {height}×{width} by area averaging",
  )
  return Payloads(
    {"": pixels, "_png": files},
    "",
    drawn_as_it_is(pixels),
    FromLatent(
      "decode", "expected", "image", model.decode, f"expected values of each pixel {size}, from 0 to 1"
    ),
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
