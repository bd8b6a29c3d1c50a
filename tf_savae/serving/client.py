"""The client's part of serving: makes a signature's input from files or sentences, and writes its answer."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tf_savae import masks
from tf_savae.atomic_files import writing
from tf_savae.data.text_lines import without_mark
from tf_savae.errors import UserError, reason
from tf_savae.serving import remote, transport

# Inputs beside the observation, by the flags of the same names.
BESIDE = ("label", "mask", "seed")


def batches(
  server: transport.Server,
  signature: str,
  arguments: Sequence[str],
  size: int,
  beside: Mapping[str, Any] | None = None,
) -> tuple[str, Iterator[remote.Batch]]:
  """The signature to ask and its inputs, which are read as they are needed.

  Args:
    server: that has the signature.
    signature: PNG files that are given to one of arrays go to its `_png` twin.
    arguments: PNG or .npy files, or sentences; without any, lines of standard input are the sentences.
    size: rows of a batch.
    beside: what goes beside each row, by the names in `BESIDE`. The label is a number, and the mask is as for
      `masks.read`. The seed is that of the first row; the next row has the next.

  Raises:
    UserError: an argument cannot be read, or the signature cannot take it.
  """
  beside = dict(beside or {})
  main, others = _inputs(server, signature, beside)
  key, info = main
  if not others:
    return _of_one(server, signature, key, info, arguments, size)
  signature, found = _of_one(server, signature, key, info, arguments, size)
  [main_key] = server.signature(signature).inputs.keys() - others.keys()
  made = {name: _beside(name, beside[name], wanted) for name, wanted in others.items()}

  def together() -> Iterator[remote.Batch]:
    first = 0
    for batch in found:
      yield {main_key: batch, **{name: make(first, len(batch)) for name, make in made.items()}}
      first += len(batch)

  return signature, together()


def _inputs(
  server: transport.Server, signature: str, beside: Mapping[str, Any]
) -> tuple[tuple[str, transport.TensorInfo], dict[str, transport.TensorInfo]]:
  """The input that the arguments are for, and the others by name."""
  inputs = dict(server.signature(signature).inputs)
  others = {name: inputs.pop(name) for name in BESIDE if name in inputs and len(inputs) > 1}
  if len(inputs) > 1:
    raise UserError(f"signature {signature!r} takes {', '.join(inputs)}; this client sends one of them")
  wanting = [name for name in others if beside.get(name) is None]
  if wanting:
    raise UserError(f"signature {signature!r} takes a {wanting[0]}, too; give --{wanting[0]}")
  useless = [name for name, value in beside.items() if value is not None and name not in others]
  if useless:
    raise UserError(f"signature {signature!r} takes no {useless[0]}; leave --{useless[0]} out")
  return next(iter(inputs.items())), others


def _beside(name: str, value: Any, wanted: transport.TensorInfo) -> Callable[[int, int], np.ndarray]:
  """The function of the first row's number and of the rows in a batch that gives what goes beside them."""
  if name == "seed":
    return lambda first, rows: np.arange(value + first, value + first + rows, dtype=np.int32)
  if name == "label":
    return lambda first, rows: np.full([rows], value, np.int32)
  mask = masks.read(value, wanted.shape[1:])
  if mask.ndim < len(wanted.shape):
    return lambda first, rows: np.repeat(mask[np.newaxis], rows, axis=0)
  return lambda first, rows: mask[first : first + rows]


def _of_one(
  server: transport.Server,
  signature: str,
  key: str,
  info: transport.TensorInfo,
  arguments: Sequence[str],
  size: int,
) -> tuple[str, Iterator[np.ndarray]]:
  """The signature to ask and its input `key`, that the arguments are for."""
  if info.dtype == np.object_ and key != "image_bytes":
    return signature, _of_strings(_sentences(arguments), size)
  if not arguments:
    raise UserError(f"no files; signature {signature!r} takes PNG or .npy files")
  kinds = {Path(name).suffix.lower() for name in arguments}
  if kinds == {".png"}:
    if key != "image_bytes":
      signature = _png_twin(server, signature)
    return signature, _of_strings(map(remote.read, arguments), size)
  if kinds == {".npy"} and key != "image_bytes":
    rows = [_rows(name, info) for name in arguments]
    if len({row.shape[1:] for row in rows}) > 1:
      raise UserError(f"the arrays' rows must have one shape; pad them. Received: {', '.join(arguments)}")
    return signature, _of_arrays(rows, size)
  takes = "PNG files" if key == "image_bytes" else "either PNG or .npy files"
  raise UserError(f"signature {signature!r} takes {takes}; received {', '.join(arguments)}")


