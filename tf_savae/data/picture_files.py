"""Pictures of any size, read one at a time: of PNG and JPEG files, or of NumPy's .npy and .npz files."""

from __future__ import annotations

import abc
import io
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tf_savae.data import picture_entries
from tf_savae.data.dataset import SPLITS
from tf_savae.data.picture_entries import SPLIT_OF_NAME, Entry
from tf_savae.errors import UserError, printable, reason

MAX_FILE_SIDE = 4096  # pixels: a few bytes of PNG can claim to be gigabytes of image
ARRAY_SUFFIXES = (".npy", ".npz")

_ARRAY_NAMES = ("images", "x", "data")
_LABEL_NAMES = ("labels", "label", "y")
_NAMES_SHOWN = 3
_CHUNK = 1024  # images checked at a time


class Pictures(abc.ABC):
  """The pictures of one split, or of all.

  Attributes:
    sizes: (height, width) of each, or a single one for all.
    colour: name of the first in colour; None if there is none.
    is_bytes: whether `read` gives uint8.
    labels: of each, in words; None where it has none.
  """

  sizes: Sequence[tuple[int, int]]
  colour: str | None = None
  is_bytes: bool
  labels: Sequence[str | None]

  @abc.abstractmethod
  def __len__(self) -> int: ...

  @abc.abstractmethod
  def read(self, row: int, colour: bool) -> np.ndarray:
    """One picture: ink `[height, width, 1]`, high where it is dark; or red, green and blue `[height, width, 3]`.

    uint8, or float32 in [0, 1].
    """


