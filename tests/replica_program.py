"""Trains small models on one device, on two and four virtual ones, and as one of several workers.

    python -m tests.replica_program OUT [all]

The tests take some of the cases, for the sake of time; `all` takes each on two and on four devices. Without TF_CONFIG
it prints one line of JSON, the differences to one device, and puts the weights of one device in OUT/CASE.npz. A worker
puts its own in OUT/CASE.worker-INDEX.npz. Devices are made before TensorFlow starts, so this is a process of its own.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

# On four devices one has no example of the last batch.
ON = {
  2: (
    *("image-vae", "image-vae-float32", "image-vae_svi", "image-savae-exact"),
    *("text-vae", "text-savae-stored"),
  ),
  4: ("image-vae", "image-savae-stored"),
}
OF_WORKERS = ("image-savae-exact", "text-vae_svi", "text-savae-exact")
BY_KERAS = "image-vae"
RESUMED = EVALUATED = "image-savae-exact"


class Second(tf.distribute.MirroredStrategy):
  """A second strategy of this process, which must not use the names of the first one's messages."""

  _collective_key_base = 1000


def main(out: Path, takes_all: bool) -> None:
  tf.config.optimizer.set_experimental_options(
    {"disable_meta_optimizer": True}
  )  # graphs run a few times only
  if "TF_CONFIG" in os.environ:
    work(out, tf.distribute.MultiWorkerMirroredStrategy(), takes_all)
    return
  (cpu,) = tf.config.list_physical_devices("CPU")
  tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
  devices = [f"CPU:{i}" for i in range(4)]
  strategies = {2: tf.distribute.MirroredStrategy(devices[:2]), 4: Second(devices)}
  cases = importlib.import_module("tests.replica_cases")  # whose tensors start TensorFlow
  found = {}
  for name in cases.CASES:
    on = [number for number, names in ON.items() if takes_all or name in names]
    found[name] = compared(cases, name, {number: strategies[number] for number in on}, out)
  print(json.dumps(found))


def work(out: Path, strategy: tf.distribute.Strategy, takes_all: bool) -> None:
  """What a worker does."""
  cases = importlib.import_module("tests.replica_cases")
  index = strategy.cluster_resolver.task_id
  for name in cases.CASES if takes_all else OF_WORKERS:
    save(
      out / f"{name}.worker-{index}.npz", cases.Training(cases.CASES[name], strategy).run(0, cases.UPDATES)
    )


def save(path: Path, variables: dict[str, np.ndarray]) -> None:
  np.savez(path, **{name.replace("/", "|"): value for name, value in variables.items()})


def compared(
  cases: Any, name: str, strategies: dict[int, tf.distribute.Strategy], out: Path
) -> dict[str, Any]:
  """Differences to one device by number of devices, and what makes sure that they mean something."""
  half, end = cases.UPDATES // 2, cases.UPDATES
  one = cases.Training(cases.CASES[name], None)
  one.run(0, half)
  if name == RESUMED:
    one.checkpoints(out / "one").save(half)
  expected = one.run(half, end)
  save(out / f"{name}.npz", expected)
  means = one.means()  # before anything else moves them
  found = {"gradient_norm": means["gradient_norm_decoder"]}
  for number, strategy in strategies.items():
    several = cases.Training(cases.CASES[name], strategy)
    several.run(0, half)
    if name == RESUMED and number == 2:
      several.checkpoints(out / "two").save(half)
    reached = several.run(half, end)
    found[str(number)] = {
      "variables": cases.difference(expected, reached),
      "metrics": cases.difference(means, several.means()),
      "steps": float(reached["savae/step"]),
      "skipped": float(reached["savae/skipped"]),
    }
    if name == BY_KERAS and number == 2:
      both = (each.by_keras() for each in (one, several))
      found["by_keras"] = [cases.difference(*results) for results in zip(*both, strict=True)]
    if name == EVALUATED and number == 2:
      data = cases.Thirteen(cases.CASES[name])
      rows = [cases.evaluated(each.model, data, out / "rows.npz") for each in (one, several)]
      found["evaluated"] = cases.differences(*rows)
      found["rows"] = {key: len(value) for key, value in rows[1].items()}
    if name == RESUMED and number == 2:
      one.checkpoints(out / "two").restore_latest()
      several.checkpoints(out / "one").restore_latest()
      found["resumed"] = [cases.difference(expected, each.run(half, end)) for each in (one, several)]
  return found


if __name__ == "__main__":
  main(Path(sys.argv[1]), sys.argv[2:] == ["all"])