def _sentences(arguments: Sequence[str]) -> Iterator[bytes]:
  # Bytes, whatever the terminal's encoding: what is no UTF-8 is the model's to read.
  if arguments:
    lines = map(os.fsencode, arguments)
  else:
    lines = (line for part in sys.stdin.buffer for line in part.splitlines())
  return map(without_mark, lines)


def _of_strings(strings: Iterable[bytes], size: int) -> Iterator[np.ndarray]:
  strings = iter(strings)
  is_first = True
  while batch := list(itertools.islice(strings, size)):
    yield np.array(batch, object)
    is_first = False
  if is_first:
    yield np.array([], object)  # whose error says that there is nothing


def _of_arrays(arrays: Sequence[np.ndarray], size: int) -> Iterator[np.ndarray]:
  """Rows of arrays that follow each other, which may be on disk; a batch can have rows of several."""
  rows = (row for array in arrays for row in array)
  is_first = True
  while batch := list(itertools.islice(rows, size)):
    yield np.stack(batch)
    is_first = False
  if is_first:
    yield arrays[0]


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


def texts(answers: Iterable[Mapping[str, np.ndarray]], form: str) -> Iterator[str]:
  """Answers to batches as texts that together are one "json", "jsonl" or "csv".

  "jsonl", an object per row, and "csv" are handed out batch by batch; "json" is one object, once all are there.
  """
  if form == "json":
    yield as_text(_joined(answers), form)
    return
  for number, answer in enumerate(answers):
    if form == "csv":
      head, _, lines = as_text(answer, form).partition("\n")
      yield lines if number else f"{head}\n{lines}"
    else:
      columns = [_plain(value) for value in answer.values()]
      rows = (dict(zip(answer, row, strict=True)) for row in zip(*columns, strict=True))
      yield "".join(json.dumps(row) + "\n" for row in rows)


def write(answers: Iterable[Mapping[str, np.ndarray]], form: str, path: str | os.PathLike) -> None:
  """Writes answers to a file as "json", "jsonl", "csv" or "npz"; it is replaced once all are there.

  Raises:
    UserError: it cannot be written, or there is no answer. The old file then stays.
  """
  with writing(path, f"--output={path}") as new:
    if form == "npz":
      with open(new, "wb") as file:
        # Of strings, arrays that are no pickles.
        arrays = _joined(answers)
        np.savez(file, **{k: np.array(_plain(v)) if v.dtype == object else v for k, v in arrays.items()})
    else:
      with open(new, "w", encoding="utf-8", newline="") as file:
        file.writelines(texts(answers, form))


def _joined(answers: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
  parts = list(answers)
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _plain(value: np.ndarray) -> list:
  # The shortest digits that identify a float32: 0.1 and not 0.10000000149011612.
  if value.dtype == np.float32:
    return np.vectorize(lambda number: float(str(number)), otypes=[float])(value).tolist()
  if value.dtype == object:
    return np.vectorize(lambda data: data.decode() if isinstance(data, bytes) else data, otypes=[object])(
      value
    ).tolist()
  return value.tolist()


def _rows(name: str, info: transport.TensorInfo) -> np.ndarray:
  try:
    array = np.load(name, mmap_mode="r", allow_pickle=False)
  except OSError as error:
    raise UserError(f"cannot read {name}: {reason(error)}") from error
  except (ValueError, EOFError) as error:
    raise UserError(f"{name} is no .npy array: {reason(error)}") from error
  row = transport.fits(array.shape, info.shape[1:])
  if not row and not transport.fits(array.shape[1:], info.shape[1:]):
    expected = ", ".join("length" if size is None else str(size) for size in info.shape[1:])
    raise UserError(
      f"{name} must have the shape [{expected}] or [batch, {expected}]; received {list(array.shape)}"
    )
  return array[np.newaxis] if row else array
