"""Data sets: by name (`load`, `register`), or from your own arrays and files. All of them are a `DataSet`."""

from __future__ import annotations

from tf_savae import lazy
from tf_savae.data.sources import DATASETS, Source, load, register

_HOMES = {
  "SPLITS": "tf_savae.data.dataset",
  "DataSet": "tf_savae.data.dataset",
  "ImageDataSet": "tf_savae.data.images",
  "images_from_arrays": "tf_savae.data.images",
  "TextDataSet": "tf_savae.data.text",
  "dataset_from_file": "tf_savae.data.text",
  "Vocabulary": "tf_savae.data.vocabulary",
}
__all__ = ["DATASETS", "Source", "load", "register", *_HOMES]
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
