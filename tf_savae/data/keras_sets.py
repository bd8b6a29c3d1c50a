"""`--dataset=mnist`, `fashion_mnist` and `cifar10`: what `keras.datasets` loads, from its cache or by download.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, *Gradient-based learning applied to document recognition*, 1998; H. Xiao,
K. Rasul, R. Vollgraf, *Fashion-MNIST*, arXiv 1708.07747. Both have 60,000 grey images of 28×28 for training and 10,000
for the test; high values are ink. A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009:
CIFAR-10 has 50,000 and 10,000 images of 32×32 in colour. Each set has ten labels.
"""

from __future__ import annotations

import os
import pathlib

import keras
import numpy as np

from tf_savae.data.dataset import SPLITS
from tf_savae.data.images import ImageDataSet, images_from_arrays, split_rows
from tf_savae.errors import UserError, reason

VALID_EXAMPLES = {
  "mnist": 10_000,
  "fashion_mnist": 10_000,
  "cifar10": 5000,
}  # of the training images; a tenth of a smaller set

# Where keras.datasets keeps each, below its folder.
_FILES = {
  "mnist": ("datasets/mnist.npz",),
  "fashion_mnist": tuple(
    f"datasets/fashion-mnist/{part}-ubyte.gz"
    for part in ("train-labels-idx1", "train-images-idx3", "t10k-labels-idx1", "t10k-images-idx3")
  ),
  "cifar10": ("datasets/cifar-10-batches-py-target_archive",),  # the file cifar-10-python.tar.gz
}


def mnist(**options) -> ImageDataSet:
  """MNIST; see `load`."""
  return load("mnist", **options)


def fashion_mnist(**options) -> ImageDataSet:
  """Fashion-MNIST; see `load`."""
  return load("fashion_mnist", **options)


def cifar10(**options) -> ImageDataSet:
  """CIFAR-10; see `load`."""
  return load("cifar10", **options)


def load(
  name: str,
  *,
  data_dir: str | os.PathLike[str],
  seed: int,
  download: bool = True,
  strict: bool = False,
  likelihood: str = "auto",
) -> ImageDataSet:
  """A set of `keras.datasets`, its grey values binarised as Omniglot's, or as they are; colours as they are.

  Args:
    name: of the module in `keras.datasets`.
    data_dir: not used: Keras has a folder of its own, `KERAS_HOME` or `~/.keras`.
    seed: the training run's seed; the splits and the evaluation images do not depend on it.
    download: whether Keras may download what its folder lacks.
    strict: not used; there is no stand-in.
    likelihood: a name in `LIKELIHOODS`; grey values are binarised for "bernoulli", and for "auto".

  Raises:
    UserError: it is not there and cannot be downloaded; its files are damaged; or it is in colour, and the likelihood
      is of binary images.
  """
  del data_dir, strict
  home = pathlib.Path(os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras")
  missing = [file for file in _FILES[name] if not (home / file).is_file()]
  if missing and not download:
    raise UserError(
      f"no {name} in {home}: {missing[0]} is missing, and download is switched off; put it there"
    )
  try:
    pairs = getattr(keras.datasets, name).load_data()
  except Exception as error:  # a failing download and a damaged file show in many ways
    where = ", ".join(_FILES[name])
    raise UserError(f"no {name}: {reason(error)}; get a connection, or put {where} into {home}") from error
  return _split(name, pairs, seed, likelihood)


def _split(name: str, pairs, seed: int, likelihood: str) -> ImageDataSet:
  """The last of the shuffled training images are for validation."""
  (train, train_classes), (test, test_classes) = pairs
  if keras.config.image_data_format() == "channels_first" and train.ndim == 4:
    train, test = (np.moveaxis(images, 1, -1) for images in (train, test))
  colour = train.ndim == 4
  if colour and likelihood == "bernoulli":
    raise UserError(
      f"{name} is in colour, and --likelihood=bernoulli is of binary images; use --likelihood=logistic_mixture"
    )
  binarise = not colour and likelihood in ("auto", "bernoulli")
  num_valid = min(VALID_EXAMPLES[name], max(1, len(train) // 10))
  rows, valid_rows = split_rows(len(train), len(train) - num_valid, num_valid)
  parts = train[rows], train[valid_rows], test
  sizes = f"{len(rows)} train, {num_valid} valid, {len(test)} test images"
  values = "grey values binarised dynamically" if binarise else "256 levels"
  data = images_from_arrays(
    *(np.float32(images) / 255 for images in parts),
    source=f"{name} of keras.datasets, {values}: {sizes}",
    seed=seed,
    name=name,
    binarise=binarise,
  )
  classes = (part.reshape(-1) for part in (train_classes[rows], train_classes[valid_rows], test_classes))
  data.labels = {"class": dict(zip(SPLITS, classes, strict=True))}
  return data
