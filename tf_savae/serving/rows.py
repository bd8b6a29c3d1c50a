"""Observations from files, in any of the forms that a model is served in: pictures, arrays, documents."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from tf_savae.data import text_files
from tf_savae.errors import UserError, reason
from tf_savae.serving.payloads import Payloads

PICTURES = (".png", ".jpg", ".jpeg")
ARRAYS = (".npy", ".npz")
_ARRAY_NAMES = ("x", "images", "data")
_IMAGE, _SENTENCE = "image_bytes", "sentence"  # names of inputs


class Row(NamedTuple):
  """One observation.

  Attributes:
    name: of its file, with its place there: the line, from 1, of a document, or the row, from 0, of an array.
    suffix: the form that it has, a key of `Payloads.inputs`.
    read: returns it as that form's input takes it, without the batch: a value, or one for each tensor by name.
  """

  name: str
  suffix: str
  read: Callable[[], Any]


def of_files(
  files: Sequence[str | os.PathLike[str]],
  form: Payloads,
  text_column: str | None = None,
  label: int | None = None,
) -> Iterator[Row]:
  """The rows of files, in order; folders and zips are searched for pictures, sorted by name.

  Args:
    files: Pictures, or folders or zips of them, for a model of images. Text files with one document per line for a
      model of text. .npy and .npz arrays of x for any model.
    form: how the model's observations are sent.
    text_column: of the documents in .csv and .tsv files; see `tf_savae.data.text_columns`.
    label: of all rows, for a conditional model; None: .npz files have one for each row, under the label's name.

  Raises:
    UserError: a file is missing, is damaged, or is not what the model takes.
  """
  if form.condition is None and label is not None:
    raise UserError(f"the model is given no label; received --label={label}; leave it out")
  found = _of_files(files, form, text_column)
  return found if form.condition is None else _labelled(found, form, label)


def _labelled(found: Iterator[Row], form: Payloads, label: int | None) -> Iterator[Row]:
  [name] = form.condition.specs  # type: ignore[union-attr] # not None

  def whole(row: Row) -> dict[str, Any]:
    value = row.read()
    if not isinstance(value, dict):  # a picture
      value = {next(iter(form.inputs[row.suffix].specs)): value}
    if label is not None:
      value = {**value, name: label}
    if name not in value:
      raise UserError(f"the model is given a {name}; received {row.name} without one; give --label")
    return value

  for row in found:
    yield row._replace(read=lambda row=row: whole(row))


def _of_files(
  files: Sequence[str | os.PathLike[str]], form: Payloads, text_column: str | None
) -> Iterator[Row]:
  by_name = {next(iter(given.specs)): suffix for suffix, given in form.inputs.items()}
  for file in map(Path, files):
    if not file.exists():
      raise UserError(f"{file} does not exist; name files that do")
    suffix = file.suffix.lower()
    if suffix in ARRAYS:
      yield from _of_array(file, form)
    elif _IMAGE in by_name and (file.is_dir() or suffix == ".zip"):
      yield from _of_many(file, by_name[_IMAGE])
    elif _IMAGE in by_name and suffix in PICTURES:
      yield _picture(str(file), file.read_bytes, by_name[_IMAGE])
    elif _SENTENCE in by_name and suffix not in PICTURES and file.is_file():
      yield from _of_lines(file, by_name[_SENTENCE], text_column)
    else:
      takes = ["PNG or JPEG files, folders or zips of them"] if _IMAGE in by_name else []
      takes += ["text files with one document per line"] if _SENTENCE in by_name else []
      raise UserError(f"the model takes {', '.join([*takes, '.npy or .npz arrays'])}; received {file}")


def _picture(name: str, read: Callable[[], bytes], suffix: str) -> Row:
  return Row(name, suffix, lambda: _as_png(name, read))


def _as_png(name: str, read: Callable[[], bytes]) -> bytes:
  """The content of a PNG file as it is; that of a JPEG file as PNG, turned as its camera says."""
  try:
    content = read()
    if not name.lower().endswith(".png"):
      image = ImageOps.exif_transpose(Image.open(io.BytesIO(content), formats=["JPEG"]))
      out = io.BytesIO()
      image.convert("L" if image.mode == "L" else "RGB").save(out, "PNG")
      content = out.getvalue()
  except Exception as error:  # damage shows as a zip, zlib, Pillow, struct or operating-system error
    raise UserError(f"{name} cannot be read: {reason(error)}; repair it or leave it out") from error
  return content


def _of_many(path: Path, suffix: str) -> Iterator[Row]:
  if path.is_dir():
    found = {str(file): file.read_bytes for file in path.rglob("*") if file.is_file()}
  else:
    try:
      archive = zipfile.ZipFile(path)
    except Exception as error:  # a damaged directory of members shows in many ways
      raise UserError(f"{path} cannot be read as a zip: {reason(error)}; replace it") from error
    members = [info for info in archive.infolist() if not info.is_dir()]
    found = {f"{path}/{info.filename}": lambda info=info: archive.read(info) for info in members}
  names = sorted(name for name in found if _is_picture(Path(name[len(str(path)) + 1 :])))
  if not names:
    raise UserError(f"{path} has no PNG or JPEG files; name a folder or zip that has some")
  for name in names:
    yield _picture(name, found[name], suffix)


def _is_picture(path: Path) -> bool:
  is_hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
  return path.suffix.lower() in PICTURES and not is_hidden


def _of_lines(path: Path, suffix: str, column: str | None) -> Iterator[Row]:
  for number, text in text_files.numbered(path, column):
    yield Row(f"{path}:{number}", suffix, lambda text=text: text.encode())


def _of_array(path: Path, form: Payloads) -> Iterator[Row]:
  names = list(form.x.specs)
  array, others = _load(path, names)
  for number, row in enumerate(_rows_of(path, array, form.x.specs[names[0]])):
    rest = {name: values[number] for name, values in others.items() if number < len(values)}
    whole = {names[0]: row, **rest} if len(names) > 1 else row
    yield Row(f"{path}:{number}", form.plain, lambda whole=whole: whole)


def _load(path: Path, inputs: Sequence[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """The observations in a file and, under the names of further inputs, what an .npz has of these."""
  main, *others = inputs
  try:
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    if not hasattr(found, "files"):
      return found, {}
    with found:
      rest = {name: np.atleast_1d(found[name]) for name in others if name in found.files}
      possible = (main, *_ARRAY_NAMES)
      names = [name for name in possible if name in found.files] or [n for n in found.files if n not in rest]
      if len(names) == 1 or (names and names[0] in possible):
        return found[names[0]], rest
  except Exception as error:  # damage shows as a zip, zlib, NumPy or operating-system error
    raise UserError(f"{path} cannot be read as a NumPy file: {reason(error)}; replace it") from error
  raise UserError(f"{path} has several arrays; call one of them x. Received: {', '.join(names) or 'none'}")


def _rows_of(path: Path, array: np.ndarray, spec: Any) -> np.ndarray:
  """An array as rows of an input's spec; one row, and images without their one channel, are accepted."""
  wanted, dtype = tuple(spec.shape[1:]), spec.dtype.as_numpy_dtype
  if not np.can_cast(array.dtype, dtype, "same_kind") or array.dtype.kind not in "biuf":
    raise UserError(f"{path} must hold {np.dtype(dtype).name}; received {array.dtype}")
  if _fits(array.shape, wanted):
    return array[np.newaxis]
  if _fits(array.shape[1:], wanted):
    return array
  if wanted and wanted[-1] == 1 and _fits(array.shape[1:], wanted[:-1]):
    return array[..., np.newaxis]
  shape = ", ".join("length" if size is None else str(size) for size in wanted)
  raise UserError(f"{path} must have the shape [{shape}] or [n, {shape}]; received {list(array.shape)}")


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
  return len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True))
