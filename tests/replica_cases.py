"""Small models that are trained on one device and on several."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tests import tiny
from tf_savae import SAVAE, SVISettings, networks
from tf_savae.data.dataset import DataSet
from tf_savae.evaluation import bounds, inference_gap, optimum, steps_curve
from tf_savae.runs import checkpoints
from tf_savae.training.team import Team

UPDATES = 50
EXAMPLES, BATCH = 13, 5  # each third batch has 3
LATENT = 3  # gaps of two would also be computed on a grid, which takes long to trace


class Case(NamedTuple):
  """What is trained."""

  kind: str
  method: str
  adjoint: str = "exact"
  dtype: str = "float64"


CASES = {
  "image-vae": Case("image", "vae"),
  "image-vae-float32": Case("image", "vae", dtype="float32"),
  "image-vae_svi": Case("image", "vae_svi"),
  "image-savae-exact": Case("image", "savae"),
  "image-savae-stored": Case("image", "savae", adjoint="stored"),
  "text-vae": Case("text", "vae"),
  "text-vae_svi": Case("text", "vae_svi"),
  "text-savae-exact": Case("text", "savae"),
  "text-savae-stored": Case("text", "savae", adjoint="stored"),
}


def make(case: Case) -> SAVAE:
  """A model with batch normalisation or with dropout, whose gradients are clipped and whose step sizes are learned."""
  if case.kind == "image":
    encoder = NormalisedEncoder(LATENT, dtype=case.dtype)
    decoder = ImageDecoder(size=16, latent_dim=LATENT, dtype=case.dtype)
  else:
    options = {"init_scale": 0.8, "dtype": case.dtype}
    encoder = networks.BagOfWordsEncoder(8, LATENT, 3, 4, **options)
    if case.method == "vae":  # that is a BN-VAE
      encoder = networks.BatchNormalizedEncoder(encoder, LATENT, 0.5, dtype=case.dtype)
    decoder = networks.TextLSTMDecoder(8, LATENT, 3, 4, dropout=0.3, word_dropout=0.2, **options)
  learns = {"adjoint": case.adjoint, "learn_step_size": "step"} if case.method == "savae" else {}
  svi = SVISettings(2, 0.1, 0.5, 5.0)
  model = SAVAE(encoder, decoder, case.method, svi, global_clip_norm=0.5, seed=3, dtype=case.dtype, **learns)
  model.compile(optimizer=keras.optimizers.SGD(0.02, momentum=0.9))
  return model


class NormalisedEncoder(tiny.PairEncoder):
  """Of images, with batch normalisation."""

  def __init__(self, latent_dim, **kwargs):
    super().__init__(latent_dim, **kwargs)
    self.norm = keras.layers.BatchNormalization(synchronized=True, dtype=self.dtype_policy)

  def call(self, x, training=False):
    return super().call(self.norm(tf.reshape(x, [-1, 16]), training=training))


class ImageDecoder(tiny.MaskedDecoder):
  """Of images `[batch, 4, 4, 1]`, with dropout."""

  def precompute(self, x, training=False, seed=None):
    return super().precompute(tf.reshape(x, [-1, self.size]), training, seed)

  def log_prob(self, x, z, context):
    return super().log_prob(tf.reshape(x, [-1, self.size]), z, context)


def examples(case: Case) -> np.ndarray:
  rng = np.random.default_rng(0)
  if case.kind == "image":
    return rng.integers(2, size=[EXAMPLES, 4, 4, 1]).astype(case.dtype)
  x = rng.integers(4, 8, [EXAMPLES, 5])
  x[:, -1] = 2
  x[::3, 2:] = [2, 0, 0]
  return x.astype("int32")


class Training:
  """A model of a case and its step, on one device or on those of a strategy; traced once."""

  def __init__(self, case: Case, strategy: tf.distribute.Strategy | None):
    keras.backend.clear_session()  # so that names of variables are the same
    self.case, self._team = case, Team(strategy)
    with self._team.scope():
      self.model = model = make(case)
      model.ensure_built(examples(case)[:1])
      model.optimizer.build(model.trainable_variables)

    def step(batches):
      batch = next(batches)
      if strategy is None:
        model.train_step(batch)
      else:
        strategy.run(model.train_step, (batch,))

    self._step = tf.function(step, autograph=False)

  def run(self, first: int, end: int) -> dict[str, np.ndarray]:
    """Updates first to end − 1; returns the variables of model and optimiser by name."""
    batches = tf.data.Dataset.from_tensor_slices(examples(self.case)).batch(BATCH).repeat()
    iterator = iter(self._team.shared(batches.skip(first).take(end - first)))
    for _ in range(first, end):
      self._step(iterator)
    return self.variables()

  def variables(self) -> dict[str, np.ndarray]:
    """Those of model and optimiser by name."""
    return {v.path: v.numpy() for v in [*self.model.variables, *self.model.optimizer.variables]}

  def by_keras(self) -> list[dict[str, Any]]:
    """The history of `fit`, and what `evaluate` and `predict` give."""
    x, model = examples(self.case), self.model
    history = model.fit(x, batch_size=BATCH, epochs=2, shuffle=False, verbose=0).history
    evaluation = model.evaluate(x, batch_size=BATCH, verbose=0, return_dict=True)
    return [
      {name: values[-1] for name, values in history.items()},
      evaluation,
      model.predict(x, batch_size=BATCH, verbose=0),
    ]

  def checkpoints(self, directory: Path) -> checkpoints.Checkpoints:
    """Those of a run."""
    return checkpoints.of_run(directory, self.model)

  def means(self) -> dict[str, float]:
    """The metrics of training so far."""
    return {name: float(value) for name, value in self.model.training_results().items()}


class Thirteen(DataSet):
  """The examples of a case, as its test split."""

  kind, pixels = "image", "binary"

  def __init__(self, case: Case):
    super().__init__(name="thirteen", source="drawn", is_stand_in=True, seed=0)
    self._x = tf.constant(examples(case))

  def num_examples(self, split):
    return EXAMPLES

  def _train_batch(self, rows, step):
    return tf.gather(self._x, rows)

  def _eval_batch(self, split, rows):
    return tf.gather(self._x, rows)


def evaluated(model: SAVAE, data: DataSet, file: Path) -> dict[str, np.ndarray]:
  """What `evaluate`, `sweep` and `gaps` compute for each example."""
  bounds.Evaluator(model, iw_samples=5, bound_samples=4)(data, "test", BATCH, save_to=file)
  found = dict(np.load(file))
  curve = steps_curve.bounds(model, data, "test", (0, 3), 12, BATCH, bound_draws=4)
  found |= {f"{name}_at_{k}": value for k, rows in curve.items() for name, value in rows.items()}
  search = optimum.Search(5, 2, 0.1)
  gaps = inference_gap.per_example(model, data, "test", 12, BATCH, search, bound_draws=4, iw_samples=5)
  return found | {f"gaps_{name}": value for name, value in gaps.items()}


def differences(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, float]:
  """`difference` of each array by name."""
  assert one.keys() == other.keys()
  return {name: difference({name: value}, {name: other[name]}) for name, value in one.items()}


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
  """The largest difference in an array relative to its largest entry, over all arrays.

  Entries count as at least 0.1: a bias before batch normalisation has the gradient 0, and holds rounding errors.
  """
  assert one.keys() == other.keys()
  differences = [np.max(np.abs(a - other[name])) / max(np.max(np.abs(a)), 0.1) for name, a in one.items()]
  return float(max(differences, default=0.0))
