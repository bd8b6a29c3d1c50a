"""`--dataset=images`: the user's own pictures, made grey, of one size, split, and binarised as Omniglot is."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from tf_savae.data import picture_files
from tf_savae.data.dataset import SPLITS
from tf_savae.data.images import ImageDataSet, images_from_arrays, split_rows
from tf_savae.errors import UserError

MAX_SIDE = 128  # of what a model is trained on
_CHUNK = 256  # images resized at a time


def load(
  *,
  data_dir: str | os.PathLike[str],
  seed: int,
  download: bool = True,
  strict: bool = False,
  image_size: int | None = None,
  image_channels: str | None = None,
) -> ImageDataSet:
  """The images of a folder, a .zip, an .npy or an .npz file.

  Dark pixels of PNG and JPEG files are ink, as in Omniglot; of arrays, high values are.

  Args:
    data_dir: the folder or file. Folders or arrays called train, valid and test are the splits. What is missing of
      them is divided off the training images, or all three off all images, by a fixed seed.
    seed: the training run's seed; the splits and the evaluation images do not depend on it.
    download, strict: not used; there is nothing to download and no stand-in.
    image_size: height and width; None: those of the first image. Others are resized by area averaging.
    image_channels: "grey" makes images in colour grey; None: they are refused.

  Raises:
    UserError: there are no images, or they are unusable.
  """
  del download, strict
  path = pathlib.Path(data_dir).expanduser()
  found = picture_files.read(path)
  if found.colour and image_channels != "grey":
    raise UserError(
      f"{path} has images in colour, such as {found.colour}, and there is no likelihood for colour;"
      " --image_channels=grey makes them grey"
    )
  notes = ["made grey"] if found.colour else []
  if found.damaged:
    logging.warning("%s: %s", path, found.describe_damaged())
    notes.append(found.describe_damaged())
  shape = _shape(found.images, image_size, path)
  sizes = {image.shape for images in found.images.values() for image in images}
  if sizes != {shape}:
    kinds = f"{len(sizes)} different sizes" if len(sizes) > 1 else "{}×{}".format(*next(iter(sizes)))
    notes.append(f"resized from {kinds} to {shape[0]}×{shape[1]}")
    logging.warning("%s: images are %s", path, notes[-1])
  whole = {split: _resized(images, shape) for split, images in found.images.items()}
  parts, how = _split(whole, path)
  grey = any(np.any((part > 0) & (part < 1)) for part in parts)
  notes += [how, "grey values are probabilities of ink, binarised dynamically" if grey else "binary"]
  counts = ", ".join(f"{len(part)} {split}" for split, part in zip(SPLITS, parts, strict=True))
  source = f"images in {path.resolve().name}: {counts}; {'; '.join(notes)}"
  return images_from_arrays(*parts, source=source, seed=seed, name="images")


def _shape(images: dict[str, list[np.ndarray]], size: int | None, path: pathlib.Path) -> tuple[int, int]:
  """Height and width of all images of the data set."""
  if size is not None:
    return size, size
  height, width = next(images[split][0].shape for split in ("train", "all") if split in images)
  if max(height, width) > MAX_SIDE:
    raise UserError(
      f"the first image in {path} has {height}×{width} pixels, and at most {MAX_SIDE}×{MAX_SIDE} are possible; give"
      " --image_size, such as --image_size=64"
    )
  return height, width


def _resized(images: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
  """Images of any sizes as float32 `[n, height, width]` in [0, 1], resized by area averaging."""
  out = np.empty([len(images), *shape], np.float32)
  by_size: dict[tuple[int, ...], list[int]] = {}
  for row, image in enumerate(images):
    by_size.setdefault(image.shape, []).append(row)
  for size, rows in by_size.items():
    for first in range(0, len(rows), _CHUNK):
      chunk = rows[first : first + _CHUNK]
      ink = np.stack([images[row] for row in chunk])
      ink = ink.astype(np.float32) / 255 if ink.dtype == np.uint8 else ink
      if size != shape:
        ink = tf.image.resize(ink[..., np.newaxis], shape, tf.image.ResizeMethod.AREA).numpy()[..., 0]
      out[chunk] = np.clip(ink, 0.0, 1.0)  # rounding may pass 1 by an ulp
  return out


def _split(images: dict[str, np.ndarray], path: pathlib.Path) -> tuple[list[np.ndarray], str]:
  """Images of train, valid and test, and how they were split."""
  base = "train" if "train" in images else "all"
  missing = [split for split in SPLITS[1:] if split not in images]
  if not missing:
    return [images[split] for split in SPLITS], "split as given"
  n = len(images[base])
  if n <= len(missing):
    raise UserError(
      f"{path}: at least {len(missing) + 1} {base} images are needed to divide {' and '.join(missing)} off."
      f" Received: {n}"
    )
  tenth = max(1, n // 10)
  rows = split_rows(n, n - tenth * len(missing), *[tenth] * len(missing))
  divided = dict(zip(["train", *missing], (images[base][part] for part in rows), strict=True))
  return [
    divided.get(split, images.get(split)) for split in SPLITS
  ], f"{' and '.join(missing)} divided off by a fixed seed"
