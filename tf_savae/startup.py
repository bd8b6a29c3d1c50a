"""Importing TensorFlow without what its C++ side prints to the terminal."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tf_savae.errors import UserError

_MARK = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:.*?\] |^[\d-]+ [\d:.]+: [IWEF] .*?\] ")
_NOISE = re.compile(
  # The C++ log below an error, "I0000 00:00:1795.1 12 port.cc:153] …", and the notice before it.
  rb"[IW]\d{4} \d\d:\d\d:.*?\] |WARNING: All log messages before absl::InitializeLog"
  # Of a message of several lines only the first has that mark.
  rb"|To enable the following instructions:|Skipping registering GPU devices"
  # An "error" that only says that this machine has no NVIDIA driver.
  rb"|E\d{4} \d\d:\d\d:.*failed call to cuInit.*\(303\)"
)


def require_tensorflow_backend() -> None:
  """Has Keras run on TensorFlow, whatever keras.json says; to be called before Keras is imported.

  Raises:
    UserError: KERAS_BACKEND asks for another backend, or Keras already runs on one.
  """
  if "keras" in sys.modules:
    backend = getattr(sys.modules["keras"], "backend", None)
    received = backend.backend() if hasattr(backend, "backend") else "tensorflow"
  else:
    received = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
  if received != "tensorflow":
    raise UserError(
      f"tf_savae needs Keras on TensorFlow; received the backend {received!r}; set KERAS_BACKEND=tensorflow"
    )


def import_tensorflow() -> None:
  """Imports TensorFlow and finds its devices, keeping its start-up chatter off stderr.

  `TF_CPP_MIN_LOG_LEVEL` alone is not enough: what is logged before its log is set up ignores it. When the
  user has set that variable, nothing is held back.

  Raises:
    UserError: Keras is to run on another backend.
  """
  require_tensorflow_backend()
  if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
    _import()
    return
  os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # errors still show
  with _without_log_lines():
    _import()


def missing_gpu() -> str | None:
  """Why TensorFlow does not see the NVIDIA GPU of this machine, and the remedy; None if it does or there is none."""
  import tensorflow as tf

  if tf.config.list_physical_devices("GPU") or not Path("/proc/driver/nvidia/version").exists():
    return None
  hides = os.environ.get("CUDA_VISIBLE_DEVICES")
  if hides is not None and hides.strip() in ("", "-1"):
    return f"CUDA_VISIBLE_DEVICES={hides!r} hides the GPU of this machine; unset it to use the GPU"
  if not tf.test.is_built_with_cuda():
    return (
      "this TensorFlow was built without CUDA; pip install 'tf_savae[gpu]' to use the GPU of this machine"
    )
  # TensorFlow gives its reason in a log that is switched off here, so another process asks again.
  asked = subprocess.run(
    [sys.executable, "-c", "import tensorflow as tf; tf.config.list_physical_devices('GPU')"],
    env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"},
    capture_output=True,
    text=True,
    check=False,
  )
  return (
    f"TensorFlow does not see the GPU of this machine: {reason_in_log(asked.stderr)}; pip install 'tf_savae[gpu]'"
    " brings CUDA's libraries"
  )


def reason_in_log(log: str) -> str:
  """The line of TensorFlow's log that says why there is no GPU."""
  lines = [_MARK.sub("", line).strip() for line in log.splitlines()]
  for wanted in (
    "Could not load dynamic library",
    "Cannot dlopen",
    "failed call to cuInit",
    "Could not find cuda",
  ):
    for line in lines:
      if wanted in line:
        return line.partition(". Please")[0].rstrip(".")
  return "its log has no reason"


def require_serving() -> None:
  """Refuses a command that needs the packages of the extra `serving` where they are not installed.

  Raises:
    UserError: one of them is missing.
  """
  for module in ("grpc", "tensorflow_serving"):
    if importlib.util.find_spec(module) is None:
      raise UserError(f"{module} is not installed: pip install 'tf_savae[serving]'")


def require_text() -> None:
  """Refuses `--units=sentencepiece` where the packages of the extra `text` are not installed.

  Raises:
    UserError: one of them is missing.
  """
  for module in ("sentencepiece", "tensorflow_text"):
    if importlib.util.find_spec(module) is None:
      raise UserError(f"{module} is not installed: pip install 'tf_savae[text]', or train with other --units")


def _import() -> None:
  import keras
  import tensorflow as tf

  # A command does the same whatever the user's keras.json says.
  keras.config.set_floatx("float32")
  keras.config.set_image_data_format("channels_last")
  # A GPU computes in float32, unless a run asks for less.
  tf.config.experimental.enable_tensor_float_32_execution(False)
  tf.config.list_physical_devices()


@contextlib.contextmanager
def _without_log_lines() -> Iterator[None]:
  """Holds back file descriptor 2, where C++ writes, and then lets through all but the log lines."""
  sys.stderr.flush()
  terminal = os.dup(2)
  with tempfile.TemporaryFile() as held:
    os.dup2(held.fileno(), 2)
    try:
      yield
    finally:
      sys.stderr.flush()
      os.dup2(terminal, 2)
      os.close(terminal)
      held.seek(0)
      for line in held:
        if not _NOISE.match(line):
          os.write(2, line)
