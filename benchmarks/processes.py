"""Measures programs in separate processes, on cores of their own."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
PYTHON = (sys.executable, "-m")


def run(
  command: Sequence[str],
  *,
  cores: Sequence[int] | None = None,
  threads: int = 1,
  max_rss_mb: float | None = None,
  max_seconds: float | None = None,
) -> dict[str, Any]:
  """Runs a program that prints one JSON line, in the checkout.

  Args:
    command: the program with its arguments.
    cores: that it may use; None: all.
    threads: for the libraries that read it from the environment.
    max_rss_mb: resident memory above which it is ended.
    max_seconds: time after which it is ended.

  Returns:
    What it printed, or {"failed": one line that says why}.
  """
  counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
  environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, **counts}
  pin = (lambda: os.sched_setaffinity(0, cores)) if cores else None
  deadline = None if max_seconds is None else time.monotonic() + max_seconds
  with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
    try:
      process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=out, stderr=err, text=True, preexec_fn=pin
      )
    except OSError as error:
      return {"failed": f"{command[0]}: {error.strerror}"}
    failure = None
    try:
      while process.poll() is None:
        if max_rss_mb is not None and (rss := resident_mb(process.pid)) > max_rss_mb:
          failure = f"more than {max_rss_mb:.0f} MB (it had {rss:.0f})"
        elif deadline is not None and time.monotonic() > deadline:
          failure = f"more than {max_seconds:.0f} s"
        if failure:
          break
        time.sleep(0.05)
    finally:
      if process.poll() is None:
        process.kill()
        process.wait()
    if failure:
      return {"failed": failure}
    out.seek(0)
    err.seek(0)
    lines = [line for line in out.read().splitlines() if line.startswith("{")]
    if process.returncode or not lines:
      return {"failed": last_line(err.read()) or f"exit status {process.returncode}"}
    return json.loads(lines[-1])


def resident_mb(pid: int) -> float:
  """Resident memory of a process; 0 if it has ended."""
  try:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
  except OSError:
    return 0.0
  found = re.search(r"VmRSS:\s+(\d+) kB", status)
  return int(found[1]) / 1024 if found else 0.0


def last_line(text: str) -> str:
  """The last line that says something."""
  return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def machine() -> dict[str, Any]:
  """The facts that measurements depend on: processor, its vector instructions, cores, memory, versions."""
  info = pathlib.Path("/proc/cpuinfo")
  text = info.read_text() if info.exists() else ""

  def field(name):
    found = re.search(rf"^{name}\s*:\s*(.*)$", text, flags=re.MULTILINE)
    return found[1].strip() if found else ""

  flags = [flag for flag in field("flags").split() if re.match(r"avx|amx|fma", flag)]
  pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  return {
    "processor": field("model name") or "unknown",
    "family_model": f"{field('cpu family')}/{field('model')}",
    "flags": " ".join(flags),
    "cores": os.cpu_count(),
    "memory_gb": round(pages / 2**30, 1),
    "python": sys.version.split()[0],
  }
