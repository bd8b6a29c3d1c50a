"""Where pictures lie: the files of a folder, the members of a zip, or the records of TFRecord files."""

from __future__ import annotations

import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf

from tf_savae.errors import UserError, reason

SPLIT_OF_NAME = {
  "train": "train",
  "training": "train",
  "valid": "valid",
  "val": "valid",
  "validation": "valid",
  "dev": "valid",
  "test": "test",
}
RECORD_SUFFIXES = (".tfrecord", ".tfrecords")

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
_OTHER_PICTURES = (".avif", ".bmp", ".gif", ".heic", ".jp2", ".ppm", ".svg", ".tif", ".tiff", ".webp")
# First bytes of compressed files.
_GZIP, _ZLIB = b"\x1f\x8b", (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
# Names of the features of a record; TensorFlow Datasets and the scripts of TF-Slim use the first ones.
_IMAGE_FEATURES = ("image", "image/encoded", "image_raw", "encoded")
_LABEL_FEATURES = ("label", "image/class/label")


class Entry(NamedTuple):
  """A picture that has not been read.

  Attributes:
    name: of the file, the member or the record.
    split: that its folder or file is named after; None: none.
    label: that its folder or record says; None: none.
    read: reads the PNG or JPEG file.
  """

  name: str
  split: str | None
  label: str | None
  read: Callable[[], bytes]


class Entries(NamedTuple):
  """Pictures, sorted by name, and what could not be read.

  Attributes:
    pictures: the pictures.
    damaged: the rest, and why.
    others: names of files that are no such pictures, without hidden ones.
  """

  pictures: list[Entry]
  damaged: list[str]
  others: list[str]


def find(path: pathlib.Path) -> Entries:
  """The pictures of a folder, a zip or a TFRecord file.

  Raises:
    UserError: it cannot be read.
  """
  if path.suffix.lower() == ".zip":
    return _of_names(_in_zip(path))
  if path.suffix.lower() in RECORD_SUFFIXES:
    return _of_records([path], path.parent)
  contents = _in_folder(path)
  found = _of_names({name: file.read_bytes for name, file in contents.items()})
  if not found.pictures:
    records = [contents[name] for name in sorted(contents) if _is_record(name)]
    return _of_records(records, path) if records else found
  return found


def _in_folder(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """The files below a folder by name, each folder once: linked ones come after the others, and loops are left out."""
  found, above = {}, folder.resolve()
  waiting, seen = [folder], set()
  while waiting:
    each = waiting.pop(0)
    target = each.resolve()
    if target in seen or (each != folder and above.is_relative_to(target)):
      continue
    for place, folders, files in os.walk(each, onerror=_refuse):
      here = pathlib.Path(place)
      seen.add(here.resolve())
      waiting += [here / name for name in sorted(folders) if (here / name).is_symlink()]
      found |= {
        (here / name).relative_to(folder).as_posix(): here / name for name in files if (here / name).is_file()
      }
  return found


def _refuse(error: OSError) -> None:
  raise UserError(
    f"{error.filename} cannot be read: {reason(error)}; make it readable, or move it away"
  ) from error


def _in_zip(path: pathlib.Path) -> dict[str, Callable[[], bytes]]:
  try:
    archive = zipfile.ZipFile(path)
  except Exception as error:  # a damaged directory of members shows in many ways
    raise UserError(f"{path} cannot be read as a zip ({reason(error)}); replace it") from error
  members = [info for info in archive.infolist() if not info.is_dir()]
  return {info.filename: lambda info=info: archive.read(info) for info in members}


def _of_names(contents: dict[str, Callable[[], bytes]]) -> Entries:
  shown = sorted(name for name in contents if not _is_hidden(name))
  pictures = [
    Entry(name, _split_of(name), _label_of(name), contents[name])
    for name in shown
    if _suffix(name) in _PICTURE_SUFFIXES
  ]
  damaged = [f"{name} (neither PNG nor JPEG)" for name in shown if _suffix(name) in _OTHER_PICTURES]
  others = [name for name in shown if _suffix(name) not in _PICTURE_SUFFIXES]
  return Entries(pictures, damaged if pictures else [], others)


def _suffix(name: str) -> str:
  return pathlib.PurePosixPath(name).suffix.lower()


def _is_hidden(name: str) -> bool:
  return any(part.startswith(".") or part == "__MACOSX" for part in pathlib.PurePosixPath(name).parts)


def _is_record(name: str) -> bool:
  """Whether it is called `train.tfrecord`, or `train.tfrecord-00001-of-00010`."""
  return pathlib.PurePosixPath(name).suffix.lower().split("-")[0] in RECORD_SUFFIXES


def _split_of(name: str) -> str | None:
  """The split that a file's first or second folder is named after."""
  folders = pathlib.PurePosixPath(name).parts[:-1][:2]
  return next((SPLIT_OF_NAME[part.lower()] for part in folders if part.lower() in SPLIT_OF_NAME), None)


def _label_of(name: str) -> str | None:
  """The last folder, unless it is that of a split."""
  parent = pathlib.PurePosixPath(name).parent.name
  return None if not parent or parent.lower() in SPLIT_OF_NAME else parent


# Records --------------------------------------------------------------------------------------------------------


def _of_records(files: list[pathlib.Path], folder: pathlib.Path) -> Entries:
  found = Entries([], [], [])
  for file in files:
    name = file.relative_to(folder).as_posix()
    stem = file.name.lower().replace("-", ".").replace("_", ".").split(".")
    split = _split_of(name) or next((SPLIT_OF_NAME[part] for part in stem if part in SPLIT_OF_NAME), None)
    for entry in _records(file, name, split):
      (found.damaged if isinstance(entry, str) else found.pictures).append(entry)  # type: ignore[arg-type]
  return found


def _records(file: pathlib.Path, name: str, split: str | None) -> Iterator[Entry | str]:
  """The records of a file, or descriptions of what is wrong with them."""
  offset, records = 0, iter(tf.data.TFRecordDataset(str(file)))
  for number in range(2**62):
    where = f"{name} record {number}"
    try:
      content = next(records, None)
    except tf.errors.OpError as error:
      yield f"{name} from record {number} on ({_why(file, error)})"
      return
    if content is None:
      if offset < file.stat().st_size:
        yield f"{name} from record {number} on (cut off)"
      return
    content = content.numpy()
    try:
      features = tf.train.Example.FromString(content).features.feature
      image = _feature(features, _IMAGE_FEATURES)
    except Exception as error:  # what is no message shows as one of protobuf's errors
      yield f"{where} ({reason(error, 60)})"
    else:
      if image is None:
        yield f"{where} (no feature {' or '.join(_IMAGE_FEATURES)})"
      else:
        label = _feature(features, _LABEL_FEATURES)
        yield Entry(where, split, label, _Record(file, offset + 12, len(content)))  # type: ignore[arg-type]
    # A record is its length in 8 bytes, a checksum in 4, the content, and a checksum in 4.
    offset += 16 + len(content)


def _why(file: pathlib.Path, error: tf.errors.OpError) -> str:
  """What is wrong with a file of records, without the names of operations that TensorFlow puts before it."""
  with open(file, "rb") as opened:
    start = opened.read(2)
  if start == _GZIP or start in _ZLIB:
    return "compressed; unpack it first"
  return reason(ValueError(str(error.message).split("}} ")[-1].split(" [Op:")[0]), 60)


class _Record(NamedTuple):
  """Reads the picture of a record again."""

  file: pathlib.Path
  offset: int
  length: int

  def __call__(self) -> bytes:
    with open(self.file, "rb") as file:
      file.seek(self.offset)
      features = tf.train.Example.FromString(file.read(self.length)).features.feature
    return _feature(features, _IMAGE_FEATURES)  # type: ignore[return-value]


def _feature(features, names):
  """The first value of the first of the features that there is: bytes for pictures, text for labels."""
  for name in names:
    if name in features:
      feature = features[name]
      if feature.bytes_list.value:
        value = feature.bytes_list.value[0]
        return value if names is _IMAGE_FEATURES else value.decode("utf-8", "replace")
      if feature.int64_list.value and names is _LABEL_FEATURES:
        return str(feature.int64_list.value[0])
  return None
