"""The cost of train.py compared with its bare step: `python -m benchmarks.training --workload=image --cores=0`.

Runs in turn, on the same cores, the step alone (`benchmarks.step`) and two epochs of train.py with input, metrics,
TensorBoard and checkpoints. Prints one JSON line: seconds per update of both, the overhead pair by pair, examples per
second, and seconds from the start of train.py to its first update. The figures are those of the second epoch, since the
first one also traces. Validation is not included.
"""

from __future__ import annotations

import csv
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from benchmarks import processes, workloads

_WORKLOAD = flags.DEFINE_enum("workload", "image", ["image", "synthetic"], "which model")
_SIZES = flags.DEFINE_enum("sizes", "small", ["paper", "small", "tiny"], "preset of its sizes")
_METHOD = flags.DEFINE_string("method", "savae", "a training method of tf_savae.methods")
_K = flags.DEFINE_integer("k", 20, "SVI steps", lower_bound=0)
_BATCH = flags.DEFINE_integer("batch", 50, "examples per step", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 2, "pairs", lower_bound=1)
_CORES = flags.DEFINE_list("cores", ["0"], "processors on which everything runs")
_THREADS = flags.DEFINE_integer("threads", 1, "threads within an operation", lower_bound=1)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  bare, whole = zip(*((_bare(), _whole()) for _ in range(_ROUNDS.value)), strict=True)
  overheads = [w / b - 1 for b, w in zip(bare, whole, strict=True)]
  print(
    json.dumps(
      {
        "workload": _WORKLOAD.value,
        "sizes": _SIZES.value,
        "method": _METHOD.value,
        "k": _K.value,
        "batch": _BATCH.value,
        "step_seconds": bare,
        "train_seconds": whole,
        "overhead": [round(value, 4) for value in overheads],
        "examples_per_second": round(_BATCH.value / statistics.median(whole), 2),
        "first_update_after_seconds": _first(),
      }
    )
  )


def _common():
  return [
    f"--k={_K.value}",
    "--jit_compile=true" if _WORKLOAD.value == "synthetic" else "--jit_compile=false",
  ]


def _bare() -> float:
  """Seconds of the step alone."""
  found = processes.run(
    [
      *[sys.executable, "-m", "benchmarks.step", f"--workload={_WORKLOAD.value}", f"--sizes={_SIZES.value}"],
      *[f"--method={_METHOD.value}", f"--batch={_BATCH.value}", f"--threads={_THREADS.value}", "--steps=20"],
      *_common(),
      "--any_batch",
    ],
    cores=tuple(map(int, _CORES.value)),
    threads=_THREADS.value,
  )
  if "failed" in found:
    sys.exit(f"error: benchmarks.step: {found['failed']}")
  return found["step_seconds"]


def _command(run: pathlib.Path, *more: str) -> list[str]:
  return [
    *["taskset", "-c", ",".join(_CORES.value), sys.executable, "train.py", f"--run_dir={run}"],
    *[f"--dataset={workloads.WORKLOADS[_WORKLOAD.value].dataset}", f"--preset={_SIZES.value}"],
    *[f"--model={_METHOD.value}", f"--batch_size={_BATCH.value}", "--max_steps=0", "--nodownload"],
    *["--iw_samples=1", *_common(), *more],
  ]


def _whole() -> float:
  """Seconds per update in the second epoch of train.py."""
  with tempfile.TemporaryDirectory() as directory:
    run = pathlib.Path(directory, "run")
    done = subprocess.run(
      _command(run, "--epochs=2"), cwd=processes.ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
      sys.exit(f"error: train.py: {processes.last_line(done.stderr)}")
    with open(run / "metrics.csv", newline="") as file:
      return float(list(csv.DictReader(file))[1]["step_seconds"])


def _first() -> float:
  """Seconds from the start of train.py to the checkpoint of its first update."""
  with tempfile.TemporaryDirectory() as directory:
    run, begun = pathlib.Path(directory, "run"), time.monotonic()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(_command(run, "--checkpoint_every=1"), cwd=processes.ROOT, **quiet)
    try:
      while process.poll() is None and not list(run.glob("checkpoints/ckpt-1.index")):
        time.sleep(0.05)
      seconds = time.monotonic() - begun
    finally:
      process.kill()
      process.wait()
    return round(seconds, 1)


if __name__ == "__main__":
  sys.path.insert(0, str(pathlib.Path.cwd()))
  app.run(main)
