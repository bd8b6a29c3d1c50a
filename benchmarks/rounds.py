"""Measured rounds and gradient errors, cached in files, so that an interrupted comparison can be resumed.

A round runs every program once, one after another (A B C), each in its own process, so that ratios compare programs
that ran at nearly the same time. A round is one file, written when it is complete. If it lacks a requested program, the
whole round is run again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import points, processes
from benchmarks.programs import Program, Setting, our_gradients
from tf_savae.atomic_files import write_json

Result = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Bench:
  """How and where programs are run.

  Attributes:
    folder: of the cached results.
    cores: on which every process runs.
    torch_python: interpreter of the peers.
    steps: timed steps of a process.
    max_rss_mb: memory above which a process is ended, and its program counts as not fitting.
    max_seconds: the same for time.
    say: is told what is being run.
  """

  folder: pathlib.Path
  cores: tuple[int, ...]
  torch_python: str
  steps: int = 3
  max_rss_mb: float | None = None
  max_seconds: float | None = None
  say: Callable[[str], None] = print

  def round(self, setting: Setting, index: int, programs: Sequence[Program]) -> dict[str, Result]:
    """What each program printed, or {"failed": why}, by name."""
    path = self.folder / f"{setting.name}-round{index}-cores{'_'.join(map(str, self.cores))}.json"
    cached = read(path)
    if all(program.name in cached for program in programs):
      return {program.name: cached[program.name] for program in programs}
    found = {}
    for program in programs:
      self.say(f"{setting.name}, round {index + 1}: {program.name}")
      found[program.name] = self._run(program.step(setting, self.steps, self.torch_python), setting.threads)
    write(path, found)
    return found

  def gradient_errors(self, setting: Setting, programs: Sequence[Program]) -> dict[str, Result]:
    """Relative errors of each program's float32 gradients at one point, against ours in float64; by name."""
    path = self.folder / f"{setting.name}-gradients.json"
    found = read(path)
    missing = [program for program in programs if program.name not in found]
    if missing:
      with tempfile.TemporaryDirectory() as scratch:
        found |= self._gradient_errors(setting, missing, scratch)
      write(path, found)
    return {program.name: found[program.name] for program in programs}

  def _gradient_errors(self, setting, programs, scratch):
    point, exact, first_order, dump = (
      os.path.join(scratch, name) for name in ("point", "exact", "first_order", "dump")
    )
    double = [*our_gradients(setting), "--precision=float64"]
    for command in (
      [*double, f"--write_point={point}", f"--dump={exact}"],
      [*double, "--adjoint=first_order", f"--point={point}", f"--dump={first_order}"],
    ):
      self.say(f"{setting.name}: float64 gradients")
      result = self._run(command, setting.threads)
      if "failed" in result:
        return {program.name: {"failed": f"no float64 gradients: {result['failed']}"} for program in programs}
    reference = [points.read_gradients(path) for path in (exact, first_order)]
    errors = {}
    for program in programs:
      self.say(f"{setting.name}: gradients of {program.name}")
      command = program.gradients(setting, point, dump, self.torch_python, "float32")
      result = self._run(command, setting.threads)
      errors[program.name] = (
        result if "failed" in result else points.errors(points.read_gradients(dump), *reference)
      )
    return errors

  def peak(self, threads: int) -> dict[str, float]:
    """GFLOP/s of the machine, see `benchmarks.peak`; {} where it could not be measured."""
    path = self.folder / f"peak-threads{threads}-cores{'_'.join(map(str, self.cores))}.json"
    found = read(path)
    if not found:
      self.say(f"peak of the machine, {threads} threads")
      found = self._run([*processes.PYTHON, "benchmarks.peak", f"--threads={threads}"], threads)
      if "failed" in found:
        return {}
      write(path, found)
    return {name: value for name, value in found.items() if name != "threads"}

  def _run(self, command, threads):
    return processes.run(
      command,
      cores=self.cores,
      threads=threads,
      max_rss_mb=self.max_rss_mb,
      max_seconds=self.max_seconds,
    )


def read(path: pathlib.Path) -> dict[str, Any]:
  """A cached file; {} if there is none."""
  return json.loads(path.read_text()) if path.exists() else {}


def write(path: pathlib.Path, value: dict[str, Any]) -> None:
  """Writes all of a file or nothing."""
  path.parent.mkdir(parents=True, exist_ok=True)
  write_json(path, value)
