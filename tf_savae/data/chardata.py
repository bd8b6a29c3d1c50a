"""Reads and verifies `chardata.mat`, the 28×28 Omniglot of Burda et al. 2015.

Source: Y. Burda, R. Grosse, R. Salakhutdinov, *Importance Weighted Autoencoders*, ICLR 2016, arXiv 1509.00519. Their
code release holds the file, with the keys `data` `[784, 24345]` and `testdata` `[784, 8070]`. Values are grey levels
in [0, 1], where ink is 1.
"""

from __future__ import annotations

import pathlib

import numpy as np
import scipy.io

from tf_savae.errors import UserError, reason

PUBLISHED_TRAIN = 24345
PUBLISHED_TEST = 8070
_SIDE = 28


def read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Training and test images of a file with the layout of chardata.mat and any number of images.

  Returns:
    Two arrays float32 `[n, 28, 28]` in [0, 1], upright, ink = 1.

  Raises:
    UserError: the file cannot be read, or has another layout.
  """
  try:
    arrays = scipy.io.loadmat(path, variable_names=("data", "testdata"))
  except Exception as error:  # a damaged file makes scipy raise whatever its parser runs into
    raise UserError(
      f"{path} cannot be read as a MATLAB file ({reason(error)}); "
      f"replace it, or remove it to use another source"
    ) from error
  return _images(arrays, "data", path), _images(arrays, "testdata", path)


def read_alphabets(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray] | None:
  """Numbers of the alphabets of training and test images, from 1, each int `[n]`.

  None if the file does not hold them as the published one does: as columns `[50, n]` with a single 1.
  """
  keys = ("target", "testtarget")
  try:
    arrays = scipy.io.loadmat(path, variable_names=keys)
    found = [np.asarray(arrays[key]) for key in keys]
  except Exception:  # whatever is wrong with them, the images were read
    return None
  if any(part.ndim != 2 or not (np.sum(part != 0, axis=0) == 1).all() for part in found):
    return None
  train, test = (np.argmax(part, axis=0) + 1 for part in found)
  return train, test


def is_published_size(train: np.ndarray, test: np.ndarray) -> bool:
  """Whether both arrays have as many images as in the published file."""
  return (len(train), len(test)) == (PUBLISHED_TRAIN, PUBLISHED_TEST)


def verify(path: pathlib.Path) -> None:
  """Raises UserError unless `path` has the layout, the ranges and the sizes of the published file."""
  train, test = read(path)
  if not is_published_size(train, test):
    raise UserError(
      f"{path} is not the published chardata.mat: expected {PUBLISHED_TRAIN} and {PUBLISHED_TEST} images. "
      f"Received: {len(train)} and {len(test)}"
    )


def _images(arrays: dict[str, np.ndarray], key: str, path: pathlib.Path) -> np.ndarray:
  """Images float32 `[n, 28, 28]` from the columns of `arrays[key]`, after checking it."""
  if key not in arrays:
    raise UserError(f"{path} has no variable {key!r}; it is not a chardata.mat. Replace or remove it")
  columns = arrays[key]
  pixels = _SIDE * _SIDE
  if not isinstance(columns, np.ndarray) or columns.dtype.kind not in "fiub":
    kind = getattr(columns, "dtype", type(columns).__name__)
    raise UserError(f"{path}: {key!r} must be an array of real numbers. Received: {kind}")
  if columns.ndim != 2 or columns.shape[0] != pixels:
    raise UserError(f"{path}: {key!r} must have shape [{pixels}, n]. Received: {list(columns.shape)}")
  if columns.shape[1] == 0:
    raise UserError(f"{path}: {key!r} is empty. Received: {list(columns.shape)}")
  low, high = columns.min(), columns.max()
  if not (low >= 0 and high <= 1):  # also refuses NaN
    raise UserError(f"{path}: {key!r} must have values in [0, 1]. Received: from {low:g} to {high:g}")
  # Each column of the array is an image stored column by column, as in MATLAB. Reading it row by row transposes it.
  return columns.T.reshape(-1, _SIDE, _SIDE).transpose(0, 2, 1).astype(np.float32)
