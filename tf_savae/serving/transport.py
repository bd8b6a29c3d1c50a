"""Talking to TensorFlow Serving: REST for `http(s)://host:8501`, gRPC for `grpc(s)://host:8500`.

    with connect("http://localhost:8501", "savae") as server:
      answer = server.predict("encode_refined", images)  # {"mean": [n, latent], …}

Every failure is a UserError of one line. Failures that may be temporary (no connection, an overloaded server, a
time-out) are retried after a pause that doubles each time.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping

from tf_savae.errors import UserError
from tf_savae.serving.remote import Connection, Server, SignatureInfo, TensorInfo, fits
from tf_savae.serving.rest import Rest
from tf_savae.serving.rpc import Grpc

__all__ = ["Connection", "Server", "SignatureInfo", "TensorInfo", "connect", "fits"]

_SCHEMES = ("http", "https", "grpc", "grpcs")
_LARGEST = 2**63 - 1  # of a version


def connect(
  url: str,
  model: str,
  *,
  version: str | None = None,
  timeout: float = 30.0,
  retries: int = 3,
  by_row: bool = False,
  tls: bool = False,
  ca_file: str | None = None,
  headers: Mapping[str, str] | None = None,
  url_safe: bool = False,
) -> Server:
  """A model on a server; nothing is sent yet.

  Args:
    url: `http://host:port` or `https://…` for REST, `grpc://host:port` or, with TLS, `grpcs://…` for gRPC.
    model: its name.
    version: a number or a label; default: the server's choice, its newest.
    timeout: seconds for each attempt.
    retries: attempts after the first.
    by_row: REST only: JSON's row format instead of its column format.
    tls: whether `grpc://` is encrypted, as `grpcs://` is.
    ca_file: certificates of the authorities that are trusted, PEM; default: the system's.
    headers: names and values that go with every request.
    url_safe: REST only: whether bytes are sent in base64's URL-safe alphabet.

  Raises:
    UserError: the URL is none of these, or arguments do not fit it.
  """
  parts = urllib.parse.urlsplit(url)
  if parts.scheme not in _SCHEMES or not parts.netloc:
    raise UserError(
      f"--url must be http://host:port, https://host:port, grpc://host:port or grpcs://host:port; received {url!r}"
    )
  if parts.scheme == "http" and (tls or ca_file):
    raise UserError(f"--tls and --ca_file are for encrypted connections; received {url!r}; write https://")
  if parts.scheme == "grpc" and ca_file and not tls:
    raise UserError(f"--ca_file is for encrypted connections; received {url!r}; add --tls")
  if ca_file and not os.path.isfile(ca_file):
    raise UserError(f"--ca_file={ca_file} is no file; name a file of certificates, PEM")
  is_rest = parts.scheme.startswith("http")
  address = url.rstrip("/") if is_rest else parts.netloc
  connection = Connection(address, model, version, timeout, retries, dict(headers or {}), ca_file)
  if (connection.version_number or 0) > _LARGEST:
    raise UserError(f"--version is a number up to {_LARGEST}, or a label; received {version}")
  if is_rest:
    return Rest(connection, by_row, url_safe)
  return Grpc(connection, tls or parts.scheme == "grpcs")
