"""Data sets by name. A new one is a file with a `load` function and a line in `_LOADERS`."""

from __future__ import annotations

import os

from tf_savae.data import omniglot, synthetic, text, yahoo
from tf_savae.data.dataset import SPLITS, DataSet
from tf_savae.data.images import ImageDataSet, images_from_arrays
from tf_savae.data.text import TextDataSet, dataset_from_file
from tf_savae.data.vocabulary import Vocabulary
from tf_savae.errors import UserError

_LOADERS = {
  "omniglot": omniglot.load,
  "synthetic": synthetic.load,
  "yahoo": yahoo.load,
  "text": text.load,
}

DATASETS = tuple(_LOADERS)

__all__ = [
  "DATASETS",
  "SPLITS",
  "DataSet",
  "ImageDataSet",
  "TextDataSet",
  "Vocabulary",
  "dataset_from_file",
  "images_from_arrays",
  "load",
]


def load(
  name: str,
  *,
  data_dir: str | os.PathLike[str],
  seed: int,
  download: bool = True,
  strict: bool = False,
  **options,
) -> DataSet:
  """The data set `name`.

  Args:
    name: one of `DATASETS`.
    data_dir: where its files are looked for.
    seed: the training run's seed, for order and dynamic binarisation. Splits and evaluation examples do not
      depend on it.
    download: whether missing files may be downloaded.
    strict: whether falling back to a stand-in is an error.
    **options: what the data set's own `load` takes besides.

  Raises:
    UserError: there is no data set of that name, or its files are unusable.
  """
  if name not in _LOADERS:
    raise UserError(f"unknown data set: expected one of {', '.join(DATASETS)}. Received: {name!r}")
  return _LOADERS[name](data_dir=data_dir, seed=seed, download=download, strict=strict, **options)
