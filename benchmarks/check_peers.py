"""Whether the peers compute our gradients: `python -m benchmarks.check_peers --torch_python=torch_env/bin/python`.

This uses small networks of each workload, in float64, with the refinement's clip off and on. Weights, batch and noise
are passed between processes in a file. Exact peers must agree to 1e-9, finite differences to the accuracy of their
radius.
"""

from __future__ import annotations

import os
import sys
import tempfile

from absl import app, flags

from benchmarks import points, processes, workloads
from benchmarks.programs import PEERS, Program, Setting, our_gradients

TOLERANCE = {"finite_difference": 1e-6, "unrolled": 1e-9, "hvp": 1e-9}
BATCH, TOKENS = 3, 8
CLIP_NORM = 0.05  # so small that every example's gradient is clipped

_PYTHON = flags.DEFINE_string("torch_python", sys.executable, "interpreter that has PyTorch")
_WORKLOADS = flags.DEFINE_multi_enum(
  "workload", list(workloads.WORKLOADS), list(workloads.WORKLOADS), "which to check; may be repeated"
)
_K = flags.DEFINE_integer("k", 3, "SVI steps", lower_bound=1)
_SIZES = flags.DEFINE_enum("sizes", "tiny", ["small", "tiny"], "of the networks")
_CLIP = flags.DEFINE_multi_enum("clip", ["off", "on"], ["off", "on"], "clip of the refinement's gradients")


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  wrong = 0
  for workload in _WORKLOADS.value:
    for clip in _CLIP.value:
      found = check(workload, _K.value, clip == "on", _PYTHON.value, _SIZES.value)
      for (program, lstm), error in found.items():
        holds = error <= TOLERANCE[program]
        wrong += not holds
        how = f", lstm={lstm}" if lstm else ""
        title = f"{workload}, clip {clip}: {program}{how}"
        print(f"{title:<60}{error:9.1e}  {'ok' if holds else 'WRONG'}", flush=True)
  if wrong:
    sys.exit(f"{wrong} peers do not compute our gradients")


def check(
  workload: str, k: int, clip: bool, torch_python: str, sizes: str = "tiny"
) -> dict[tuple[str, str], float]:
  """The largest relative error of each peer over the groups of gradients and the loss.

  Returns:
    By peer and, for sequences, how its LSTM runs ("" for images).

  Raises:
    RuntimeError: a program failed.
  """
  setting = Setting(workload, k, BATCH, tokens=TOKENS, sizes=sizes)
  errors = {}
  with tempfile.TemporaryDirectory() as folder:
    point, ours, theirs = (os.path.join(folder, name) for name in ("point", "ours", "theirs"))
    files = [f"--write_point={point}", f"--dump={ours}"]
    succeed([*our_gradients(setting), f"--clip_norm={CLIP_NORM * clip}", "--precision=float64", *files])
    exact = points.read_gradients(ours)
    # float64 has no fused LSTM: the loop is the other one.
    variants = [""] if workload == "image" else ["fused", "loop"]
    for algorithm in PEERS:
      for lstm in variants:
        program = Program.parse(f"{algorithm}:lstm={lstm}" if lstm else algorithm)
        succeed(program.gradients(setting, point, theirs, torch_python, "float64"))
        found = points.read_gradients(theirs)
        of_loss = abs(found["loss"] / exact["loss"] - 1)
        errors[algorithm, lstm] = max(of_loss, *points.errors(found, exact).values())
  return errors


def succeed(command: list[str]) -> dict:
  """What the program printed. Raises RuntimeError if it fails."""
  result = processes.run(command)
  if "failed" in result:
    raise RuntimeError(f"{' '.join(command)}: {result['failed']}")
  return result


if __name__ == "__main__":
  sys.path.insert(0, os.getcwd())
  app.run(main)
