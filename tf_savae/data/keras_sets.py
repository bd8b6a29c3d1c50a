"""`--dataset=mnist` and `--dataset=fashion_mnist`: what `keras.datasets` loads, from its cache or by download.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, *Gradient-based learning applied to document recognition*, 1998; H. Xiao,
K. Rasul, R. Vollgraf, *Fashion-MNIST*, arXiv 1708.07747. Both have 60,000 grey images of 28×28 for training and 10,000
for the test; high values are ink.
"""

from __future__ import annotations

import os
import pathlib

import keras
import numpy as np

from tf_savae.data.images import ImageDataSet, images_from_arrays, split_rows
from tf_savae.errors import UserError, reason

VALID_EXAMPLES = 10_000  # of the training images; a tenth of a smaller set

# Where keras.datasets keeps each, below its folder.
_FILES = {
  "mnist": ("datasets/mnist.npz",),
  "fashion_mnist": tuple(
    f"datasets/fashion-mnist/{part}-ubyte.gz"
    for part in ("train-labels-idx1", "train-images-idx3", "t10k-labels-idx1", "t10k-images-idx3")
  ),
}


def mnist(**options) -> ImageDataSet:
  """MNIST; see `load`."""
  return load("mnist", **options)


def fashion_mnist(**options) -> ImageDataSet:
  """Fashion-MNIST; see `load`."""
  return load("fashion_mnist", **options)


def load(
  name: str,
  *,
  data_dir: str | os.PathLike[str],
  seed: int,
  download: bool = True,
  strict: bool = False,
) -> ImageDataSet:
  """A set of `keras.datasets`, its grey values binarised as Omniglot's.

  Args:
    name: of the module in `keras.datasets`.
    data_dir: not used: Keras has a folder of its own, `KERAS_HOME` or `~/.keras`.
    seed: the training run's seed; the splits and the evaluation images do not depend on it.
    download: whether Keras may download what its folder lacks.
    strict: not used; there is no stand-in.

  Raises:
    UserError: it is not there and cannot be downloaded, or its files are damaged.
  """
  del data_dir, strict
  home = pathlib.Path(os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras")
  missing = [file for file in _FILES[name] if not (home / file).is_file()]
  if missing and not download:
    raise UserError(
      f"no {name} in {home}: {missing[0]} is missing, and download is switched off; put it there"
    )
  try:
    (train, train_classes), (test, test_classes) = getattr(keras.datasets, name).load_data()
  except Exception as error:  # a failing download and a damaged file show in many ways
    where = ", ".join(_FILES[name])
    raise UserError(f"no {name}: {reason(error)}; get a connection, or put {where} into {home}") from error
  data, rows, valid_rows = _split(name, train, test, seed)
  data.labels = {
    "class": {
      "train": train_classes[rows],
      "valid": train_classes[valid_rows],
      "test": test_classes,
    }
  }
  return data


def _split(
  name: str, train: np.ndarray, test: np.ndarray, seed: int
) -> tuple[ImageDataSet, np.ndarray, np.ndarray]:
  """The data set, and its training and validation rows; the last of the shuffled images are for validation."""
  num_valid = min(VALID_EXAMPLES, max(1, len(train) // 10))
  rows, valid_rows = split_rows(len(train), len(train) - num_valid, num_valid)
  parts = [np.float32(images) / 255 for images in (train[rows], train[valid_rows], test)]
  sizes = f"{len(rows)} train, {num_valid} valid, {len(test)} test images"
  source = f"{name} of keras.datasets, grey values binarised dynamically: {sizes}"
  return images_from_arrays(*parts, source=source, seed=seed, name=name), rows, valid_rows
