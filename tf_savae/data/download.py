"""Downloads a file so that only a complete and verified copy ever appears under its name."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
import tqdm

from tf_savae import atomic_files
from tf_savae.errors import UserError, reason

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 30.0  # without a single byte
_CHUNK = 1 << 16


class DownloadError(Exception):
  """The file could not be downloaded. The text says why in a few words, on one line."""


def download_verified(url: str, target: pathlib.Path, verify: Callable[[pathlib.Path], None]) -> None:
  """Downloads `url` to `target`, with a progress bar.

  The bytes go to a temporary file beside `target`, which is renamed into place once it is complete and
  `verify(path)` has not raised UserError. So `target` is never a partial file, whatever happens.

  Raises:
    DownloadError: there is no connection, the server answers with an error, the file is truncated or wrong, or it
      cannot be written.
  """
  try:
    with requests.get(url, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS)) as response:
      response.raise_for_status()
      target.parent.mkdir(parents=True, exist_ok=True)  # only once there is something to put there
      with atomic_files.replacing(target) as new:
        with open(new, "wb") as file:
          _copy_body(response, file, title=target.name)
        _verify(new, verify, url)
  except requests.RequestException as error:
    raise DownloadError(_network_reason(url, error)) from error
  except OSError as error:
    raise DownloadError(f"cannot write {target}: {reason(error)}") from error


def _verify(path: pathlib.Path, verify: Callable[[pathlib.Path], None], url: str) -> None:
  try:
    verify(path)
  except UserError as error:
    raise DownloadError(f"what {url} sent is unusable: {str(error).replace(str(path), 'it')}") from error


def _copy_body(response: requests.Response, file: BinaryIO, title: str) -> None:
  """Writes the body of `response` to `file`, with a progress bar; raises DownloadError if it ends early."""
  encoded = "Content-Encoding" in response.headers  # the stated length is then that of the compressed bytes
  length = response.headers.get("Content-Length", "")
  expected = int(length) if length.isdecimal() and not encoded else None
  received = 0
  with tqdm.tqdm(total=expected, unit="B", unit_scale=True, desc=f"downloading {title}") as progress:
    for chunk in response.iter_content(_CHUNK):
      file.write(chunk)
      received += len(chunk)
      progress.update(len(chunk))
  if expected is not None and received != expected:
    raise DownloadError(f"{response.url} ended after {received} of {expected} bytes")


def _network_reason(url: str, error: requests.RequestException) -> str:
  host = urlsplit(url).netloc
  match error:
    case requests.HTTPError():
      return f"{url} answered with status {error.response.status_code}"
    case requests.exceptions.ChunkedEncodingError():
      return f"the connection to {host} broke before the file was complete"
    case requests.exceptions.SSLError():
      return f"no trusted connection to {host}: {reason(error)}"
    case requests.Timeout():
      return f"{host} did not answer in time"
    case requests.ConnectionError():
      return f"no connection to {host}"
    case _:
      return f"{url}: {reason(error)}"
