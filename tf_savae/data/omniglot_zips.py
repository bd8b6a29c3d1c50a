"""Reads the original Omniglot release (105×105 PNG in zips) without unpacking it.

B. Lake, R. Salakhutdinov, J. Tenenbaum, *Human-level concept learning through probabilistic program
induction*, Science 350, 2015: `images_background.zip`, its two small versions (which share alphabets), and
`images_evaluation.zip`. Members are `<zip>/<alphabet>/<character>/<drawing>.png`, ink is 0.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import pathlib
import zipfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from tf_savae.errors import UserError, reason

_PATTERNS = ("images_background*.zip", "images_evaluation.zip")
_RELEASE_SIDE = 105
_SIDE = 28
_CHUNK = 1024  # drawings reduced at a time: bounds the memory that full-size images take


class Drawings(NamedTuple):
  """The different drawings of some zips.

  Attributes:
    images: float32 `[n, 28, 28]` in [0, 1], ink = 1, sorted by alphabet, character and file name.
    duplicates: how many drawings were left out because another zip held the same one.
  """

  images: np.ndarray
  duplicates: int


def find(names: Iterable[str]) -> list[str]:
  """Those of the file `names` that are zips of the release, sorted."""
  return sorted(name for name in names if any(fnmatch.fnmatchcase(name, p) for p in _PATTERNS))


def read(paths: Iterable[pathlib.Path]) -> Drawings:
  """All drawings of `paths`, each once, reduced to 28×28 grey by area averaging.

  Two members are the same drawing if alphabet, character, file name and pixels all agree. The result does not
  depend on the order of `paths` or of their members.

  Raises:
    UserError: a zip is damaged or holds no PNG, or a PNG in it is damaged or of another size.
  """
  found: dict[tuple[str, bytes], np.ndarray] = {}
  total = 0
  for path in paths:
    for members, pixels in _chunks(path):
      total += len(members)
      digests = [hashlib.sha256(drawing).digest() for drawing in pixels]
      found.update(zip(zip(members, digests, strict=True), area_average(pixels), strict=True))
  images = np.stack([found[key] for key in sorted(found)])
  return Drawings(images, total - len(found))


def area_average(pixels: np.ndarray) -> np.ndarray:
  """Reduces full-size drawings uint8 `[n, 105, 105]` (ink = 0) to float32 `[n, 28, 28]` (ink = 1).

  105 / 28 = 3.75, so a small pixel covers whole and fractional large ones; each counts by its covered area.
  """
  ink = 1.0 - pixels[..., np.newaxis].astype(np.float32) / 255.0
  small = tf.image.resize(ink, (_SIDE, _SIDE), method=tf.image.ResizeMethod.AREA)
  return np.clip(small.numpy()[..., 0], 0.0, 1.0)  # rounding may pass 1 by an ulp


def _chunks(path: pathlib.Path) -> Iterator[tuple[list[str], np.ndarray]]:
  """Yields (alphabet/character/file of each, pixels uint8 `[n, 105, 105]`) of one zip, some at a time."""
  try:
    archive = zipfile.ZipFile(path)
  except Exception as error:  # a damaged directory of members shows in many ways
    raise UserError(
      f"{path} cannot be read as a zip ({reason(error)}); replace it, or remove it to use another source"
    ) from error
  with archive:
    members = [info for info in archive.infolist() if _is_drawing(info)]
    if not members:
      raise UserError(f"{path} holds no PNG drawings; replace it, or remove it to use another source")
    for first in range(0, len(members), _CHUNK):
      chunk = members[first : first + _CHUNK]
      names = ["/".join(pathlib.PurePosixPath(info.filename).parts[-3:]) for info in chunk]
      yield names, np.stack([_pixels(archive, info, path) for info in chunk])


def _is_drawing(info: zipfile.ZipInfo) -> bool:
  path = pathlib.PurePosixPath(info.filename)
  # macOS adds resource forks that are named like the drawings they belong to.
  is_resource_fork = path.parts[0] == "__MACOSX" or path.name.startswith("._")
  return path.suffix.lower() == ".png" and not info.is_dir() and not is_resource_fork


def _pixels(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: pathlib.Path) -> np.ndarray:
  """Grey levels uint8 `[105, 105]` of one member."""
  try:
    data = archive.read(info)
    image = Image.open(io.BytesIO(data), formats=["PNG"])  # reads the header only: a huge image costs nothing
    if image.size == (_RELEASE_SIDE, _RELEASE_SIDE):
      return np.asarray(image.convert("L"))
  except Exception as error:  # damage shows as a zip, zlib, Pillow, struct or operating-system error
    raise UserError(f"{path}: {info.filename} is damaged ({reason(error)}); replace the zip") from error
  raise UserError(
    f"{path}: {info.filename} must have {_RELEASE_SIDE}×{_RELEASE_SIDE} pixels, as in the release. "
    f"Received: {image.width}×{image.height}"
  )