class Found(NamedTuple):
  """What was read.

  Attributes:
    parts: the pictures of each split named by a folder or array, or of "all".
    damaged: what was left out, and why.
  """

  parts: dict[str, Pictures]
  damaged: list[str]

  @property
  def colour(self) -> str | None:
    """The first picture in colour."""
    return next((part.colour for part in self.parts.values() if part.colour), None)

  def describe_damaged(self) -> str:
    """How many files are damaged, with the first few names."""
    more = len(self.damaged) - _NAMES_SHOWN
    shown = ", ".join(self.damaged[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    files = "file" if len(self.damaged) == 1 else "files"
    return f"{len(self.damaged)} unreadable {files} left out: {printable(shown)}"


def find(path: pathlib.Path) -> Found:
  """The pictures of a folder, a zip, an .npy, an .npz or a .tfrecord file, sorted by name.

  Raises:
    UserError: the path is missing, of another kind, or without images.
  """
  if not path.exists():
    raise UserError(f"no images in {path}, which does not exist; name a folder or file with --data_dir")
  if path.suffix.lower() in ARRAY_SUFFIXES:
    return _of_arrays(path)
  if path.is_dir() or path.suffix.lower() in (".zip", *picture_entries.RECORD_SUFFIXES):
    return _of_files(path)
  raise UserError(
    f"{path} holds no images that can be read; give a folder or a .zip of PNG or JPEG files, or an .npy, .npz or"
    " .tfrecord file"
  )


# Files ----------------------------------------------------------------------------------------------------------


class _Files(Pictures):
  is_bytes = True

  def __init__(self):
    self.entries: list[Entry] = []
    self.sizes: list[tuple[int, int]] = []

  def __len__(self):
    return len(self.entries)

  @property
  def labels(self):
    return [entry.label for entry in self.entries]

  def add(self, entry: Entry) -> None:
    """Raises an exception of any type where the file is damaged."""
    image, is_colour = _decode(entry.read(), colour=False)
    self.entries.append(entry)
    self.sizes.append(image.shape[:2])
    if is_colour and self.colour is None:
      self.colour = entry.name

  def read(self, row, colour):
    entry = self.entries[row]
    try:
      return _decode(entry.read(), colour)[0]
    except Exception as error:  # see `add`
      raise UserError(f"{entry.name} changed while it was read ({reason(error, 60)}); start again") from error


def _decode(content: bytes, colour: bool) -> tuple[np.ndarray, bool]:
  """One file as `Pictures.read` has it, uint8; and whether it is in colour.

  What is transparent counts as white paper. 16 bits are reduced to 8.

  Raises:
    Exception: of any type, where the file is damaged.
  """
  if not content:
    raise ValueError("empty file")
  try:
    image = Image.open(io.BytesIO(content), formats=["PNG", "JPEG"])
  except UnidentifiedImageError:  # whose text has an address in memory, another one in each process
    raise ValueError("neither PNG nor JPEG") from None
  if max(image.size) > MAX_FILE_SIDE:
    raise ValueError(f"{image.width}×{image.height} pixels, more than {MAX_FILE_SIDE} on a side")
  image = ImageOps.exif_transpose(image)
  if image.mode.startswith("I"):
    light = np.uint8(np.asarray(image.convert("I")) // 257)[..., np.newaxis]
    return (np.repeat(light, 3, axis=-1) if colour else 255 - light), False
  image = image.convert("RGBA")
  image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
  pixels = np.asarray(image)
  is_colour = bool(np.ptp(pixels, axis=-1).any())
  return (pixels if colour else 255 - np.asarray(image.convert("L"))[..., np.newaxis]), is_colour


def _why(error: Exception) -> str:
  """What is wrong with a file, in a few words."""
  if isinstance(error, RuntimeError) and "encrypted" in str(error):
    return "encrypted; unpack the zip"
  return reason(error, 60)


def _of_files(path: pathlib.Path) -> Found:
  entries, damaged, others = picture_entries.find(path)
  if not entries and not damaged:
    found = f"; received {len(others)} other files, such as {others[0]}" if others else ""
    raise UserError(
      f"no images in {path}: put PNG or JPEG files there, or give an .npy, .npz or .tfrecord file as --data_dir{found}"
    )
  parts: dict[str, _Files] = {}
  has_splits = any(entry.split == "train" for entry in entries)
  damaged = list(damaged)
  for entry in entries:
    split = entry.split if has_splits else "all"
    if split is None:
      damaged.append(f"{entry.name} (outside train/, valid/ and test/)")
      continue
    part = parts.setdefault(split, _Files())
    try:
      part.add(entry)
    except Exception as error:  # damage shows as a zip, zlib, Pillow, struct or operating-system error
      damaged.append(f"{entry.name} ({_why(error)})")
  found = Found({split: part for split, part in parts.items() if len(part)}, damaged)
  if not {"train", "all"} & found.parts.keys():
    raise UserError(f"no usable image in {path}; {found.describe_damaged()}")
  return found


# Arrays ---------------------------------------------------------------------------------------------------------


class _Array(Pictures):
  def __init__(self, array: np.ndarray, labels: np.ndarray | None, name: str):
    """Of an array that `_check` accepted."""
    self._array = array if array.ndim == 4 else array[..., np.newaxis]
    # Integers up to 1 are binary.
    self.is_bytes = array.dtype == np.uint8 and _maximum(array) > 1
    self._scale = 1 if array.dtype.kind not in "iu" or self.is_bytes or _maximum(array) <= 1 else 255
    self.sizes = [self._array.shape[1:3]] * len(array)
    self.labels = [None] * len(array) if labels is None else [str(label) for label in labels]
    self.colour = name if self._array.shape[-1] == 3 and _has_colour(self._array) else None

  def __len__(self):
    return len(self._array)

  def read(self, row, colour):
    image = self._array[row]
    if not self.is_bytes:
      image = image.astype(np.float32) / self._scale
    if colour:
      return image if image.shape[-1] == 3 else np.repeat(image, 3, axis=-1)
    # ITU-R 601 luma, as Pillow's convert("L").
    if image.shape[-1] == 3:
      grey = image.astype(np.float32) @ np.float32([[0.299], [0.587], [0.114]])
      return np.uint8(np.round(grey)) if self.is_bytes else grey
    return image


def _maximum(array):
  return np.max([part.max() for part in _chunks(array)])


def _has_colour(array):
  return any(bool(np.any(part.max(axis=-1) != part.min(axis=-1))) for part in _chunks(array))


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
  """Parts of an array that may be on disk."""
  return (array[first : first + _CHUNK] for first in range(0, len(array), _CHUNK))


def _of_arrays(path: pathlib.Path) -> Found:
  """The arrays of an .npy or .npz file: one of all images, or one for each split."""
  try:
    loaded = np.load(path, mmap_mode="r", allow_pickle=False)  # an .npy file stays on disk
    arrays: dict[str, Any] = dict(loaded) if hasattr(loaded, "files") else {"all": loaded}
  except Exception as error:  # a damaged file shows as a zip, zlib, NumPy or operating-system error
    raise UserError(f"{path} cannot be read as a NumPy file ({reason(error)}); replace it") from error
  if not arrays:
    raise UserError(f"{path} holds no array; save images `[n, height, width]` there")
  by_split = dict(_splits_of_arrays(arrays))
  labels = {split: _label_name(name, arrays) for split, name in by_split.items()}
  if "train" not in by_split:
    named = [name for name in _ARRAY_NAMES if name in arrays]
    if not named and len(arrays) > 1:
      raise UserError(
        f"{path} has several arrays; call them train, valid and test, or one of them images. Received:"
        f" {', '.join(arrays)}"
      )
    by_split = {"all": next(iter(named or arrays))}
    labels = {"all": next((name for name in _LABEL_NAMES if name in arrays), "")}
  parts = {}
  for split, name in by_split.items():
    _check(arrays[name], path, name)
    of_split = arrays.get(labels[split])
    if of_split is not None and of_split.reshape(-1).shape != (len(arrays[name]),):
      raise UserError(
        f"{path}: {labels[split]} must have one label for each of {len(arrays[name])} images. Received:"
        f" {list(of_split.shape)}"
      )
    parts[split] = _Array(arrays[name], None if of_split is None else of_split.reshape(-1), name)
  return Found(parts, [])


def _splits_of_arrays(arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, str]]:
  """(split, name) of arrays that are called after a split, such as x_train; labels such as y_train are none."""
  for name in arrays:
    split = SPLIT_OF_NAME.get(name.lower().removeprefix("x_").removesuffix("_images"))
    if split in SPLITS:
      yield split, name


def _label_name(name: str, arrays: dict[str, np.ndarray]) -> str:
  """The name of the labels of images called x_train, train or train_images; empty if there are none."""
  stem = name.removeprefix("x_").removesuffix("_images")
  return next((each for each in (f"y_{stem}", f"{stem}_labels") if each in arrays), "")


def _check(array: np.ndarray, path: pathlib.Path, name: str) -> None:
  """Raises UserError unless these are images `[n, height, width]`, or with 1 or 3 channels."""
  fits = array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in (1, 3))
  if not fits or array.dtype.kind not in "fiub" or not array.size:
    raise UserError(
      f"{path}: {name} must be numbers of shape [n, height, width] or [n, height, width, 3], with n above 0. Received:"
      f" {array.dtype} {list(array.shape)}"
    )
  low, high = np.min([part.min() for part in _chunks(array)]), _maximum(array)
  is_bytes = array.dtype.kind in "iu" and high > 1
  if not (low >= 0 and high <= (255 if is_bytes else 1)):  # also refuses NaN
    raise UserError(
      f"{path}: {name} must have grey values from 0 to 255 as integers or from 0 to 1, 1 being ink. Received:"
      f" {array.dtype} from {low:g} to {high:g}"
    )
