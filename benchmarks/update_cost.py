"""What a training update costs against one of a VAE: `taskset -c 0 python -m benchmarks.update_cost --workload=text`.

All methods are built in one process and take their updates in turn, so that what slows the machine down slows all of
them. The figures are medians of processor time; only their ratios can be compared between runs. Refinement is by the
natural gradient with one antithetic pair of draws per step.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

from absl import app, flags

from benchmarks import workloads

_WORKLOAD = flags.DEFINE_enum("workload", "text", ["image", "text"], "as of benchmarks.step")
_SIZES = flags.DEFINE_enum("sizes", "small", ["paper", "small", "tiny"], "preset of the networks' sizes")
_BATCH = flags.DEFINE_integer("batch", 32, "examples per update", lower_bound=1)
_TOKENS = flags.DEFINE_integer("tokens", 60, "text: tokens of every document", lower_bound=2)
_DECODER = flags.DEFINE_string("decoder", "auto", "as of train.py")
_LATENT_TO = flags.DEFINE_enum("latent_to", "softmax", ["softmax", "state"], "text: as of train.py")
_K = flags.DEFINE_list("k", ["4", "20"], "SVI steps of savae; vae_svi takes the first")
_ADJOINT = flags.DEFINE_string("adjoint", "exact", "of savae, as of train.py")
_UPDATES = flags.DEFINE_integer("updates", 7, "timed updates of each method", lower_bound=1)


def rows(k: list[int]) -> list[tuple[str, int]]:
  """(method, K) of all that is compared; the first is the unit."""
  return [("vae", 0), ("vae_svi", k[0]), *(("savae", num_steps) for num_steps in k)]


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  os.environ.setdefault("OMP_NUM_THREADS", "1")
  from tf_savae import startup

  startup.import_tensorflow()
  import tensorflow as tf

  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  compared = rows(list(map(int, _K.value)))
  seconds = _measure([_update(tf, *row) for row in compared])
  for (method, num_steps), each in zip(compared, seconds, strict=True):
    ratio = each / seconds[0]
    print(f"{method:8} K={num_steps:<3} {1000 * each:8.1f} ms  {ratio:5.2f} VAE updates", flush=True)


def _update(tf, method, num_steps):
  """A function that takes one update of a model and waits for it."""
  from tf_savae.kind import KINDS
  from tf_savae.runs.build import build_model

  own = {"latent_to": _LATENT_TO.value} if _WORKLOAD.value == "text" else {}
  config = workloads.config_of(
    _WORKLOAD.value,
    _BATCH.value,
    _SIZES.value,
    model=method,
    k=num_steps,
    decoder=_DECODER.value,
    adjoint=_ADJOINT.value,
    svi_rule="natural",
    svi_noise="antithetic",
    svi_samples=2,
    svi_lr=0.1,
    **own,
  )
  data = workloads.random_data(config, _TOKENS.value)
  model = build_model(config, data)
  x = tf.constant(data.examples("train", config.batch_size))
  step = tf.function(model.train_step, autograph=False)
  one_shape = KINDS.get(data.kind).has_one_shape
  spec = x if one_shape else data.eval_batches("train", config.batch_size).element_spec
  step.get_concrete_function(spec)
  return lambda: float(step(x)["loss"])


def _measure(updates):
  """Median processor seconds of each, after two updates that warm up."""
  seconds = [[] for _ in updates]
  for i in range(_UPDATES.value + 2):
    for update, times in zip(updates, seconds, strict=True):
      start = time.process_time()
      update()
      if i >= 2:
        times.append(time.process_time() - start)
  return list(map(statistics.median, seconds))


if __name__ == "__main__":
  sys.path.insert(0, os.getcwd())
  app.run(main)
