"""A process of `benchmarks.distributed`: makes as many updates as each line of its input says."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main(settings: dict[str, Any]) -> None:
  from tf_savae import startup

  startup.import_tensorflow()
  import tensorflow as tf

  from benchmarks import workloads
  from tf_savae.runs.build import build_model
  from tf_savae.training import team

  devices, threads = settings["devices"], settings["threads"]
  tf.config.threading.set_intra_op_parallelism_threads(threads)
  tf.config.threading.set_inter_op_parallelism_threads(devices)
  config = workloads.config_of(
    *(settings[name] for name in ("workload", "batch", "sizes")),
    model=settings["method"],
    cpu_devices=devices,
    strategy="mirrored" if devices > 1 else "auto",
    jit_compile="false",
  )
  run = team.of_run(config)
  data = workloads.random_data(config, 40)
  with run.scope():
    model = build_model(config, data)
  x = tf.data.Dataset.from_tensors(
    tf.nest.map_structure(tf.constant, data.examples("train", settings["batch"]))
  )
  batches = iter(run.shared(x.repeat()))

  @tf.function(autograph=False)
  def step(batches):
    batch = next(batches)
    if run.strategy is None:
      return model.train_step(batch)["loss"]
    return run.strategy.experimental_local_results(run.strategy.run(model.train_step, (batch,)))[0]["loss"]

  graph = step.get_concrete_function(batches).graph
  for _ in range(2):  # the memory that later steps use again
    float(tf.squeeze(step(batches)))
  parameters = sum(int(tf.size(v.value)) for v in model.trainable_variables)
  print(json.dumps({"bytes": summed_bytes(graph) // devices, "parameters": parameters}), flush=True)
  for line in sys.stdin:
    begun, processor = time.perf_counter(), time.process_time()
    for _ in range(int(line)):
      loss = step(batches)
    float(tf.squeeze(loss))
    took = {"seconds": time.perf_counter() - begun, "processor": time.process_time() - processor}
    print(json.dumps(took), flush=True)


def summed_bytes(graph: Any) -> int:
  """Bytes that the devices of this process give to sums over all devices, in one call of a graph."""
  functions = [function.graph for function in graph._functions.values() if hasattr(function, "graph")]
  total = 0
  for operation in (operation for each in (graph, *functions) for operation in each.get_operations()):
    if operation.type.startswith(("CollectiveReduce", "NcclAllReduce")):
      tensor = operation.inputs[0]
      total += (tensor.shape.num_elements() or 0) * tensor.dtype.size
  return total


if __name__ == "__main__":
  main(json.loads(sys.argv[1]))
