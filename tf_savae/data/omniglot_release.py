"""Reads the original Omniglot release (105×105 PNG), from its zips or unpacked.

B. Lake, R. Salakhutdinov, J. Tenenbaum, *Human-level concept learning through probabilistic program
induction*, Science 350, 2015: `images_background.zip`, its two small versions (which share alphabets), and
`images_evaluation.zip`. A drawing is `…/<alphabet>/<character>/<character number>_<drawer>.png`, ink is 0.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import io
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from tf_savae.errors import UserError, reason

UNKNOWN_DRAWER = 0  # drawers of a character are counted from 1

_STEMS = ("images_background*", "images_evaluation")
_RELEASE_SIDE = 105
_SIDE = 28
_CHUNK = 1024  # drawings reduced at a time: bounds the memory that full-size images take


class Drawings(NamedTuple):
  """The different drawings of some zips or folders.

  Attributes:
    images: float32 `[n, 28, 28]` in [0, 1], ink = 1, sorted by alphabet, character and file name.
    drawers: int `[n]`, which of a character's twenty drawers drew each, from 1; `UNKNOWN_DRAWER` where its file name
      does not say.
    alphabets: str `[n]`, the name of each drawing's alphabet.
    duplicates: how many drawings were left out because another zip or folder held the same one.
  """

  images: np.ndarray
  drawers: np.ndarray
  alphabets: np.ndarray
  duplicates: int


def find(folder: pathlib.Path, names: Iterable[str]) -> list[pathlib.Path]:
  """The zips and unpacked folders of the release among the `names` in `folder`, sorted; case does not matter.

  A folder beside the zip that it came from is left out.
  """
  paths = [folder / name for name in sorted(names) if _is_part(name)]
  zips = [path for path in paths if path.suffix]
  packed = {path.stem.lower() for path in zips}
  return sorted([*zips, *(path for path in paths if path not in zips and path.name.lower() not in packed)])


def _is_part(name: str) -> bool:
  name = name.lower()
  return any(fnmatch.fnmatchcase(name, f"{stem}.zip") for stem in _STEMS) or (
    "." not in name and any(fnmatch.fnmatchcase(name, stem) for stem in _STEMS)
  )


def read(paths: Iterable[pathlib.Path]) -> Drawings:
  """All drawings of `paths`, each once, reduced to 28×28 grey by area averaging.

  Two files are the same drawing if alphabet, character, file name and pixels all agree. The result does not
  depend on the order of `paths` or of what they hold.

  Raises:
    UserError: a zip or folder is damaged or holds no PNG, or a PNG in it is damaged or of another size.
  """
  found: dict[tuple[str, bytes], np.ndarray] = {}
  total = 0
  for path in paths:
    for members, pixels in _chunks(path):
      total += len(members)
      digests = [hashlib.sha256(drawing).digest() for drawing in pixels]
      found.update(zip(zip(members, digests, strict=True), area_average(pixels), strict=True))
  keys = sorted(found)
  drawers = np.array([_drawer(name) for name, _ in keys])
  alphabets = np.array([name.partition("/")[0] for name, _ in keys])
  return Drawings(np.stack([found[key] for key in keys]), drawers, alphabets, total - len(found))


def area_average(pixels: np.ndarray) -> np.ndarray:
  """Reduces full-size drawings uint8 `[n, 105, 105]` (ink = 0) to float32 `[n, 28, 28]` (ink = 1).

  105 / 28 = 3.75, so a small pixel covers whole and fractional large ones; each counts by its covered area.
  """
  ink = 1.0 - pixels[..., np.newaxis].astype(np.float32) / 255.0
  small = tf.image.resize(ink, (_SIDE, _SIDE), method=tf.image.ResizeMethod.AREA)
  return np.clip(small.numpy()[..., 0], 0.0, 1.0)  # rounding may pass 1 by an ulp


def _drawer(name: str) -> int:
  """15 of "Greek/character01/0394_15.png"."""
  match = re.search(r"_(\d{1,4})\.[^.]*$", name)
  return int(match.group(1)) if match else UNKNOWN_DRAWER


def _chunks(path: pathlib.Path) -> Iterator[tuple[list[str], np.ndarray]]:
  """Yields (alphabet/character/file of each, pixels uint8 `[n, 105, 105]`) of a zip or folder, some at a time."""
  with contextlib.ExitStack() as stack:
    is_zip = path.suffix.lower() == ".zip"
    drawings = _in_zip(stack, path) if is_zip else _in_folder(path)
    if not drawings:
      raise UserError(f"{path} holds no PNG drawings; replace it, or remove it to use another source")
    names = sorted(drawings)
    for first in range(0, len(names), _CHUNK):
      chunk = names[first : first + _CHUNK]
      ends = ["/".join(pathlib.PurePosixPath(name).parts[-3:]) for name in chunk]
      yield ends, np.stack([_pixels(drawings[name], name, path) for name in chunk])


def _in_zip(stack: contextlib.ExitStack, path: pathlib.Path) -> dict[str, Callable[[], bytes]]:
  """What reads each drawing of a zip, by its name there."""
  try:
    archive = stack.enter_context(zipfile.ZipFile(path))
  except Exception as error:  # a damaged directory of members shows in many ways
    raise UserError(
      f"{path} cannot be read as a zip ({reason(error)}); replace it, or remove it to use another source"
    ) from error
  members = [info for info in archive.infolist() if not info.is_dir() and _is_drawing(info.filename)]
  return {info.filename: lambda info=info: archive.read(info) for info in members}


def _in_folder(path: pathlib.Path) -> dict[str, Callable[[], bytes]]:
  """What reads each drawing of an unpacked folder, by its path there."""
  if not path.is_dir():
    raise UserError(f"{path} is no folder of drawings; remove it to use another source")
  try:
    inside = {
      file.relative_to(path).as_posix(): file.read_bytes for file in path.rglob("*") if file.is_file()
    }
  except OSError as error:
    raise UserError(f"{path} cannot be read: {reason(error)}") from error
  return {name: read for name, read in inside.items() if _is_drawing(name)}


def _is_drawing(name: str) -> bool:
  path = pathlib.PurePosixPath(name)
  # macOS adds resource forks that are named like the drawings they belong to.
  is_resource_fork = path.parts[0] == "__MACOSX" or path.name.startswith("._")
  return path.suffix.lower() == ".png" and not is_resource_fork


def _pixels(read: Callable[[], bytes], name: str, path: pathlib.Path) -> np.ndarray:
  """Grey levels uint8 `[105, 105]` of one drawing."""
  try:
    image = Image.open(
      io.BytesIO(read()), formats=["PNG"]
    )  # reads the header only: a huge image costs nothing
    if image.size == (_RELEASE_SIDE, _RELEASE_SIDE):
      return np.asarray(image.convert("L"))
  except Exception as error:  # damage shows as a zip, zlib, Pillow, struct or operating-system error
    raise UserError(f"{path}: {name} is damaged ({reason(error)}); replace {path.name}") from error
  raise UserError(
    f"{path}: {name} must have {_RELEASE_SIDE}×{_RELEASE_SIDE} pixels, as in the release. "
    f"Received: {image.width}×{image.height}"
  )
