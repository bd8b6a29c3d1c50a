"""One JSON line about a training step: `python -m benchmarks.step --workload=image --k=5 --batch=10`.

It has seconds per step (median, minimum, maximum), peak memory, tracing and first-step time, graph nodes. The step is
the one that `fit` runs: refinement, gradients, clipping, optimiser, metrics. To compare two programs, run them in turn
on the same pinned cores and compare ratios: absolute times move with the machine.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time

from absl import app, flags

from benchmarks import workloads

_WORKLOAD = flags.DEFINE_enum(
  "workload",
  "image",
  ["image", "text", "synthetic"],
  "image and text: the paper's networks; synthetic: the paper's small LSTM",
)
_METHOD = flags.DEFINE_string("method", "savae", "a training method of tf_savae.methods")
_ADJOINT = flags.DEFINE_string("adjoint", "exact", "an adjoint mode of tf_savae.svi.adjoint")
_SIZES = flags.DEFINE_enum("sizes", "paper", ["paper", "small", "tiny"], "preset of the networks' sizes")
_PRECISION = flags.DEFINE_string("precision", "float32", "as of train.py")
_K = flags.DEFINE_integer("k", 5, "SVI steps", lower_bound=0)
_BATCH = flags.DEFINE_integer(
  "batch", None, "examples per step (default 10 for image, 4 for text, 50 for synthetic)", lower_bound=1
)
_TOKENS = flags.DEFINE_integer("tokens", 80, "text: tokens of every document", lower_bound=2)
_DECODER = flags.DEFINE_string("decoder", "auto", "auto, or for text lstm or dilated_conv")
_STEPS = flags.DEFINE_integer("steps", 5, "timed steps", lower_bound=1)
_THREADS = flags.DEFINE_integer(
  "threads", 1, "threads within an operation, and operations at once", lower_bound=1
)
_ANY_BATCH = flags.DEFINE_bool(
  "any_batch", False, "trace for any number of examples, as train.py does (always so for text)"
)
_JIT = flags.DEFINE_enum("jit_compile", "auto", ["auto", "true", "false"], "XLA; auto as in training")


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  os.environ.setdefault("OMP_NUM_THREADS", str(_THREADS.value))
  from tf_savae import startup

  startup.import_tensorflow()
  import tensorflow as tf

  tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
  tf.config.threading.set_inter_op_parallelism_threads(_THREADS.value)
  print(json.dumps(measure(tf)), flush=True)


def measure(tf) -> dict:
  """Runs the step and returns the figures."""
  from tf_savae.kind import KINDS
  from tf_savae.runs.build import build_model

  config = workloads.config_of(
    _WORKLOAD.value,
    _BATCH.value,
    _SIZES.value,
    model=_METHOD.value,
    adjoint=_ADJOINT.value,
    precision=_PRECISION.value,
    k=_K.value,
    decoder=_DECODER.value,
    jit_compile=_JIT.value,
  )
  data = workloads.random_data(config, _TOKENS.value)
  model = build_model(config, data)
  x = tf.constant(data.examples("train", config.batch_size))
  # Documents come in many lengths: their step is traced for any.
  any_size = _ANY_BATCH.value or not KINDS.get(data.kind).has_one_shape
  spec = data.eval_batches("train", config.batch_size).element_spec if any_size else x
  step = tf.function(model.train_step, autograph=False, jit_compile=model.jit_compile or None)

  start = time.perf_counter()
  graph = step.get_concrete_function(spec).graph.as_graph_def()
  traced = time.perf_counter() - start
  nodes = len(graph.node) + sum(len(f.node_def) for f in graph.library.function)
  step(x)
  first = time.perf_counter() - start
  seconds, cpu = [], []
  for _ in range(_STEPS.value):
    start, cpu_start = time.perf_counter(), time.process_time()
    loss = float(step(x)["loss"])  # waits for the step
    seconds.append(time.perf_counter() - start)
    cpu.append(time.process_time() - cpu_start)
  return {
    "workload": _WORKLOAD.value,
    "method": config.model,
    "adjoint": config.adjoint,
    "precision": config.precision,
    "k": config.k,
    "batch": config.batch_size,
    "decoder": config.decoder_name,
    "threads": _THREADS.value,
    "jit_compile": bool(model.jit_compile),
    "step_seconds": round(statistics.median(seconds), 4),
    "step_seconds_min": round(min(seconds), 4),
    "step_seconds_max": round(max(seconds), 4),
    "step_cpu_seconds": round(statistics.median(cpu), 4),
    "trace_seconds": round(traced, 2),
    "trace_and_first_step_seconds": round(first, 2),
    "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    "graph_nodes": nodes,
    "steps": _STEPS.value,
    "loss": loss,
  }


if __name__ == "__main__":
  sys.path.insert(0, os.getcwd())
  app.run(main)
