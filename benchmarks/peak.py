"""The peak arithmetic of this machine, as one JSON line: `python -m benchmarks.peak --threads=1`.

GFLOP/s of the fastest of a few large matrix products and convolutions, in float32 and bfloat16, by TensorFlow.
"""

from __future__ import annotations

import json
import os
import sys
import time

from absl import app, flags

_THREADS = flags.DEFINE_integer("threads", 1, "threads within an operation", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 1.0, "time for each of the four probes", lower_bound=0.01)
_SIZE = flags.DEFINE_integer("size", 1024, "rows and columns of the matrices", lower_bound=16)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  os.environ.setdefault("OMP_NUM_THREADS", str(_THREADS.value))
  from tf_savae import startup

  startup.import_tensorflow()
  import tensorflow as tf

  tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  print(json.dumps({"threads": _THREADS.value, **measure(tf)}), flush=True)


def measure(tf) -> dict[str, float]:
  """GFLOP/s by probe: "gemm_float32", "convolution_bfloat16" and so on."""
  found = {}
  for dtype in (tf.float32, tf.bfloat16):
    n = _SIZE.value
    a, b = (tf.cast(tf.random.stateless_uniform([n, n], [0, i]), dtype) for i in range(2))
    found[f"gemm_{dtype.name}"] = _fastest(lambda: tf.matmul(a, b), 2.0 * n**3)
    side, channels, k = 28, 64, 5
    x = tf.cast(tf.random.stateless_uniform([16, side, side, channels], [0, 2]), dtype)
    w = tf.cast(tf.random.stateless_uniform([k, k, channels, channels], [0, 3]), dtype)
    work = 2.0 * 16 * side**2 * (k * channels) ** 2
    # Padding counts as work, as it does in the networks.
    found[f"convolution_{dtype.name}"] = _fastest(lambda: tf.nn.conv2d(x, w, 1, "SAME"), work)
  return found


def _fastest(operation, work: float) -> float:
  import tensorflow as tf

  run = tf.function(operation, autograph=False)
  run()
  best, end = float("inf"), time.perf_counter() + _SECONDS.value
  while best == float("inf") or time.perf_counter() < end:
    start = time.perf_counter()
    run()  # on CPU it returns when it is done; reading the result would count as time
    best = min(best, time.perf_counter() - start)
  return float(f"{work / best / 1e9:.4g}")


if __name__ == "__main__":
  sys.path.insert(0, os.getcwd())
  app.run(main)
