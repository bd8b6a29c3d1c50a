"""`--dataset=omniglot`: loads the best source available and says which one it was.

In this order: `chardata.mat` in `data_dir/omniglot`; the original release there, zipped or unpacked; a download of
chardata.mat; the generated stand-in that comes with the code. A source that is there but broken is an error:
passing over it would train on other data than the user put there.

The release is split by drawer: the first 15 drawers of each character are for training, the other 5 for the test.
15 · 1,623 = 24,345 is the number of training images of chardata.mat, too.
"""

from __future__ import annotations

import os
import pathlib

import numpy as np
from absl import logging

from tf_savae.data import chardata, omniglot_release
from tf_savae.data.dataset import SPLITS
from tf_savae.data.download import DownloadError, download_verified
from tf_savae.data.images import ImageDataSet, images_from_arrays, split_rows
from tf_savae.errors import UserError, reason

CHARDATA_URL = "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat"
STAND_IN = pathlib.Path(__file__).with_name("omniglot_standin.mat")

TRAIN_DRAWERS = 15  # of the 20 of each character

# Of the training images of chardata.mat, as in the paper's code, and of the release; a tenth of a smaller file.
_VALID_EXAMPLES = 2000
_VALID_EXAMPLES_OF_RELEASE = 1300

_PLACES = ("omniglot", "omniglot-py")  # names of the folder, in any case; torchvision has the second


def load(
  *,
  data_dir: str | os.PathLike[str],
  seed: int,
  download: bool = True,
  strict: bool = False,
  url: str = CHARDATA_URL,
  omniglot_split: str | None = None,
) -> ImageDataSet:
  """Omniglot as grey images of 28×28 pixels, from the best source available.

  Args:
    data_dir: its folder `omniglot` or `omniglot-py`, a folder in that, and it itself are searched; a download is put
      into `omniglot`.
    seed: the training run's seed; the splits and the evaluation images do not depend on it.
    download: whether chardata.mat may be downloaded if neither it nor a zip is found.
    strict: whether having nothing but the stand-in is an error.
    url: where to download chardata.mat.
    omniglot_split: how the release is split: "drawer" (None: that, too), or "random", 80/10/10 of the shuffled
      drawings. chardata.mat and the stand-in come split.

  Raises:
    UserError: a source that was found is broken, or `strict` is set and only the stand-in is left.
  """
  folder = pathlib.Path(data_dir).expanduser() / "omniglot"
  mat, release = _find(folder.parent)
  if mat:
    return _from_chardata(mat, seed)
  if release:
    return _from_release(release, seed, omniglot_split or "drawer")

  mat = folder / "chardata.mat"
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


def _find(data_dir: pathlib.Path) -> tuple[pathlib.Path | None, list[pathlib.Path]]:
  """chardata.mat, and the parts of the release, in the first folder that has either."""
  for folder in _places(data_dir):
    names = _listing(folder)
    mats = [folder / name for name in sorted(names) if name.lower() == "chardata.mat"]
    release = omniglot_release.find(folder, names)
    if mats or release:
      return next(iter(mats), None), release
  return None, []


def _places(data_dir: pathlib.Path) -> list[pathlib.Path]:
  """Where Omniglot may lie: the folders of its names, folders in them, `data_dir` itself."""
  named = [name for name in _listing(data_dir) if name.lower() in _PLACES]
  named = [data_dir / name for name in sorted(named, key=lambda name: (_PLACES.index(name.lower()), name))]
  inside = [place / name for place in named for name in sorted(_listing(place)) if (place / name).is_dir()]
  return [*named, *inside, data_dir]


def _listing(folder: pathlib.Path) -> list[str]:
  """Names of the files in `folder`; empty if it does not exist."""
  try:
    return os.listdir(folder)
  except FileNotFoundError:
    return []
  except OSError as error:
    raise UserError(f"data directory {folder} cannot be read: {reason(error)}") from error


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
  alphabets = chardata.read_alphabets(path)
  if alphabets is not None and tuple(map(len, alphabets)) != (len(train), len(test)):
    alphabets = None
  return _from_pair(train, test, what, seed, is_stand_in=False, alphabets=alphabets)


