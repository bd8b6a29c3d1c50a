"""A model on a server: its signatures and its answers, whatever the protocol; see `transport`."""

from __future__ import annotations

import abc
import dataclasses
import functools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tf_savae.errors import UserError, reason

FIRST_PAUSE = 0.2  # seconds
SIDES = ("inputs", "outputs")
INTERNAL = "__saved_model_"  # a server lists what initialises a model among its signatures
DTYPES = {"DT_FLOAT": np.float32, "DT_INT32": np.int32, "DT_INT64": np.int64, "DT_STRING": np.object_}
_NODES = re.compile(r"\[\[\{\{(function_)?node .*?\}\}\]\]")


@dataclasses.dataclass(frozen=True)
class Connection:
  """How a model is reached.

  Attributes:
    address: of the server.
    model: its name.
    version: a number or a label; None: the server's choice, its newest.
    timeout: seconds for each attempt.
    retries: attempts after the first.
    headers: names and values that go with every request, such as an authorization.
    ca_file: certificates of the authorities that are trusted, PEM; None: the system's.
  """

  address: str
  model: str
  version: str | None = None
  timeout: float = 30.0
  retries: int = 3
  headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
  ca_file: str | None = None

  @property
  def version_number(self) -> int | None:
    """The version if it is a number."""
    is_number = self.version is not None and self.version.isascii() and self.version.isdigit()
    return int(self.version) if is_number else None  # type: ignore[arg-type] # not None


@dataclasses.dataclass(frozen=True)
class TensorInfo:
  """A server's description of an input or output: NumPy dtype, and shape with None for a free dimension."""

  dtype: Any
  shape: tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class SignatureInfo:
  """A server's description of a signature."""

  inputs: dict[str, TensorInfo]
  outputs: dict[str, TensorInfo]


# The one input of a signature, or all of them by name.
Batch = np.ndarray | Mapping[str, np.ndarray]


class Passing(Exception):
  """A failure that may be temporary; the text says what it was."""


def fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
  """Whether an array of `shape` is what a server wants, whose free dimensions are None."""
  return len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True))


class Server(abc.ABC):
  """One model on one server; a context manager. See `connect`."""

  def __init__(self, connection: Connection):
    self.connection, self.address, self.model = connection, connection.address, connection.model

  @functools.cached_property
  def signatures(self) -> dict[str, SignatureInfo]:
    """The model's signatures. Raises UserError if the server is down or does not know the model."""
    return self._retrying(self._metadata)

  def signature(self, name: str) -> SignatureInfo:
    """One signature. Raises UserError if there is none of that name."""
    if name not in self.signatures:
      known = ", ".join(sorted(self.signatures))
      raise UserError(f"model {self.model!r} has no signature {name!r}; it has {known}")
    return self.signatures[name]

  def predict(self, signature: str, batch: Batch) -> dict[str, np.ndarray]:
    """The outputs of a signature.

    Args:
      signature: its name.
      batch: its one input, batched on dimension 0, for strings an object array of bytes; or all inputs by name.

    Raises:
      UserError: the batch does not fit, or the server does not answer, or refuses.
    """
    info = self.signature(signature)
    batches = dict(batch) if isinstance(batch, Mapping) else dict.fromkeys(info.inputs, batch)
    if batches.keys() != info.inputs.keys() or (len(batches) > 1 and not isinstance(batch, Mapping)):
      received = ", ".join(sorted(batches)) if isinstance(batch, Mapping) else "one array"
      raise UserError(f"signature {signature!r} takes {', '.join(sorted(info.inputs))}; received {received}")
    for key, wanted in info.inputs.items():
      batches[key] = self._checked(signature, key, wanted, np.asarray(batches[key]))
    if len(sizes := {len(value) for value in batches.values()}) > 1:
      raise UserError(f"the inputs of {signature} must have the same rows; received {sorted(sizes)}")
    try:
      answer = self._retrying(lambda: self._predict(signature, batches, info))
    except UserError as error:
      if "batch size" in str(error):
        raise UserError(f"{error}; make --batch_size smaller than {sizes.pop()}") from error
      raise
    if answer.keys() != info.outputs.keys():
      raise UserError(f"{self.address} answered with {sorted(answer)}; expected {sorted(info.outputs)}")
    return {name: answer[name] for name in sorted(answer)}

  def _checked(self, signature: str, key: str, wanted: TensorInfo, batch: np.ndarray) -> np.ndarray:
    is_text = np.object_ in (batch.dtype, wanted.dtype)
    if batch.dtype != wanted.dtype and (is_text or not np.can_cast(batch.dtype, wanted.dtype, "same_kind")):
      takes, received = (_name(dtype) for dtype in (wanted.dtype, batch.dtype))
      raise UserError(f"input {key} of {signature} takes {takes}; received {received}")
    if not fits(batch.shape, wanted.shape):
      shape = ", ".join("batch" if size is None else str(size) for size in wanted.shape)
      raise UserError(
        f"input {key} of {signature} must have the shape [{shape}]; received {list(batch.shape)}"
      )
    if not len(batch):
      raise UserError(f"input {key} of {signature} is empty; give at least one row")
    return batch.astype(wanted.dtype)

  def stream(self, signature: str, batches: Iterable[Batch]) -> Iterator[dict[str, np.ndarray]]:
    """The answers to batches, one after the other, each as soon as it is there; errors as of `predict`."""
    for batch in batches:
      yield self.predict(signature, batch)

  def _retrying(self, call: Callable[[], Any]) -> Any:
    for attempt in range(self.connection.retries + 1):
      try:
        return call()
      except Passing as error:
        if attempt == self.connection.retries:
          times = f" ({attempt + 1} attempts)" if attempt else ""
          raise UserError(
            f"{self.address}: {error}{times}; is the server up, and is it this --url?"
          ) from error
        time.sleep(FIRST_PAUSE * 2**attempt)
    raise AssertionError("a loop of at least one attempt returns or raises")

  def unknown(self, why: str) -> UserError:
    version = "" if self.connection.version is None else f", version {self.connection.version!r}"
    return UserError(f"{self.address} does not serve model {self.model!r}{version}: {why}")

  @abc.abstractmethod
  def _metadata(self) -> dict[str, SignatureInfo]: ...

  @abc.abstractmethod
  def _predict(
    self, signature: str, batches: Mapping[str, np.ndarray], info: SignatureInfo
  ) -> dict[str, np.ndarray]: ...

  @abc.abstractmethod
  def close(self) -> None:
    """Closes the connection."""

  def __enter__(self) -> Server:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def _name(dtype: Any) -> str:
  return "strings" if dtype == np.object_ else str(np.dtype(dtype))


def read(path: str) -> bytes:
  """The content of a file; raises UserError where it cannot be read."""
  try:
    return Path(path).read_bytes()
  except OSError as error:
    raise UserError(f"cannot read {path}: {reason(error)}") from error


def is_tls_error(message: str) -> bool:
  """Whether a failure to connect is one of encryption, so that trying again is no use."""
  return any(word in message.lower() for word in ("ssl", "certificate", "tls handshake"))


def said(message: str) -> str:
  """What a server says, on one line, without the names of nodes of a graph that TensorFlow puts after it."""
  return " ".join(_NODES.sub("", message).split())[:300]


def tls_reason(message: str) -> str:
  """What is wrong with the encryption, and what to do."""
  if "verif" in message.lower() or "certificate" in message.lower():
    return "the server's certificate is not trusted; give its authority's file with --ca_file"
  return f"{reason(ValueError(message))}; does the server speak TLS on this port?"
