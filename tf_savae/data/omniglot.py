"""`--dataset=omniglot`: loads the best source available and says which one it was.

Sources are tried in this order: `chardata.mat` in `data_dir/omniglot`; the zips of the original release there; a
download of chardata.mat; the generated stand-in that comes with the code. A broken source is an error: skipping it
would mean training on other data than the user put there.
"""

from __future__ import annotations

import os
import pathlib

import numpy as np
import tensorflow as tf
from absl import logging

from tf_savae.data import chardata, omniglot_zips
from tf_savae.data.dataset import FIXED_SEED
from tf_savae.data.download import DownloadError, download_verified
from tf_savae.data.images import ImageDataSet, images_from_arrays
from tf_savae.errors import UserError
from tf_savae.seeds import Purpose, stateless_seed

CHARDATA_URL = "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat"
STAND_IN = pathlib.Path(__file__).resolve().parents[2] / "testdata" / "omniglot_standin.mat"

# How many training images of chardata.mat become validation images, as in the paper's code; a tenth of a smaller file.
_VALID_EXAMPLES = 2000


def load(
  *,
  data_dir: str | os.PathLike[str],
  seed: int,
  download: bool = True,
  strict: bool = False,
  url: str = CHARDATA_URL,
) -> ImageDataSet:
  """Omniglot as grey images of 28×28 pixels, from the best source available.

  Args:
    data_dir: the parent of the folder `omniglot`, which is searched and into which a download goes.
    seed: the training run's seed; the splits and the evaluation images do not depend on it.
    download: whether chardata.mat may be downloaded if neither it nor a zip is found.
    strict: whether having nothing but the stand-in is an error.
    url: where to download chardata.mat.

  Raises:
    UserError: a source that was found is broken, or `strict` is set and only the stand-in is left.
  """
  folder = pathlib.Path(data_dir).expanduser() / "omniglot"
  names = _listing(folder)
  mat = folder / "chardata.mat"
  zips = omniglot_zips.find(names)
  if mat.name in names:
    return _from_chardata(mat, seed)
  if zips:
    return _from_zips([folder / name for name in zips], seed)

  where = f"no Omniglot in {folder}" + ("" if folder.is_dir() else " (which does not exist)")
  why = _why_no_download(url, mat) if download else "download is switched off"
  if why is None:
    return _from_chardata(mat, seed)
  if strict:
    raise UserError(
      f"{where}, and {why}; only the stand-in is left, which strict data forbids. "
      f"Put chardata.mat or images_background*.zip there"
    )
  logging.warning("%s, and %s: using the STAND-IN, generated strokes that are not Omniglot", where, why)
  return _stand_in(seed)


def split_rows(num_examples: int, *parts: int) -> list[np.ndarray]:
  """Divides rows 0 … n − 1, shuffled by a fixed seed, into consecutive pieces of the sizes `parts`."""
  seed = stateless_seed(FIXED_SEED, 0, Purpose.SPLIT)
  rows = tf.random.experimental.stateless_shuffle(tf.range(num_examples), seed).numpy()
  return np.split(rows, np.cumsum(parts)[:-1])


def _listing(folder: pathlib.Path) -> list[str]:
  """Names of the files in `folder`; empty if it does not exist."""
  try:
    return os.listdir(folder)
  except FileNotFoundError:
    return []
  except OSError as error:
    raise UserError(f"data directory {folder} cannot be read: {error.strerror}") from error


def _why_no_download(url: str, target: pathlib.Path) -> str | None:
  """Downloads chardata.mat; returns why that was not possible, or None if `target` is now in place."""
  try:
    download_verified(url, target, chardata.verify)
  except DownloadError as error:
    return f"download failed: {error}"
  return None


def _from_chardata(path: pathlib.Path, seed: int) -> ImageDataSet:
  train, test = chardata.read(path)
  what = "Omniglot, chardata.mat of Burda et al. 2015"
  if not chardata.is_published_size(train, test):
    what = "a file chardata.mat laid out as, but of another size than, that of Burda et al. 2015"
  return _from_pair(train, test, what, seed, is_stand_in=False)


def _stand_in(seed: int) -> ImageDataSet:
  train, test = chardata.read(STAND_IN)
  what = f"stand-in for Omniglot, generated strokes of testdata/{STAND_IN.name}, no real drawings"
  return _from_pair(train, test, what, seed, is_stand_in=True)


def _from_pair(
  train: np.ndarray, test: np.ndarray, what: str, seed: int, *, is_stand_in: bool
) -> ImageDataSet:
  """Keeps the test images as they are and takes the last of the shuffled training images for validation."""
  num_valid = min(_VALID_EXAMPLES, max(1, len(train) // 10))
  if len(train) < 2:
    raise UserError(f"{what}: at least 2 training images are needed. Received: {len(train)}")
  rows, valid_rows = split_rows(len(train), len(train) - num_valid, num_valid)
  return _dataset(train[rows], train[valid_rows], test, what, seed, is_stand_in)


def _from_zips(paths: list[pathlib.Path], seed: int) -> ImageDataSet:
  """Divides the shuffled drawings into ten parts: eight for training, one for validation, one for testing."""
  images, duplicates = omniglot_zips.read(paths)
  what = (
    f"Omniglot, original release ({', '.join(p.name for p in paths)}) reduced from 105×105 to 28×28 and "
    f"split 80/10/10, {duplicates} duplicates left out; not the chardata.mat of published results"
  )
  n, tenth = len(images), max(1, len(images) // 10)
  if n < 3:
    raise UserError(f"{paths[0].parent}: at least 3 drawings are needed for three splits. Received: {n}")
  train, valid, test = (images[rows] for rows in split_rows(n, n - 2 * tenth, tenth, tenth))
  return _dataset(train, valid, test, what, seed, is_stand_in=False)


def _dataset(train, valid, test, what: str, seed: int, is_stand_in: bool) -> ImageDataSet:
  source = f"{what}: {len(train)} train, {len(valid)} valid, {len(test)} test images"
  return images_from_arrays(
    train, valid, test, source=source, seed=seed, name="omniglot", is_stand_in=is_stand_in
  )
