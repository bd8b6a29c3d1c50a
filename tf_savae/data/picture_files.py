"""Reads grey images from a folder or zip of PNG and JPEG files, or from NumPy's .npy and .npz files."""

from __future__ import annotations

import io
import pathlib
import zipfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from tf_savae.data.dataset import SPLITS
from tf_savae.errors import UserError, reason

MAX_FILE_SIDE = 4096  # pixels: a few bytes of PNG can claim to be gigabytes of image
ARRAY_SUFFIXES = (".npy", ".npz")

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
_SPLIT_OF_NAME = {
  "train": "train",
  "training": "train",
  "valid": "valid",
  "val": "valid",
  "validation": "valid",
  "dev": "valid",
  "test": "test",
}
_ARRAY_NAMES = ("images", "x", "data")
_NAMES_SHOWN = 3


class Pictures(NamedTuple):
  """What was read.

  Attributes:
    images: for each split named by a folder or array, or for "all": uint8 or float `[height, width]`, ink high.
    colour: the first image in colour, made grey like the others; None if there is none.
    damaged: what was left out, and why.
  """

  images: dict[str, list[np.ndarray]]
  colour: str | None
  damaged: list[str]

  def describe_damaged(self) -> str:
    """How many files are damaged, with the first few names."""
    more = len(self.damaged) - _NAMES_SHOWN
    shown = ", ".join(self.damaged[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"{len(self.damaged)} unreadable files left out: {shown}"


def read(path: pathlib.Path) -> Pictures:
  """The images of a folder, a zip, an .npy or an .npz file, sorted by name.

  Raises:
    UserError: the path is missing, of another kind, or without images.
  """
  if not path.exists():
    raise UserError(f"no images in {path}, which does not exist; name a folder or file with --data_dir")
  if path.is_dir():
    return _from_files(path, _in_folder(path))
  if path.suffix.lower() == ".zip":
    return _from_zip(path)
  if path.suffix.lower() in ARRAY_SUFFIXES:
    return _from_arrays(path)
  raise UserError(
    f"{path} holds no images that can be read; give a folder or a .zip of PNG or JPEG files, or an .npy or .npz file"
  )


def grey_of(content: bytes) -> tuple[np.ndarray, bool]:
  """One file as ink, uint8 `[height, width]`: 255 where it is black; and whether it was in colour.

  What is transparent counts as white paper. 16 bits are reduced to 8.

  Raises:
    Exception: of any type, where the file is damaged.
  """
  image = Image.open(io.BytesIO(content), formats=["PNG", "JPEG"])
  if max(image.size) > MAX_FILE_SIDE:
    raise ValueError(f"{image.width}×{image.height} pixels, more than {MAX_FILE_SIDE} on a side")
  image = ImageOps.exif_transpose(image)
  if image.mode.startswith("I"):
    return np.uint8(255 - np.asarray(image.convert("I")) // 257), False
  image = image.convert("RGBA")
  image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
  is_colour = bool(np.ptp(np.asarray(image), axis=-1).any())
  return 255 - np.asarray(image.convert("L")), is_colour


def _in_folder(folder: pathlib.Path) -> dict[str, Callable[[], bytes]]:
  try:
    return {
      file.relative_to(folder).as_posix(): file.read_bytes for file in folder.rglob("*") if file.is_file()
    }
  except OSError as error:
    raise UserError(f"{folder} cannot be read: {reason(error)}") from error


def _from_zip(path: pathlib.Path) -> Pictures:
  try:
    archive = zipfile.ZipFile(path)
  except Exception as error:  # a damaged directory of members shows in many ways
    raise UserError(f"{path} cannot be read as a zip ({reason(error)}); replace it") from error
  with archive:
    members = [info for info in archive.infolist() if not info.is_dir()]
    return _from_files(path, {info.filename: lambda info=info: archive.read(info) for info in members})


def _from_files(path: pathlib.Path, contents: dict[str, Callable[[], bytes]]) -> Pictures:
  """The pictures among files, whose `contents` are read by name."""
  names = sorted(filter(_is_picture, contents))
  if not names:
    others = sorted(contents)
    found = f"; received {len(others)} other files, such as {others[0]}" if others else ""
    raise UserError(
      f"no images in {path}: put PNG or JPEG files there, or give an .npy or .npz file as --data_dir{found}"
    )
  splits = {name: _split_of(name) for name in names}
  has_splits = "train" in splits.values()
  found = Pictures({}, None, [])
  for name in names:
    split = splits[name] if has_splits else "all"
    if split is None:
      found.damaged.append(f"{name} (outside train/, valid/ and test/)")
      continue
    try:
      image, is_colour = grey_of(contents[name]())
    except Exception as error:  # damage shows as a zip, zlib, Pillow, struct or operating-system error
      found.damaged.append(f"{name} ({reason(error, 60)})")
      continue
    found.images.setdefault(split, []).append(image)
    if is_colour and found.colour is None:
      found = found._replace(colour=name)
  if not {"train", "all"} & found.images.keys():
    raise UserError(f"no usable image in {path}; {found.describe_damaged()}")
  return found


def _is_picture(name: str) -> bool:
  path = pathlib.PurePosixPath(name)
  is_hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
  return path.suffix.lower() in _PICTURE_SUFFIXES and not is_hidden


def _split_of(name: str) -> str | None:
  """The split that a file's first or second folder is named after."""
  folders = pathlib.PurePosixPath(name).parts[:-1][:2]
  return next((_SPLIT_OF_NAME[part.lower()] for part in folders if part.lower() in _SPLIT_OF_NAME), None)


def _from_arrays(path: pathlib.Path) -> Pictures:
  """The arrays of an .npy or .npz file: one of all images, or one for each split."""
  try:
    loaded = np.load(path, allow_pickle=False)
    arrays = dict(loaded) if hasattr(loaded, "files") else {"all": loaded}
  except Exception as error:  # a damaged file shows as a zip, zlib, NumPy or operating-system error
    raise UserError(f"{path} cannot be read as a NumPy file ({reason(error)}); replace it") from error
  if not arrays:
    raise UserError(f"{path} holds no array; save images `[n, height, width]` there")
  by_split = dict(_splits_of_arrays(arrays))
  if "train" not in by_split:
    named = [name for name in _ARRAY_NAMES if name in arrays]
    if not named and len(arrays) > 1:
      raise UserError(
        f"{path} has several arrays; call them train, valid and test, or one of them images. Received:"
        f" {', '.join(arrays)}"
      )
    by_split = {"all": next(iter(named or arrays))}
  found = {split: _checked(arrays[name], path, name) for split, name in by_split.items()}
  colour = next((by_split[split] for split, (_, is_colour) in found.items() if is_colour), None)
  return Pictures({split: list(images) for split, (images, _) in found.items()}, colour, [])


def _splits_of_arrays(arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, str]]:
  """(split, name) of arrays that are called after a split, such as x_train; labels such as y_train are none."""
  for name in arrays:
    split = _SPLIT_OF_NAME.get(name.lower().removeprefix("x_").removesuffix("_images"))
    if split in SPLITS:
      yield split, name


def _checked(array: np.ndarray, path: pathlib.Path, name: str) -> tuple[np.ndarray, bool]:
  """An array as uint8 or float32 images `[n, height, width]`, and whether they were in colour."""
  if array.ndim == 3:
    array = array[..., np.newaxis]
  if array.ndim != 4 or array.shape[-1] not in (1, 3) or array.dtype.kind not in "fiub" or not array.size:
    raise UserError(
      f"{path}: {name} must be numbers of shape [n, height, width], with n above 0. Received: {array.dtype}"
      f" {list(array.shape)}"
    )
  low, high = array.min(), array.max()
  is_bytes = array.dtype.kind in "iu" and high > 1
  if not (low >= 0 and high <= (255 if is_bytes else 1)):  # also refuses NaN
    raise UserError(
      f"{path}: {name} must have grey values from 0 to 255 as integers or from 0 to 1, 1 being ink. Received:"
      f" {array.dtype} from {low:g} to {high:g}"
    )
  is_colour = array.shape[-1] == 3 and bool(np.ptp(array.astype(np.float32), axis=-1).any())
  array = array.astype(np.float32) / (255 if is_bytes else 1)
  # ITU-R 601 luma, as Pillow's convert("L").
  return (array @ np.float32([0.299, 0.587, 0.114]) if array.shape[-1] == 3 else array[..., 0]), is_colour
