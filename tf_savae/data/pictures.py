"""`--dataset=images`: the user's own pictures, of one size, split; binary, grey or in colour."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import tensorflow as tf
from absl import logging

from tf_savae.data import image_arrays, picture_files
from tf_savae.data.dataset import SPLITS
from tf_savae.data.image_arrays import Images
from tf_savae.data.images import ImageDataSet, split_rows
from tf_savae.data.picture_files import Found, Pictures
from tf_savae.errors import UserError
from tf_savae.observations import LABEL

MAX_SIDE = 128  # of what a model is trained on
_CHUNK = 256  # images resized at a time
_BINARY_LIKELIHOODS = ("auto", "bernoulli")


def load(
  *,
  data_dir: str | os.PathLike[str],
  seed: int,
  download: bool = True,
  strict: bool = False,
  image_size: int | None = None,
  image_channels: str | None = None,
  likelihood: str = "auto",
) -> ImageDataSet:
  """The images of a folder, a .zip, an .npy, an .npz or a .tfrecord file.

  Dark pixels of grey PNG and JPEG files are ink, as in Omniglot; of arrays, high values are.

  Args:
    data_dir: the folder or file. Folders, records or arrays called train, valid and test are the splits. What is
      missing of them is divided off the training images, or all three off all images, by a fixed seed.
    seed: the training run's seed; the splits and the evaluation images do not depend on it.
    download, strict: not used; there is nothing to download and no stand-in.
    image_size: height and width; None: those of the first image. Others are resized by area averaging.
    image_channels: "colour", "grey", or "binary", which are binary draws of grey values; None: colour if any image is
      in colour, else grey.
    likelihood: a name in `LIKELIHOODS`; grey values are binarised for "bernoulli", and for "auto".

  Raises:
    UserError: there are no images, or they are unusable.
  """
  del download, strict
  path = pathlib.Path(data_dir).expanduser()
  found = picture_files.find(path)
  colour = image_channels == "colour" or (image_channels is None and found.colour is not None)
  binarise = not colour and (image_channels == "binary" or likelihood in _BINARY_LIKELIHOODS)
  if colour and likelihood == "bernoulli":
    why = f"such as {found.colour}" if found.colour else "by --image_channels=colour"
    raise UserError(
      f"{path} has images in colour, {why}, and --likelihood=bernoulli is of binary images; use"
      " --likelihood=logistic_mixture, or --image_channels=binary"
    )
  notes = ["made grey"] if found.colour and not colour else []
  if found.damaged:
    logging.warning("%s: %s", path, found.describe_damaged())
    notes.append(found.describe_damaged())
  shape = _shape(found, image_size, path)
  sizes = {tuple(size) for part in found.parts.values() for size in part.sizes}
  if sizes != {shape}:
    kinds = f"{len(sizes)} different sizes" if len(sizes) > 1 else "{}×{}".format(*next(iter(sizes)))
    notes.append(f"resized from {kinds} to {shape[0]}×{shape[1]}")
    logging.warning("%s: images are %s", path, notes[-1])
  rows, how = _split(found, path)
  images, values = _images(found, rows, shape, colour, binarise)
  counts = ", ".join(f"{len(images[split])} {split}" for split in SPLITS)
  where = ["kept on disk"] if any(each.on_disk for each in images.values()) else []
  notes += [how, values, *where]
  data = ImageDataSet(
    images,
    name="images",
    source=f"images in {path.resolve().name}: {counts}; {'; '.join(notes)}",
    is_stand_in=False,
    seed=seed,
    binarise=binarise,
  )
  data.labels = _labels(found, rows)
  return data


def _shape(found: Found, size: int | None, path: pathlib.Path) -> tuple[int, int]:
  """Height and width of all images of the data set."""
  if size is not None:
    return size, size
  height, width = next(found.parts[split].sizes[0] for split in ("train", "all") if split in found.parts)
  if max(height, width) > MAX_SIDE:
    raise UserError(
      f"the first image in {path} has {height}×{width} pixels, and at most {MAX_SIDE}×{MAX_SIDE} are possible; give"
      " --image_size, such as --image_size=64"
    )
  return height, width


# For each split, the part of `Found` that it is taken from, and its rows there; None: all.
_Rows = dict[str, tuple[str, np.ndarray | None]]


def _split(found: Found, path: pathlib.Path) -> tuple[_Rows, str]:
  """Which images are train, valid and test, and how they were split."""
  base = "train" if "train" in found.parts else "all"
  missing = [split for split in SPLITS[1:] if split not in found.parts]
  if not missing:
    return {split: (split, None) for split in SPLITS}, "split as given"
  n = len(found.parts[base])
  if n <= len(missing):
    kind = "training " if base == "train" else ""
    raise UserError(
      f"{path}: at least {len(missing) + 1} {kind}images are needed to divide {' and '.join(missing)} off."
      f" Received: {n}"
    )
  tenth = max(1, n // 10)
  rows = split_rows(n, n - tenth * len(missing), *[tenth] * len(missing))
  divided = {split: (base, part) for split, part in zip(["train", *missing], rows, strict=True)}
  how = f"{' and '.join(missing)} divided off by a fixed seed"
  return {split: divided.get(split, (split, None)) for split in SPLITS}, how


def _images(
  found: Found, rows: _Rows, shape: tuple[int, int], colour: bool, binarise: bool
) -> tuple[dict[str, Images], str]:
  """The images of each split, and what their values are."""
  arrays = {name: _resized(part, shape, colour, binarise) for name, part in found.parts.items()}
  images = {split: Images(arrays[part], of_part) for split, (part, of_part) in rows.items()}
  if colour:
    return images, "in colour, 256 levels"
  if not binarise:
    return images, "grey values, 256 levels"
  used = {part for part, _ in rows.values()}
  grey = any(_is_grey(arrays[part]) for part in used)
  return images, "grey values are probabilities of ink, binarised dynamically" if grey else "binary"


def _is_grey(array: np.ndarray) -> bool:
  top = 255 if array.dtype == np.uint8 else 1
  chunks = (array[first : first + _CHUNK] for first in range(0, len(array), _CHUNK))
  return any(bool(np.any((chunk > 0) & (chunk < top))) for chunk in chunks)


def _resized(pictures: Pictures, shape: tuple[int, int], colour: bool, binarise: bool) -> np.ndarray:
  """All pictures as `[n, height, width, channels]`, resized by area averaging.

  They are uint8, or float32 in [0, 1] where probabilities of ink have other values.
  """
  same = all(tuple(size) == shape for size in pictures.sizes)
  as_bytes = not binarise or (same and pictures.is_bytes)
  out = image_arrays.empty(len(pictures), (*shape, 3 if colour else 1), np.uint8 if as_bytes else np.float32)
  by_size: dict[tuple[int, ...], list[int]] = {}
  for row, size in enumerate(pictures.sizes):
    by_size.setdefault(tuple(size), []).append(row)
  for size, rows in by_size.items():
    for first in range(0, len(rows), _CHUNK):
      chunk = rows[first : first + _CHUNK]
      values = np.stack([pictures.read(row, colour) for row in chunk])
      if values.dtype == np.uint8:
        if as_bytes and size == shape:
          out[chunk] = values
          continue
        values = values.astype(np.float32) / 255
      if size != shape:
        values = tf.image.resize(values, shape, tf.image.ResizeMethod.AREA).numpy()
      values = np.clip(values, 0.0, 1.0)  # rounding may pass 1 by an ulp
      out[chunk] = np.round(255 * values) if as_bytes else values
  return out


def _labels(found: Found, rows: _Rows) -> dict[str, dict[str, list[str]]]:
  """The labels of all images, by name and split; empty where some have none."""
  by_split = {}
  for split, (part, of_part) in rows.items():
    words = found.parts[part].labels
    by_split[split] = [words[row] for row in (range(len(words)) if of_part is None else of_part)]
  complete = all(word is not None for words in by_split.values() for word in words)
  return {LABEL: by_split} if complete else {}  # type: ignore[dict-item]
