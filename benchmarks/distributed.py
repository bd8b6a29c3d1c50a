"""Updates on one device, on several, and in several processes: `python -m benchmarks.distributed --workload=image`.

All arrangements train the same model on the same batch, so that each device has its part of it. They are processes that
take turns: in each round every one of them makes some updates while the others wait. Virtual devices of a CPU have one
thread each, and one device has two, so on two cores the hardware is the same. `bytes` are what an update sums over
devices, as the graph says. With --limits it prints arithmetic instead, for GPUs and hosts that are not there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from absl import app, flags

from benchmarks import processes, scaling
from tf_savae.commands.launch import free_ports

_WORKLOAD = flags.DEFINE_enum("workload", "image", ["image", "text"], "the model")
_SIZES = flags.DEFINE_enum("sizes", "small", ["paper", "small", "tiny"], "preset of the networks' sizes")
_METHOD = flags.DEFINE_enum("method", "savae", ["vae", "vae_svi", "savae"], "how it is trained")
_BATCH = flags.DEFINE_integer("batch", 48, "examples of an update, of all devices", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 9, "rounds", lower_bound=1)
_UPDATES = flags.DEFINE_integer("updates", 3, "updates of a round", lower_bound=1)
_LIMITS = flags.DEFINE_bool("limits", False, "print what limits 8 GPUs and 64 hosts, by arithmetic")


class Running:
  """The processes of an arrangement, ready to make updates."""

  def __init__(self, arrangement: scaling.Arrangement, settings: dict[str, Any]):
    workers = [f"127.0.0.1:{port}" for port in free_ports(arrangement.processes)]
    self._processes = []
    for i in range(arrangement.processes):
      environment = {**os.environ, "OMP_NUM_THREADS": str(arrangement.threads), "CUDA_VISIBLE_DEVICES": ""}
      environment.pop("TF_CONFIG", None)
      if arrangement.processes > 1:
        task = {"type": "worker", "index": i}
        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
      words = json.dumps(settings | {"devices": arrangement.devices, "threads": arrangement.threads})
      command = [sys.executable, "-m", "benchmarks.distributed_step", words]
      pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
      self._processes.append(
        subprocess.Popen(command, cwd=processes.ROOT, env=environment, text=True, **pipes)
      )
    self.facts = self._answers()[0]

  def updates(self, number: int) -> tuple[float, float]:
    """Makes updates; returns the seconds of one, by the clock of the first process and of all processors."""
    for process in self._processes:
      process.stdin.write(f"{number}\n")
      process.stdin.flush()
    answers = self._answers()
    return answers[0]["seconds"] / number, sum(answer["processor"] for answer in answers) / number

  def close(self) -> None:
    """Ends the processes."""
    for process in self._processes:
      process.stdin.close()
    for process in self._processes:
      process.wait(60)

  def _answers(self) -> list[dict[str, Any]]:
    lines = [process.stdout.readline() for process in self._processes]
    if not all(lines):
      raise RuntimeError("a process of the measurement has ended; run benchmarks.distributed_step to see why")
    return [json.loads(line) for line in lines]


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  if _LIMITS.value:
    print(scaling.limits())
    return
  settings = {
    "workload": _WORKLOAD.value,
    "sizes": _SIZES.value,
    "method": _METHOD.value,
    "batch": _BATCH.value,
  }
  running = {each.name: Running(each, settings) for each in scaling.ARRANGEMENTS}
  try:
    rounds = [
      {name: each.updates(_UPDATES.value) for name, each in running.items()} for _ in range(_ROUNDS.value)
    ]
    facts = {name: each.facts for name, each in running.items()}
  finally:
    for each in running.values():
      each.close()
  print(scaling.table(rounds, facts, _BATCH.value))
  print(json.dumps({**settings, "facts": facts, "rounds": rounds, "machine": processes.machine()}))


if __name__ == "__main__":
  app.run(main)
