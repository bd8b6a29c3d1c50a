"""TensorFlow's C++ SavedModel loader and session, through the C API and without Python's TensorFlow.

`Session` does what TensorFlow Serving does with a version directory: `LoadSavedModel`, then `Session::Run`. It uses the
shared libraries of the installed wheel and none of its Python, so a graph that needs Python fails here.

`Isolated` is a `Session` in a separate process, which never imports tensorflow:

    with Isolated("models/savae/1") as session:
      [mean] = session.run({"serving_default_x:0": x}, ["StatefulPartitionedCall:0"])

That process is `python -m tf_savae.serving.c_loader DIRECTORY`. It reads pickled (feeds, fetches) on standard input and
answers each with a pickled list of arrays, or with a `SessionError`. The pickles come only from its parent process.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tf_savae.literal_paths import LiteralPath

# TF_DataType ↔ NumPy, for what signatures here use; strings are object arrays of bytes.
_DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 9: np.int64, 10: np.bool_}
_ENUMS = {np.dtype(dtype): number for number, dtype in _DTYPES.items()}
_STRING = 7

# TF_TString, 24 bytes: the two lowest bits of the first say how the rest is to be read.
_TSTRING = 24
_SMALL, _OFFSET, _VIEW = 0, 2, 3


class SessionError(RuntimeError):
  """TensorFlow refused; `code` is its TF_Code (3: an invalid argument), the text its message."""

  def __init__(self, code: int, message: str):
    super().__init__(code, message)
    self.code = code

  def __str__(self):
    return self.args[1]


# An operation that TensorFlow Serving has and the wheel has not.
_SENTENCEPIECE = b"SentencepieceOp"


def sentencepiece_library() -> Path:
  """TensorFlow Text's library of the operations for SentencePiece; importing that package is not needed.

  Raises:
    SessionError: TensorFlow Text is not installed.
  """
  spec = importlib.util.find_spec("tensorflow_text")
  if spec is None or spec.origin is None:
    raise SessionError(5, "the export needs tensorflow_text: pip install 'tf_savae[text]'")
  return Path(spec.origin).parent / "python" / "ops" / "_sentencepiece_tokenizer.so"


class _Output(ctypes.Structure):
  _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


@functools.cache
def _library() -> ctypes.CDLL:
  # find_spec finds the package and does not run it.
  folder = Path(importlib.util.find_spec("tensorflow").origin).parent
  ctypes.CDLL(str(folder / "libtensorflow_framework.so.2"), mode=ctypes.RTLD_GLOBAL)
  library = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"), mode=ctypes.RTLD_GLOBAL)
  pointer, text, number, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
  outputs, pointers = ctypes.POINTER(_Output), ctypes.POINTER(pointer)
  prototypes: dict[str, tuple[Any, ...]] = {  # result, arguments
    "TF_NewStatus": (pointer,),
    "TF_GetCode": (number, pointer),
    "TF_Message": (text, pointer),
    "TF_NewGraph": (pointer,),
    "TF_LoadLibrary": (pointer, text, pointer),
    "TF_NewSessionOptions": (pointer,),
    "TF_SetConfig": (None, pointer, text, size, pointer),
    "TF_LoadSessionFromSavedModel": (
      *(pointer, pointer, pointer, text, ctypes.POINTER(text), number, pointer, pointer, pointer),
    ),
    "TF_GraphOperationByName": (pointer, pointer, text),
    "TF_AllocateTensor": (pointer, number, ctypes.POINTER(ctypes.c_int64), number, size),
    "TF_DeleteTensor": (None, pointer),
    "TF_TensorData": (pointer, pointer),
    "TF_TensorByteSize": (size, pointer),
    "TF_TensorType": (number, pointer),
    "TF_NumDims": (number, pointer),
    "TF_Dim": (ctypes.c_int64, pointer, number),
    "TF_SessionRun": (
      *(None, pointer, pointer, outputs, pointers, number, outputs, pointers, number),
      *(pointers, number, pointer, pointer),
    ),
    "TF_CloseSession": (None, pointer, pointer),
    "TF_DeleteSession": (None, pointer, pointer),
  }
  for name, (result, *arguments) in prototypes.items():
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
  return library


class Session:
  """A loaded SavedModel.

  Args:
    path: the version directory.
    threads: number of intra-op and of inter-op threads; None: one per core.

  Raises:
    SessionError: it cannot be loaded.
  """

  def __init__(self, path: str | os.PathLike, threads: int | None = None):
    library = _library()
    self._status, self._graph = library.TF_NewStatus(), library.TF_NewGraph()
    if _needs_sentencepiece(path):
      library.TF_LoadLibrary(os.fsencode(sentencepiece_library()), self._status)
      self._check()
    options = library.TF_NewSessionOptions()
    if threads is not None:
      # A serialised ConfigProto: intra_op_parallelism_threads is field 2, inter_op_parallelism_threads field 5.
      config = bytes([2 << 3, threads, 5 << 3, threads])
      library.TF_SetConfig(options, config, len(config), self._status)
      self._check()
    tags = (ctypes.c_char_p * 1)(b"serve")
    where = os.fsencode(path)
    self._session = library.TF_LoadSessionFromSavedModel(
      options, None, where, tags, 1, self._graph, None, self._status
    )
    self._check()

  def run(self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> list[np.ndarray]:
    """Values of the tensors `fetches` ("operation:0"), given those of `feeds`; may be called from several threads.

    Raises:
      SessionError: TensorFlow's own message, for instance of a wrong shape.
      KeyError: there is no such tensor in the graph.
      ValueError: an array of a dtype that no signature uses.
    """
    library, alive = _library(), []
    status = library.TF_NewStatus()
    inputs = (_Output * max(len(feeds), 1))(*map(self._output, feeds))
    values = (ctypes.c_void_p * max(len(feeds), 1))(*[_to_tensor(value, alive) for value in feeds.values()])
    outputs = (_Output * len(fetches))(*map(self._output, fetches))
    results = (ctypes.c_void_p * len(fetches))()
    try:
      library.TF_SessionRun(
        *(self._session, None, inputs, values, len(feeds)),
        *(outputs, results, len(fetches), None, 0, None, status),
      )
      self._check(status)
      return [_from_tensor(result) for result in results]
    finally:
      for tensor in (*values, *results):
        if tensor:
          library.TF_DeleteTensor(tensor)

  def close(self) -> None:
    """Frees the session."""
    library = _library()
    library.TF_CloseSession(self._session, self._status)
    library.TF_DeleteSession(self._session, self._status)

  def _output(self, name: str) -> _Output:
    operation, _, index = name.partition(":")
    found = _library().TF_GraphOperationByName(self._graph, operation.encode())
    if not found:
      raise KeyError(name)
    return _Output(found, int(index or 0))

  def _check(self, status: int | None = None) -> None:
    status = status or self._status
    code = _library().TF_GetCode(status)
    if code:
      raise SessionError(code, _library().TF_Message(status).decode(errors="replace"))


def _needs_sentencepiece(path: str | os.PathLike) -> bool:
  """Whether the name of the operation is in a SavedModel, which is not parsed for it."""
  try:
    return _SENTENCEPIECE in (Path(path) / "saved_model.pb").read_bytes()
  except OSError:
    return False  # the loader says what is wrong


def _to_tensor(array: np.ndarray, alive: list[Any]) -> int:
  """A TF_Tensor of `array`; what it points into is appended to `alive`."""
  library, array = _library(), np.asarray(array)
  if array.dtype == object:
    words = np.zeros([array.size, _TSTRING // 8], np.uint64)
    for row, item in zip(words, array.ravel(), strict=True):
      buffer = ctypes.create_string_buffer(item, max(len(item), 1))
      alive.append(buffer)
      row[:2] = (len(item) << 2) | _VIEW, ctypes.addressof(buffer)
    number, data = _STRING, words.tobytes()
  elif array.dtype in _ENUMS:
    number, data = _ENUMS[array.dtype], np.ascontiguousarray(array).tobytes()
  else:
    raise ValueError(
      f"an array must be one of {[d.__name__ for d in _DTYPES.values()]}. Received: {array.dtype}"
    )
  shape = (ctypes.c_int64 * max(array.ndim, 1))(*array.shape)
  tensor = library.TF_AllocateTensor(number, shape, array.ndim, len(data))
  if data:
    ctypes.memmove(library.TF_TensorData(tensor), data, len(data))
  return tensor


def _from_tensor(tensor: int) -> np.ndarray:
  library = _library()
  shape = [library.TF_Dim(tensor, i) for i in range(library.TF_NumDims(tensor))]
  start, size = library.TF_TensorData(tensor), library.TF_TensorByteSize(tensor)
  number = library.TF_TensorType(tensor)
  if number != _STRING:
    data = ctypes.string_at(start, size) if size else b""
    return np.frombuffer(data, _DTYPES[number]).reshape(shape).copy()
  items = np.empty(size // _TSTRING, object)
  items[:] = [_string(start + i * _TSTRING) for i in range(len(items))]
  return items.reshape(shape)


def _string(address: int) -> bytes:
  raw = ctypes.string_at(address, _TSTRING)
  kind = raw[0] & 3
  if kind == _SMALL:
    return raw[1 : 1 + (raw[0] >> 2)]
  if kind == _OFFSET:
    size, offset = np.frombuffer(raw, np.uint32, 2)
    return ctypes.string_at(address + int(offset), int(size) >> 2)
  size = int.from_bytes(raw[:8], "little") >> 2
  at = 8 if kind == _VIEW else 16  # a large one has its capacity between
  return ctypes.string_at(int.from_bytes(raw[at : at + 8], "little"), size)


class Isolated:
  """A `Session` in a process without tensorflow. A context manager; see the top of this file.

  Args:
    path: the version directory.
    threads: as of `Session`.

  Raises:
    SessionError: it cannot be loaded.
  """

  def __init__(self, path: str | os.PathLike, threads: int | None = None):
    self._literal = LiteralPath(path)
    command = [
      sys.executable,
      "-m",
      "tf_savae.serving.c_loader",
      os.fspath(self._literal.path),
      *([str(threads)] if threads else []),
    ]
    root = Path(__file__).resolve().parents[2]
    python_path = os.pathsep.join([str(root), *filter(None, sys.path)])
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "PYTHONPATH": python_path}
    self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
    pipe = subprocess.PIPE
    self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, env=environment)
    try:
      self._answer()
    except BaseException:
      self.close()
      raise

  def run(self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> list[np.ndarray]:
    """As `Session.run`."""
    with contextlib.suppress(BrokenPipeError):  # the answer says why
      pickle.dump((dict(feeds), list(fetches)), self._process.stdin)
      self._process.stdin.flush()
    return self._answer()

  def _answer(self) -> Any:
    try:
      answer = pickle.load(self._process.stdout)
    except EOFError:
      self._process.wait()
      self._errors.seek(0)
      lines = self._errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
      raise SessionError(
        2, f"the process ended with status {self._process.returncode}: {lines[-1]}"
      ) from None
    if isinstance(answer, Exception):
      raise answer
    return answer

  def close(self) -> None:
    """Ends the process."""
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()
    self._process.stdout.close()
    try:
      self._process.wait(timeout=10)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    self._errors.close()

  def __enter__(self) -> Isolated:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def _serve(path: str, threads: int | None) -> None:
  requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
  os.dup2(2, 1)  # whatever else writes to standard output must not get among the answers

  def answer(value: Any) -> None:
    pickle.dump(value, answers)
    answers.flush()

  try:
    session = Session(path, threads)
  except SessionError as error:
    return answer(error)
  answer("ready")
  while True:
    try:
      feeds, fetches = pickle.load(requests)
    except EOFError:
      return None
    try:
      result: Any = session.run(feeds, fetches)
    except (SessionError, KeyError, ValueError) as error:
      result = error
    if "tensorflow" in sys.modules:
      result = RuntimeError("tensorflow was imported")
    answer(result)


if __name__ == "__main__":
  from tf_savae.serving import (
    c_loader as c_loader,  # not __main__, so that the parent knows the classes that are pickled
  )

  c_loader._serve(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
