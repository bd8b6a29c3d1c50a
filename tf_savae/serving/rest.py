"""TensorFlow Serving over HTTP."""

from __future__ import annotations

import base64
import json
import urllib.parse
from typing import Any

import numpy as np

from tf_savae.errors import UserError
from tf_savae.serving.remote import (
  DTYPES,
  INTERNAL,
  SIDES,
  Connection,
  Passing,
  Server,
  SignatureInfo,
  TensorInfo,
  said,
  tls_reason,
)


class Rest(Server):
  """TensorFlow Serving's REST interface.

  Args:
    connection: its address is a URL.
    by_row: whether rows are sent in JSON's row format instead of its column format.
    url_safe: whether bytes are sent in base64's URL-safe alphabet, for gateways that want it. TensorFlow Serving itself
      wants the usual one. Answers may come in either.
  """

  def __init__(self, connection: Connection, by_row: bool = False, url_safe: bool = False):
    super().__init__(connection)
    import requests

    self._session, self._by_row = requests.Session(), by_row
    self._encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    self._session.headers.update(connection.headers)
    version = connection.version
    kind = "labels" if connection.version_number is None else "versions"
    where = f"/{kind}/{urllib.parse.quote(version, safe='')}" if version else ""
    self._path = f"{connection.address}/v1/models/{urllib.parse.quote(connection.model)}{where}"

  def _metadata(self):
    answer = self._request("GET", f"{self._path}/metadata")
    try:
      found = answer["metadata"]["signature_def"]["signature_def"]
      return {
        name: SignatureInfo(
          *({k: _from_json(t) for k, t in definition.get(side, {}).items()} for side in SIDES)
        )
        for name, definition in found.items()
        if not name.startswith(INTERNAL)
      }
    except (KeyError, TypeError, AttributeError) as error:
      raise UserError(f"{self.address} is no TensorFlow Serving: its metadata lack {error}") from error

  def _predict(self, signature, batches, info):
    columns = {key: [self._to_json(row) for row in batch] for key, batch in batches.items()}
    body: dict[str, Any] = {"inputs": columns}
    if self._by_row:
      rows = zip(*columns.values(), strict=True)
      body = {"instances": [dict(zip(columns, row, strict=True)) for row in rows]}
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
      # Headers may be secrets: they do not follow a redirection to another server. A file of authorities has to be
      # named here: in the session, the environment's REQUESTS_CA_BUNDLE would come before it.
      response = self._session.request(
        verb,
        url,
        json=body,
        timeout=self.connection.timeout,
        allow_redirects=False,
        verify=self.connection.ca_file,
      )
    except requests.Timeout as error:
      raise Passing(f"no answer within {self.connection.timeout:g} s") from error
    except requests.exceptions.SSLError as error:
      raise UserError(f"{self.address}: TLS fails: {tls_reason(str(error))}") from error
    except requests.ConnectionError as error:
      raise Passing("no connection") from error
    except requests.RequestException as error:
      raise UserError(f"{self.address} cannot be asked: {error}") from error
    try:
      answer = json.loads(response.text)
    except ValueError:
      answer = response.text
    message = answer.get("error", "") if isinstance(answer, dict) else str(answer)
    message = said(str(message))
    if response.status_code in (429, 502, 503, 504):
      raise Passing(f"the server is not ready (HTTP {response.status_code}: {message})")
    if response.status_code == 404:
      raise self.unknown(message or "HTTP 404")
    if response.status_code != 200 or not isinstance(answer, dict):
      raise UserError(f"{self.address} refuses (HTTP {response.status_code}): {message}")
    return answer

  def _to_json(self, row):
    return {"b64": self._encode(row).decode()} if isinstance(row, bytes) else row.tolist()

  def close(self):
    self._session.close()


def _from_json(tensor: dict[str, Any]) -> TensorInfo:
  sizes = (int(dim["size"]) for dim in tensor["tensor_shape"].get("dim", []))
  return TensorInfo(DTYPES[tensor["dtype"]], tuple(None if size < 0 else size for size in sizes))


def _to_array(values: list, dtype: Any) -> np.ndarray:
  if dtype != np.object_:
    return np.array(values, dtype)
  # Strings as gRPC has them.
  array = np.empty(len(values), object)
  array[:] = [_to_bytes(value) for value in values]
  return array


def _to_bytes(value: Any) -> bytes:
  """A string of an answer; outputs whose names end in _bytes come in base64, in one of its two alphabets."""
  if isinstance(value, dict):
    return base64.b64decode(value["b64"].replace("-", "+").replace("_", "/") + "==")
  return value.encode()
