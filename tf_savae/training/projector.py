"""TensorBoard's Projector page: posterior means as points, each with its image and its numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector import ProjectorConfig
from tensorboard.plugins.projector.metadata import PROJECTOR_FILENAME

from tf_savae.atomic_files import atomic_write_text
from tf_savae.evaluation.posteriors import Posteriors

# Browsers refuse textures with more than 8192 pixels per side.
_MAX_SPRITE_SIDE = 8192


def write_projector(
  directory: str | os.PathLike[str],
  means: np.ndarray,
  metadata: Mapping[str, Sequence[object]],
  images: np.ndarray | None = None,
  name: str = "posterior means",
) -> None:
  """Writes the data of one run for the page, replacing those of an earlier call.

  Args:
    directory: directory of a run that has event files.
    means: posterior means `[n, latent]`.
    metadata: name → n values, by which points can be coloured and searched.
    images: `[n, height, width, channels]` in [0, 1], one channel drawn as ink on paper; if they are
      large, fewer than n are shown.
    name: name of the points on the page.
  """
  directory = Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  config = ProjectorConfig()
  embedding = config.embeddings.add(tensor_name=name)
  if images is not None:
    height, width = images.shape[1:3]
    fit = (_MAX_SPRITE_SIDE // height) * (_MAX_SPRITE_SIDE // width)
    means, images = means[:fit], images[:fit]
    Image.fromarray(sprite_sheet(images)).save(directory / "sprites.png", optimize=True)
    embedding.sprite.image_path = "sprites.png"
    embedding.sprite.single_image_dim.extend([width, height])
  if means.shape[1] < 3:  # the page draws in three dimensions
    means = np.pad(means, [(0, 0), (0, 3 - means.shape[1])])
  rows = ["\t".join(f"{value:.6g}" for value in row) for row in means]
  atomic_write_text(directory / "means.tsv", "\n".join(rows) + "\n")
  embedding.tensor_path = "means.tsv"
  embedding.tensor_shape.extend(means.shape)
  names = list(metadata)
  table = ["\t".join(str(metadata[name][i]) for name in names) for i in range(len(means))]
  # A single column has no head, by the page's convention.
  head = ["\t".join(names)] if len(names) > 1 else []
  atomic_write_text(directory / "metadata.tsv", "\n".join([*head, *table]) + "\n")
  embedding.metadata_path = "metadata.tsv"
  atomic_write_text(directory / PROJECTOR_FILENAME, text_format.MessageToString(config))


def columns(rows: Sequence[int], posteriors: Posteriors) -> dict[str, Sequence[object]]:
  """Properties of examples of any kind, for `metadata`: their rows in the split, and what inference found."""
  bounds = posteriors.bounds
  return {
    "example": rows,
    "KL": np.round(posteriors.kl, 2),
    "bound": np.round(bounds[-1], 1),
    "gain of refinement": np.round(bounds[0] - bounds[-1], 2),
  }


def sprite_sheet(images: np.ndarray) -> np.ndarray:
  """A square of images in row order: uint8 `[side · height, side · width]`, side = ⌈√n⌉.

  One channel is dark ink on white. Images in colour give `[…, 3]`.
  """
  n, height, width, channels = images.shape
  side = math.ceil(math.sqrt(n))
  tiles = np.ones((side * side, height, width, channels), np.float32)
  tiles[:n] = images if channels == 3 else 1 - images
  sheet = tiles.reshape(side, side, height, width, channels).transpose(0, 2, 1, 3, 4)
  sheet = sheet.reshape(side * height, side * width, channels)
  return np.round(255 * (sheet if channels == 3 else sheet[..., 0])).astype(np.uint8)