def _stand_in(seed: int) -> ImageDataSet:
  train, test = chardata.read(STAND_IN)
  what = f"stand-in for Omniglot, generated strokes of {STAND_IN.name}, no real drawings"
  return _from_pair(train, test, what, seed, is_stand_in=True)


def _from_pair(
  train: np.ndarray,
  test: np.ndarray,
  what: str,
  seed: int,
  *,
  is_stand_in: bool,
  alphabets: tuple[np.ndarray, np.ndarray] | None = None,
) -> ImageDataSet:
  """Keeps the test images as they are and takes the last of the shuffled training images for validation."""
  num_valid = min(_VALID_EXAMPLES, max(1, len(train) // 10))
  if len(train) < 2:
    raise UserError(f"{what}: at least 2 training images are needed. Received: {len(train)}")
  rows, valid_rows = split_rows(len(train), len(train) - num_valid, num_valid)
  data = _dataset(train[rows], train[valid_rows], test, what, seed, is_stand_in)
  if alphabets is not None:
    of_train, of_test = alphabets
    parts = (of_train[rows], of_train[valid_rows], of_test)
    data.labels = {"alphabet": dict(zip(SPLITS, parts, strict=True))}
  return data


def _from_release(paths: list[pathlib.Path], seed: int, split: str) -> ImageDataSet:
  """The drawings of the original release, split "by drawer" or at random."""
  drawings = omniglot_release.read(paths)
  rows, how = (_by_drawer if split == "drawer" else _at_random)(drawings, paths[0].parent)
  what = (
    f"Omniglot, original release ({', '.join(path.name for path in paths)}) reduced from 105×105 to 28×28 and "
    f"{how}, {drawings.duplicates} duplicates left out; not the chardata.mat of published results"
  )
  data = _dataset(*(drawings.images[part] for part in rows), what, seed, is_stand_in=False)
  data.facts = {"omniglot_split": split}
  data.labels = {
    "alphabet": {name: drawings.alphabets[part] for name, part in zip(SPLITS, rows, strict=True)}
  }
  return data


def _by_drawer(drawings: omniglot_release.Drawings, folder: pathlib.Path) -> tuple[list[np.ndarray], str]:
  """Rows of train, valid and test, and how they were split: no drawer of a character is in train and in test.

  The last of the shuffled training rows are for validation, as of chardata.mat.
  """
  known = drawings.drawers != omniglot_release.UNKNOWN_DRAWER
  is_train = drawings.drawers <= TRAIN_DRAWERS
  train, test = np.flatnonzero(known & is_train), np.flatnonzero(known & ~is_train)
  if not known.all() or len(train) < 2 or not len(test):
    raise UserError(
      f"{folder} cannot be split by drawer: of {len(known)} drawings, {len(train)} are of drawers 1 to {TRAIN_DRAWERS},"
      f" {len(test)} of later ones, and {np.sum(~known)} have no drawer in their names; --omniglot_split=random splits"
      " them otherwise"
    )
  num_valid = min(_VALID_EXAMPLES_OF_RELEASE, max(1, len(train) // 10))
  rows, valid_rows = split_rows(len(train), len(train) - num_valid, num_valid)
  how = (
    f"split by drawer ({len(train)} drawings by drawers 1 to {TRAIN_DRAWERS} of each character to train and validate,"
    f" {len(test)} by the others for the test)"
  )
  return [train[rows], train[valid_rows], test], how


def _at_random(drawings: omniglot_release.Drawings, folder: pathlib.Path) -> tuple[list[np.ndarray], str]:
  """Ten parts of the shuffled drawings: eight for training, one for validation, one for the test."""
  n = len(drawings.images)
  tenth = max(1, n // 10)
  if n < 3:
    raise UserError(f"{folder}: at least 3 drawings are needed for three splits. Received: {n}")
  return split_rows(n, n - 2 * tenth, tenth, tenth), "split 80/10/10"


def _dataset(train, valid, test, what: str, seed: int, is_stand_in: bool) -> ImageDataSet:
  source = f"{what}: {len(train)} train, {len(valid)} valid, {len(test)} test images"
  return images_from_arrays(
    train, valid, test, source=source, seed=seed, name="omniglot", is_stand_in=is_stand_in
  )
