"""What an update of each method costs in updates of a VAE: `python -m benchmarks.update_cost --workload=image`.

All methods run in turn in one process on one core, round after round, and processor time counts: what else the machine
does moves every method alike. A ratio is the median over rounds of a method's time over the VAE's of the same round.
The update is the one that `fit` runs: encoder, refinement, gradients, clipping, optimiser, metrics.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from absl import app, flags

from benchmarks import workloads
from benchmarks.updates import ROWS, Row, table

_WORKLOAD = flags.DEFINE_enum("workload", "image", ["image", "text"], "which rows")
_SIZES = flags.DEFINE_enum("sizes", "small", ["paper", "small", "tiny"], "preset of the networks' sizes")
_BATCH = flags.DEFINE_integer(
  "batch", None, "examples per update (default: 50 images or 32 documents; paper: 10 or 4)", lower_bound=1
)
_TOKENS = flags.DEFINE_integer(
  "tokens", None, "text: tokens of every document (default: 60; paper: 80)", lower_bound=2
)
_ROUNDS = flags.DEFINE_integer("rounds", 15, "timed updates of each method", lower_bound=1)
_CORE = flags.DEFINE_integer("core", None, "core to run on (default: any one)", lower_bound=0)
_ONLY = flags.DEFINE_string("only", "", "a word that the names of the rows must have; VAEs are always there")

# By workload and whether the size is the paper's: examples per update. By the latter alone: tokens.
_BATCHES = {"image": {False: 50, True: 10}, "text": {False: 32, True: 4}}
_LENGTHS = {False: 60, True: 80}


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  core = min(os.sched_getaffinity(0)) if _CORE.value is None else _CORE.value
  os.sched_setaffinity(0, {core})
  os.environ["OMP_NUM_THREADS"] = "1"
  from tf_savae import startup

  startup.import_tensorflow()
  import tensorflow as tf

  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  workload, is_paper = _WORKLOAD.value, _SIZES.value == "paper"
  batch = _BATCH.value or _BATCHES[workload][is_paper]
  tokens = _TOKENS.value or _LENGTHS[is_paper]
  rows = [row for row in ROWS[workload] if row.name == row.base or _ONLY.value in row.name]
  updates = {row.name: update(workload, row, batch, tokens, _SIZES.value) for row in rows}
  seconds = timed(updates, _ROUNDS.value)
  print(table(rows, seconds))
  settings = {"workload": workload, "sizes": _SIZES.value, "batch": batch, "tokens": tokens}
  print(json.dumps({**settings, "seconds": seconds}))


def update(workload: str, row: Row, batch: int, tokens: int, sizes: str) -> Callable[[], Any]:
  """One traced training step of a row on data of noise; it waits for the step."""
  import tensorflow as tf

  from tf_savae.kind import KINDS
  from tf_savae.runs.build import build_model

  config = workloads.config_of(
    workload, batch, sizes, learn_svi_lr="none", svi_schedule="harmonic", **row.settings
  )
  data = workloads.random_data(config, tokens)
  model = build_model(config, data)
  x = tf.constant(data.examples("train", batch))
  step = tf.function(model.train_step, autograph=False)
  one_shape = KINDS.get(data.kind).has_one_shape
  step.get_concrete_function(x if one_shape else data.eval_batches("train", batch).element_spec)
  for _ in range(2):  # the memory that later steps use again
    step(x)
  return lambda: float(step(x)["loss"])


def timed(updates: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
  """Processor seconds of each update, by name, one per round; the rounds go through all updates in turn."""
  seconds = {name: [] for name in updates}
  for _ in range(rounds):
    for name, run in updates.items():
      start = time.process_time()
      run()
      seconds[name].append(time.process_time() - start)
  return seconds


if __name__ == "__main__":
  sys.path.insert(0, os.getcwd())
  app.run(main)
