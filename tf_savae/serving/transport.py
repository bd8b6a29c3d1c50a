"""Talking to TensorFlow Serving: REST for `http(s)://host:8501`, gRPC for `grpc://host:8500`.

    with connect("http://localhost:8501", "savae") as server:
      answer = server.predict("encode_refined", images)  # {"mean": [n, latent], …}

Every failure is a UserError of one line. Failures that may be temporary (no connection, an overloaded server, a
time-out) are retried after a pause that doubles each time.
"""

from __future__ import annotations

import abc
import base64
import dataclasses
import functools
import json
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

import numpy as np

from tf_savae import startup
from tf_savae.errors import UserError

_FIRST_PAUSE = 0.2  # seconds
_MAX_MESSAGE = 1 << 28  # bytes of a gRPC message: images are larger than its default of 4 MB
_SIDES = ("inputs", "outputs")
_INTERNAL = "__saved_model_"  # a server lists what initialises a model among its signatures
_DTYPES = {"DT_FLOAT": np.float32, "DT_INT32": np.int32, "DT_INT64": np.int64, "DT_STRING": np.object_}


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


class _Passing(Exception):
  """A failure that may be temporary; the text says what it was."""


def fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
  """Whether an array of `shape` is what a server wants, whose free dimensions are None."""
  return len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True))


