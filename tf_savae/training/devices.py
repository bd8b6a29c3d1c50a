"""What this process's devices are to be, and how they compute; set before TensorFlow computes anything."""

from __future__ import annotations

import contextlib

import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.runs.config import RunConfig


def prepare(config: RunConfig) -> None:
  """Sets virtual devices, the memory of GPUs and TensorFloat-32 as the settings say.

  A GPU's memory is taken as it is needed. TensorFloat-32, which TensorFlow uses by default on GPUs since Ampere, keeps
  10 of the 23 bits of a number in products; it is off unless `--precision=tf32` asks for it.

  Raises:
    UserError: TensorFlow has computed something already, so that it is too late for a setting.
  """
  tf.config.experimental.enable_tensor_float_32_execution(config.precision == "tf32")
  if config.cpu_devices > 1:
    (cpu,) = tf.config.list_physical_devices("CPU")
    _divide(
      cpu, [tf.config.LogicalDeviceConfiguration()] * config.cpu_devices, "cpu_devices", config.cpu_devices
    )
  for gpu in tf.config.list_physical_devices("GPU"):
    if config.memory_limit:
      limit = tf.config.LogicalDeviceConfiguration(memory_limit=config.memory_limit)
      _divide(gpu, [limit], "memory_limit", config.memory_limit)
    else:
      with contextlib.suppress(RuntimeError, ValueError):  # a program that uses its GPU already has chosen
        tf.config.experimental.set_memory_growth(gpu, True)


def _divide(
  device: tf.config.PhysicalDevice,
  parts: list[tf.config.LogicalDeviceConfiguration],
  setting: str,
  value: int,
) -> None:
  try:
    if len(tf.config.get_logical_device_configuration(device) or ()) != len(parts):
      tf.config.set_logical_device_configuration(device, parts)
  except (RuntimeError, ValueError) as error:
    raise UserError(
      f"--{setting}={value} comes too late: TensorFlow has begun to compute; give it to a new process"
    ) from error
