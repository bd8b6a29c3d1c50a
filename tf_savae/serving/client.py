"""The client's part of serving: makes a signature's input from files or sentences, and writes its answer."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tf_savae.data.text_lines import without_mark
from tf_savae.errors import UserError, reason
from tf_savae.serving import transport


def inputs(server: transport.Server, signature: str, arguments: Sequence[str]) -> tuple[str, np.ndarray]:
  """The signature to ask and its input.

  Args:
    server: that has the signature.
    signature: PNG files that are given to one of arrays go to its `_png` twin.
    arguments: PNG or .npy files, or sentences; without any, lines of standard input are the sentences.

  Raises:
    UserError: an argument cannot be read, or the signature cannot take it.
  """
  [(key, info)] = server.signature(signature).inputs.items()
  if info.dtype == np.object_ and key != "image_bytes":
    # Bytes, whatever the terminal's encoding: what is no UTF-8 is the model's to read.
    lines = [os.fsencode(line) for line in arguments] or sys.stdin.buffer.read().splitlines()
    return signature, np.array([without_mark(line) for line in lines], object)
  if not arguments:
    raise UserError(f"no files; signature {signature!r} takes PNG or .npy files")
  kinds = {Path(name).suffix.lower() for name in arguments}
  if kinds == {".png"}:
    if key != "image_bytes":
      signature = _png_twin(server, signature)
    return signature, np.array([_read(name) for name in arguments], object)
  if kinds == {".npy"} and key != "image_bytes":
    rows = [_rows(name, info) for name in arguments]
    if len({row.shape[1:] for row in rows}) > 1:
      raise UserError(f"the arrays' rows must have one shape; pad them. Received: {', '.join(arguments)}")
    return signature, np.concatenate(rows)
  takes = "PNG files" if key == "image_bytes" else "either PNG or .npy files"
  raise UserError(f"signature {signature!r} takes {takes}; received {', '.join(arguments)}")


def _png_twin(server: transport.Server, signature: str) -> str:
  twin = f"{signature}_png"
  if twin not in server.signatures:
    able = [name.removesuffix("_png") for name in sorted(server.signatures) if name.endswith("_png")]
    hint = f"name one of {', '.join(able)} with --signature" if able else "the model takes arrays only"
    raise UserError(f"signature {signature!r} takes no PNG files; {hint}")
  return twin


def as_text(answer: Mapping[str, np.ndarray], form: str) -> str:
  """An answer as JSON (an object of outputs) or CSV (one line per row, one column per number)."""
  if form == "json":
    return json.dumps({name: _plain(value) for name, value in answer.items()}) + "\n"
  columns = {}
  for name, value in answer.items():
    flat = np.reshape(value, [len(value), -1])
    single = value.ndim == 1
    columns |= {name if single else f"{name}_{i}": _plain(flat[:, i]) for i in range(flat.shape[1])}
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(columns)
  writer.writerows(zip(*columns.values(), strict=True))
  return text.getvalue()


def write(answer: Mapping[str, np.ndarray], form: str, path: str | os.PathLike) -> None:
  """Writes an answer to a file as "json", "csv" or "npz". Raises UserError if it cannot be written."""
  try:
    if form == "npz":
      with open(path, "wb") as file:
        # Of strings, arrays that are no pickles.
        np.savez(file, **{k: np.array(_plain(v)) if v.dtype == object else v for k, v in answer.items()})
    else:
      Path(path).write_text(as_text(answer, form), encoding="utf-8")
  except OSError as error:
    raise UserError(f"cannot write --output={path}: {reason(error)}") from error


def _plain(value: np.ndarray) -> list:
  # The shortest digits that identify a float32: 0.1 and not 0.10000000149011612.
  if value.dtype == np.float32:
    return np.vectorize(lambda number: float(str(number)), otypes=[float])(value).tolist()
  if value.dtype == object:
    return np.vectorize(lambda data: data.decode() if isinstance(data, bytes) else data, otypes=[object])(
      value
    ).tolist()
  return value.tolist()


def _read(name: str) -> bytes:
  try:
    return Path(name).read_bytes()
  except OSError as error:
    raise UserError(f"cannot read {name}: {reason(error)}") from error


def _rows(name: str, info: transport.TensorInfo) -> np.ndarray:
  try:
    array = np.load(io.BytesIO(_read(name)), allow_pickle=False)
  except (ValueError, EOFError) as error:
    raise UserError(f"{name} is no .npy array: {reason(error)}") from error
  row = transport.fits(array.shape, info.shape[1:])
  if not row and not transport.fits(array.shape[1:], info.shape[1:]):
    expected = ", ".join("length" if size is None else str(size) for size in info.shape[1:])
    raise UserError(
      f"{name} must have the shape [{expected}] or [batch, {expected}]; received {list(array.shape)}"
    )
  return array[np.newaxis] if row else array