class Server(abc.ABC):
  """One model on one server; a context manager. See `connect`."""

  def __init__(self, address: str, model: str, version: str | None, timeout: float, retries: int):
    self.address, self.model, self._version = address, model, version
    self._timeout, self._retries = timeout, retries

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

  def predict(self, signature: str, batch: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of a signature of one input.

    Args:
      signature: its name.
      batch: the input, batched on dimension 0; for strings an object array of bytes.

    Raises:
      UserError: the batch does not fit, or the server does not answer, or refuses.
    """
    info = self.signature(signature)
    [(key, wanted)] = info.inputs.items()
    batch = np.asarray(batch)
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
    answer = self._retrying(lambda: self._predict(signature, key, batch.astype(wanted.dtype), info))
    if answer.keys() != info.outputs.keys():
      raise UserError(f"{self.address} answered with {sorted(answer)}; expected {sorted(info.outputs)}")
    return {name: answer[name] for name in sorted(answer)}

  def _retrying(self, call: Callable[[], Any]) -> Any:
    for attempt in range(self._retries + 1):
      try:
        return call()
      except _Passing as error:
        if attempt == self._retries:
          times = f" ({attempt + 1} attempts)" if attempt else ""
          raise UserError(
            f"{self.address}: {error}{times}; is the server up, and is it this --url?"
          ) from error
        time.sleep(_FIRST_PAUSE * 2**attempt)
    raise AssertionError("a loop of at least one attempt returns or raises")

  def _unknown(self, why: str) -> UserError:
    version = "" if self._version is None else f", version {self._version!r}"
    return UserError(f"{self.address} does not serve model {self.model!r}{version}: {why}")

  @abc.abstractmethod
  def _metadata(self) -> dict[str, SignatureInfo]: ...

  @abc.abstractmethod
  def _predict(
    self, signature: str, key: str, batch: np.ndarray, info: SignatureInfo
  ) -> dict[str, np.ndarray]: ...

  @abc.abstractmethod
  def close(self) -> None:
    """Closes the connection."""

  def __enter__(self) -> Server:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def connect(
  url: str,
  model: str,
  *,
  version: str | None = None,
  timeout: float = 30.0,
  retries: int = 3,
  by_row: bool = False,
) -> Server:
  """A model on a server; nothing is sent yet.

  Args:
    url: `http://host:port` or `https://…` for REST, `grpc://host:port` for gRPC (without encryption).
    model: its name.
    version: a number or a label; default: the server's choice, its newest.
    timeout: seconds for each attempt.
    retries: attempts after the first.
    by_row: REST only: JSON's row format instead of its column format.

  Raises:
    UserError: the URL is none of these.
  """
  parts = urllib.parse.urlsplit(url)
  if parts.scheme not in ("http", "https", "grpc") or not parts.netloc:
    raise UserError(
      f"--url must be http://host:port, https://host:port or grpc://host:port; received {url!r}"
    )
  if parts.scheme == "grpc":
    return _Grpc(parts.netloc, model, version, timeout, retries)
  return _Rest(url.rstrip("/"), model, version, timeout, retries, by_row)


class _Rest(Server):
  def __init__(self, address, model, version, timeout, retries, by_row):
    super().__init__(address, model, version, timeout, retries)
    import requests

    self._session, self._by_row = requests.Session(), by_row
    kind = "versions" if (version or "").isdigit() else "labels"
    self._path = f"{address}/v1/models/{urllib.parse.quote(model)}" + (
      f"/{kind}/{version}" if version else ""
    )

  def _metadata(self):
    answer = self._request("GET", f"{self._path}/metadata")
    try:
      found = answer["metadata"]["signature_def"]["signature_def"]
      return {
        name: SignatureInfo(
          *({k: _from_json(t) for k, t in definition.get(side, {}).items()} for side in _SIDES)
        )
        for name, definition in found.items()
        if not name.startswith(_INTERNAL)
      }
    except (KeyError, TypeError, AttributeError) as error:
      raise UserError(f"{self.address} is no TensorFlow Serving: its metadata lack {error}") from error

  def _predict(self, signature, key, batch, info):
    rows = [_to_json(row) for row in batch]
    body = {"instances": [{key: row} for row in rows]} if self._by_row else {"inputs": {key: rows}}
    answer = self._request("POST", f"{self._path}:predict", {"signature_name": signature, **body})
    values = answer.get("predictions" if self._by_row else "outputs")
    if self._by_row and values and isinstance(values[0], dict):
      values = {name: [row[name] for row in values] for name in values[0]}
    if not isinstance(values, dict):  # a single output comes without its name
      values = dict.fromkeys(info.outputs, values)
    return {k: _to_array(v, info.outputs[k].dtype) for k, v in values.items() if k in info.outputs}

  def _request(self, verb, url, body=None):
    import requests

    try:
      response = self._session.request(verb, url, json=body, timeout=self._timeout)
    except requests.Timeout as error:
      raise _Passing(f"no answer within {self._timeout:g} s") from error
    except requests.ConnectionError as error:
      raise _Passing("no connection") from error
    except requests.RequestException as error:
      raise UserError(f"{self.address} cannot be asked: {error}") from error
    try:
      answer = json.loads(response.text)
    except ValueError:
      answer = response.text
    message = answer.get("error", "") if isinstance(answer, dict) else str(answer)
    message = " ".join(str(message).split())[:300]
    if response.status_code in (429, 502, 503, 504):
      raise _Passing(f"the server is not ready (HTTP {response.status_code}: {message})")
    if response.status_code == 404:
      raise self._unknown(message or "HTTP 404")
    if response.status_code != 200 or not isinstance(answer, dict):
      raise UserError(f"{self.address} refuses (HTTP {response.status_code}): {message}")
    return answer

  def close(self):
    self._session.close()


class _Grpc(Server):
  def __init__(self, address, model, version, timeout, retries):
    startup.require_serving()
    super().__init__(address, model, version, timeout, retries)
    import grpc
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    sizes = [(f"grpc.max_{way}_message_length", _MAX_MESSAGE) for way in ("send", "receive")]
    self._channel = grpc.insecure_channel(address, options=sizes)
    self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

  def _metadata(self):
    from tensorflow_serving.apis import get_model_metadata_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    answer = self._call(self._stub.GetModelMetadata, self._for_model(request))
    found = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(found)
    return {
      name: SignatureInfo(*({k: _from_proto(t) for k, t in getattr(d, side).items()} for side in _SIDES))
      for name, d in found.signature_def.items()
      if not name.startswith(_INTERNAL)
    }

  def _predict(self, signature, key, batch, info):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = self._for_model(predict_pb2.PredictRequest())
    request.model_spec.signature_name = signature
    request.inputs[key].CopyFrom(tf.make_tensor_proto(batch))
    answer = self._call(self._stub.Predict, request)
    return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}

  def _for_model(self, request):
    request.model_spec.name = self.model
    if self._version and self._version.isdigit():
      request.model_spec.version.value = int(self._version)
    elif self._version:
      request.model_spec.version_label = self._version
    return request

  def _call(self, method, request):
    import grpc

    try:
      return method(request, timeout=self._timeout)
    except grpc.RpcError as error:
      code, message = error.code(), " ".join((error.details() or "").split())[:300]
      if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        raise _Passing(f"no answer within {self._timeout:g} s") from error
      if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
        raise _Passing(f"no connection, or the server is not ready ({message})") from error
      if code == grpc.StatusCode.NOT_FOUND:
        raise self._unknown(message) from error
      raise UserError(f"{self.address} refuses ({code.name}): {message}") from error

  def close(self):
    self._channel.close()


def _from_json(tensor: dict[str, Any]) -> TensorInfo:
  sizes = (int(dim["size"]) for dim in tensor["tensor_shape"].get("dim", []))
  return TensorInfo(_DTYPES[tensor["dtype"]], tuple(None if size < 0 else size for size in sizes))


def _from_proto(tensor: Any) -> TensorInfo:
  from tensorflow.core.framework import types_pb2

  sizes = (dim.size for dim in tensor.tensor_shape.dim)
  return TensorInfo(
    _DTYPES[types_pb2.DataType.Name(tensor.dtype)], tuple(None if size < 0 else size for size in sizes)
  )


def _to_json(row: Any) -> Any:
  return {"b64": base64.b64encode(row).decode()} if isinstance(row, bytes) else row.tolist()


def _name(dtype: Any) -> str:
  return "strings" if dtype == np.object_ else str(np.dtype(dtype))


def _to_array(values: list, dtype: Any) -> np.ndarray:
  array = np.array(values, dtype)
  # Strings as gRPC has them.
  return np.vectorize(str.encode, otypes=[object])(array) if array.dtype == np.object_ else array
