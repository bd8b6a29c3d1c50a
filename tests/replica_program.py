"""Prints how far training on several virtual devices is from training on one.

    python -m tests.replica_program DEVICES CASE...        one line of JSON

A case is a name in `tests.replica_cases.CASES`. Devices are made before TensorFlow starts, so this is a process of
its own. It makes one strategy, since a second one would use the names of the first one's collectives.
"""

from __future__ import annotations

import importlib
import json
import sys

import tensorflow as tf


def main(devices: int, names: list[str]) -> None:
  (cpu,) = tf.config.list_physical_devices("CPU")
  tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
  cases = importlib.import_module("tests.replica_cases")  # whose tensors start TensorFlow
  strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)])
  print(json.dumps({name: cases.compared(name, strategy) for name in names}))


if __name__ == "__main__":
  main(int(sys.argv[1]), sys.argv[2:])
