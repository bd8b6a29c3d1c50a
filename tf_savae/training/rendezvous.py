"""Where the workers of a run meet before TensorFlow starts, which would wait for the others without an end.

The chief listens at its address of TF_CONFIG. Each other worker tells it its number, and all go on when all are there.
"""

from __future__ import annotations

import contextlib
import socket
import time

from tf_savae.errors import UserError

_GO = b"go\n"
_REMEDY = "start it, open the port, or wait longer with --worker_timeout"


def gather(addresses: list[str], seconds: float) -> None:
  """The chief's part: returns once all other workers have come.

  Args:
    addresses: of all workers, that of the chief first.
    seconds: how long to wait.

  Raises:
    UserError: some did not come in time, or the port is taken.
  """
  end, missing = time.monotonic() + seconds, set(range(1, len(addresses)))
  with contextlib.ExitStack() as opened:
    door = opened.enter_context(_listening(addresses[0]))
    there = []
    while missing:
      door.settimeout(max(0.001, end - time.monotonic()))
      try:
        visitor, _ = door.accept()
        there.append(opened.enter_context(visitor))
        visitor.settimeout(max(0.001, min(5.0, end - time.monotonic())))
        with contextlib.suppress(ValueError):  # somebody else, such as a probe of the port
          missing.discard(int(visitor.recv(20)))
      except OSError:
        pass
      if missing and time.monotonic() >= end:
        names = ", ".join(f"{i} at {addresses[i]}" for i in sorted(missing))
        raise UserError(f"these workers did not come within {seconds:g} seconds: {names}; {_REMEDY}")
    for visitor in there:
      with contextlib.suppress(OSError):
        visitor.sendall(_GO)


def come(address: str, index: int, seconds: float) -> None:
  """Another worker's part: tells the chief that it is there; returns once all are.

  Args:
    address: of the chief.
    index: the worker's number.
    seconds: how long to try to reach the chief, and to wait for the others.

  Raises:
    UserError: the chief cannot be reached, or has not let all workers go on in time.
  """
  end = time.monotonic() + seconds
  with _connected(address, end, seconds) as chief:
    chief.settimeout(
      max(0.001, end - time.monotonic()) + 5.0
    )  # so that the chief, who knows more, speaks first
    try:
      chief.sendall(f"{index}\n".encode())
      answer = chief.recv(len(_GO))
    except OSError:
      answer = b""
  if answer != _GO:
    raise UserError(
      f"the chief at {address} did not begin with this worker: not all of them came within {seconds:g} seconds, or its"
      " run is going on without it; look at its log, and start all workers again"
    )


def _connected(address: str, end: float, seconds: float) -> socket.socket:
  host, port = address.rsplit(":", 1)
  why = ""
  while time.monotonic() < end:
    try:
      return socket.create_connection((host, int(port)), timeout=max(1.0, min(5.0, end - time.monotonic())))
    except (OSError, ValueError) as error:
      why = getattr(error, "strerror", None) or str(error)
      time.sleep(min(0.5, max(0.0, end - time.monotonic())))
  raise UserError(f"the chief at {address} cannot be reached for {seconds:g} seconds ({why}); {_REMEDY}")


def _listening(address: str) -> socket.socket:
  """On all interfaces, as TensorFlow listens later. Raises UserError if the port is taken."""
  try:
    port = int(address.rsplit(":", 1)[1])
    if socket.has_dualstack_ipv6():
      return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))
  except (OSError, ValueError, OverflowError) as error:
    why = getattr(error, "strerror", None) or str(error)
    raise UserError(
      f"the chief cannot listen at its address in TF_CONFIG: {why}; received {address}; name a free port"
    ) from error
