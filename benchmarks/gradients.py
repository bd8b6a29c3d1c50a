"""Our gradients at a point, for comparison: `python -m benchmarks.gradients --workload=image --k=2 --dump=G.npz …`.

With --write_point it also makes the point (weights, a batch, noise and settings), which the peers read. Dropout is off,
because the peers draw its masks with other generators.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
from absl import app, flags

from benchmarks import points, workloads
from benchmarks.named_weights import named_variables

_WORKLOAD = flags.DEFINE_enum("workload", "image", list(workloads.WORKLOADS), "which model")
_SIZES = flags.DEFINE_enum("sizes", "paper", ["paper", "small", "tiny"], "of the networks")
_ADJOINT = flags.DEFINE_string("adjoint", "exact", "an adjoint mode of tf_savae.svi.adjoint")
_PRECISION = flags.DEFINE_string("precision", "float32", "float64, or as of train.py")
_RADIUS = flags.DEFINE_float("radius", 1e-5, "r of --adjoint=finite_difference")
_K = flags.DEFINE_integer("k", 5, "SVI steps", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch", None, "examples (default: the workload's own)", lower_bound=1)
_TOKENS = flags.DEFINE_integer("tokens", 80, "text: tokens of every document", lower_bound=2)
_THREADS = flags.DEFINE_integer("threads", 1, "threads within an operation", lower_bound=1)
_CLIP_NORM = flags.DEFINE_float(
  "clip_norm", 0.0, "with --write_point: largest norm of an example's gradient in the refinement; 0: off", 0.0
)
_WRITE_POINT = flags.DEFINE_string("write_point", None, "makes a point and writes it to this file")
_POINT = flags.DEFINE_string("point", None, "the point to take")
_DUMP = flags.DEFINE_string("dump", None, "where the loss and the gradients go", required=True)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  if (_WRITE_POINT.value is None) == (_POINT.value is None):
    raise app.UsageError("either --write_point or --point")
  os.environ.setdefault("OMP_NUM_THREADS", str(_THREADS.value))
  from tf_savae import startup

  startup.import_tensorflow()
  import tensorflow as tf

  tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  print(json.dumps(run()), flush=True)


def run() -> dict:
  """Writes the files that the flags ask for; what it did, in short."""
  import keras

  from tf_savae.runs.build import build_model

  double = _PRECISION.value == "float64"
  settings = {} if double else {"precision": _PRECISION.value}
  config = workloads.config_of(
    _WORKLOAD.value,
    _BATCH.value,
    _SIZES.value,
    k=_K.value,
    adjoint=_ADJOINT.value,
    fd_radius=_RADIUS.value,
    dropout=0.0,
    **workloads.as_in_paper(_WORKLOAD.value, _SIZES.value),
    **settings,
  )
  if double:
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    object.__setattr__(config, "precision", "float64")  # which is no setting of training
  data = workloads.random_data(config, _TOKENS.value)
  model = build_model(config, data)
  if _WRITE_POINT.value:
    point = make_point(model, config, np.asarray(data.examples("train", config.batch_size)))
    points.write(_WRITE_POINT.value, point)
  else:
    point = points.read(_POINT.value)
    variables = named_variables(model)
    for name, value in point.named_weights.items():
      variables[name].assign(value)
  loss, at_start, gradients, step_sizes = gradients_at(model, point)

  def of(network):
    return {n.removeprefix(f"{network}/"): g for n, g in gradients.items() if n.startswith(network)}

  points.write_gradients(_DUMP.value, loss, at_start, of("encoder"), of("decoder"), step_sizes)
  return {"workload": _WORKLOAD.value, "adjoint": config.adjoint, "precision": _PRECISION.value, "loss": loss}


def make_point(model, config, x: np.ndarray) -> points.Point:
  """A point at the model's weights, of numbers that float32 has."""
  rng = np.random.default_rng(0)
  noise = rng.standard_normal([config.k + 1, config.batch_size, config.latent_dim]).astype(np.float32)
  weights = {n: np.asarray(v.numpy(), np.float32) for n, v in named_variables(model).items()}
  for name, variable in named_variables(model).items():
    variable.assign(weights[name])
  return points.Point(
    x=x,
    noise=noise,
    step_sizes=np.full([config.k], config.svi_lr, np.float32),
    momentum=config.svi_momentum,
    clip_norm=_CLIP_NORM.value or None,
    beta=workloads.first_beta(config),
    named_weights=weights,
  )


def gradients_at(
  model, point: points.Point
) -> tuple[float, list[np.ndarray], dict[str, np.ndarray], np.ndarray]:
  """The loss of a training step at `point`, and its gradients: for λ_0, the weights by name, and the step sizes."""
  import tensorflow as tf

  from tf_savae.inference import Inference
  from tf_savae.ops.gradients import dense_gradients
  from tf_savae.svi import SVISettings

  class AtPoint(Inference):
    """Noise of the point; remembers λ_0."""

    @property
    def noise(self):
      return tf.constant(point.noise, model.variable_dtype)

    def encode(self):
      self.encoded = super().encode()
      return self.encoded

  variables = named_variables(model)
  sizes = tf.constant(point.step_sizes, model.variable_dtype)
  settings = SVISettings(len(point.step_sizes), sizes, point.momentum, point.clip_norm)

  @tf.function(autograph=False)
  def gradients():
    with tf.GradientTape() as tape:
      tape.watch(sizes)
      x, options = tf.constant(point.x), {"seed": model.seed, "dtype": model.variable_dtype}
      inference = AtPoint(
        model.encoder, model.decoder, x, settings, beta=point.beta, training=True, **options
      )
      loss = tf.reduce_mean(model.method.loss(model.infer(inference)))
    sources = [*inference.encoded, sizes, *(v.value for v in variables.values())]
    return loss, dense_gradients(tape, loss, sources)

  loss, (mean, log_var, of_sizes, *rest) = gradients()
  by_name = {name: g.numpy() for name, g in zip(variables, rest, strict=True)}
  return float(loss), [mean.numpy(), log_var.numpy()], by_name, of_sizes.numpy()


if __name__ == "__main__":
  sys.path.insert(0, os.getcwd())
  app.run(main)
