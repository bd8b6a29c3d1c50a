"""What TensorFlow logs at its start is kept from the terminal, and nothing else is."""

import os
from pathlib import Path

from tf_savae import startup


def test_log_lines_are_held_back_and_all_else_gets_through(capfd):
  with startup._without_log_lines():
    os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n")
    os.write(2, b"I0000 00:00:1795331813.014338    5826 port.cc:153] oneDNN custom operations are on.\n")
    os.write(2, b"To enable the following instructions: AVX2 FMA, rebuild TensorFlow.\n")
    os.write(2, b"E0000 00:00:1795331813.014338    5826 cuda.cc:1] no memory left on the GPU\n")
    os.write(2, b"terminate called after something terrible\n")
  os.write(2, b"and after it, everything: I0000 00:00:1 1 a.cc:1] x\n")
  lines = capfd.readouterr().err.splitlines()
  assert [line.split()[0] for line in lines] == ["E0000", "terminate", "and"]


def test_an_exception_does_not_hide_what_was_printed(capfd):
  try:
    with startup._without_log_lines():
      os.write(2, b"the reason\n")
      raise RuntimeError
  except RuntimeError:
    pass
  assert capfd.readouterr().err == "the reason\n"


def test_without_an_nvidia_driver_no_gpu_is_missing():
  if not Path("/proc/driver/nvidia/version").exists():
    assert startup.missing_gpu() is None


def test_the_reason_for_a_missing_gpu_is_found_in_the_log():
  log = (
    "2026-11-27 03:14:00.1: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.\n"
    "W0000 00:00:1732.25  12 gpu_device.cc:2344] Cannot dlopen some GPU libraries. Please make sure the missing"
    " libraries mentioned above are installed properly.\nSkipping registering GPU devices...\n"
  )
  assert startup.reason_in_log(log) == "Cannot dlopen some GPU libraries"
  log = (
    "2026-11-27 03:14:00.1: I external/xla/cudart_stub.cc:31] Could not find cuda drivers on your machine.\n"
    + log
  )
  assert startup.reason_in_log(log) == "Cannot dlopen some GPU libraries"
  assert startup.reason_in_log("") == "its log has no reason"
