"""The arrangements of devices that `benchmarks.distributed` compares, its table, and the arithmetic of larger ones."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from tf_savae.evaluation import tables


class Arrangement(NamedTuple):
  """Who trains.

  Attributes:
    name: for the table.
    processes: that train together.
    devices: virtual devices of each process.
    threads: of each device.
  """

  name: str
  processes: int = 1
  devices: int = 1
  threads: int = 1


ARRANGEMENTS = (
  Arrangement("one device, one thread"),
  Arrangement("one device, two threads", threads=2),
  Arrangement("two devices, one thread each", devices=2),
  Arrangement("two processes, one thread each", processes=2),
)


def table(
  rounds: Sequence[dict[str, tuple[float, float]]], facts: dict[str, dict[str, Any]], batch: int
) -> str:
  """One row per arrangement; ratios are medians over rounds of what the round's first arrangement took."""
  lines, first = [], next(iter(facts))
  for name, fact in facts.items():
    seconds, processor = zip(*(each[name] for each in rounds), strict=True)
    ratio = statistics.median(each[first][0] / each[name][0] for each in rounds)
    lines.append(
      [
        name,
        f"{batch / statistics.median(seconds):.1f}",
        f"{batch / min(seconds):.1f}",
        f"{ratio:.2f}",
        f"{1000 * statistics.median(processor):.0f}",
        f"{fact['bytes']:,}",
      ]
    )
  head = ["arrangement", "examples per second", "in the best round", "speed", "processor ms", "bytes summed"]
  return tables.markdown(head, lines)


class Machine(NamedTuple):
  """Devices on paper: how many, bytes per second between them, and seconds until the first byte is there."""

  name: str
  devices: int
  bandwidth: float
  latency: float


MACHINES = (
  Machine("8 GPUs, NVLink", 8, 300e9, 5e-6),
  Machine("64 hosts of 8 GPUs, 400 Gbit/s each host", 512, 50e9, 20e-6),
  Machine("64 hosts of one GPU, 10 Gbit/s", 64, 1.25e9, 50e-6),
)


def all_reduce_seconds(num_bytes: float, machine: Machine) -> float:
  """Time of a ring: 2 (N − 1) / N · bytes over the slowest link, and 2 (N − 1) latencies."""
  n = machine.devices
  return 2 * (n - 1) / n * num_bytes / machine.bandwidth + 2 * (n - 1) * machine.latency


# Seconds of an update of 50 examples on an H100 in float32 (docs/speed.md), and parameters of the paper's image model.
PARAMETERS = 1_017_249
STEPS = {"VAE": 0.0393, "SA-VAE, 4 natural steps": 0.385, "SA-VAE, 20 plain steps": 1.078}


def limits() -> str:
  """A table of arithmetic: an update of 50 examples on each device against the sum of its gradients."""
  lines = []
  for machine in MACHINES:
    seconds = all_reduce_seconds(4 * PARAMETERS, machine)
    for name, step in STEPS.items():
      efficiency = step / (step + seconds)
      lines.append(
        [machine.name, name, f"{1000 * step:.1f}", f"{1000 * seconds:.2f}", f"{100 * efficiency:.1f} %"]
      )
  head = ["devices", "update", "computing, ms", "summing, ms", "share of computing"]
  return tables.markdown(head, lines)
