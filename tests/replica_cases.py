"""Small models that are trained on one device and on several virtual ones."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tests import tiny
from tf_savae import SAVAE, SVISettings, networks

UPDATES = 50
EXAMPLES, BATCH = 13, 5  # each third batch has 3


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
  "image-savae": Case("image", "savae"),
  "text-vae": Case("text", "vae"),
  "text-savae-exact": Case("text", "savae"),
  "text-savae-stored": Case("text", "savae", adjoint="stored"),
}


def make(case: Case) -> SAVAE:
  """A model with batch normalisation or with dropout, whose gradients are clipped and whose step sizes are learned."""
  if case.kind == "image":
    encoder = networks.ResNetEncoder(tiny.LATENT, (3,), dtype=case.dtype)
    decoder = ImageDecoder(size=16, dtype=case.dtype)
  else:
    encoder = networks.TextLSTMEncoder(8, tiny.LATENT, 3, 4, dtype=case.dtype)
    decoder = networks.TextLSTMDecoder(8, tiny.LATENT, 3, 4, dropout=0.3, word_dropout=0.2, dtype=case.dtype)
  learns = {"adjoint": case.adjoint, "learn_step_size": "step"} if case.method == "savae" else {}
  svi = SVISettings(2, 0.1, 0.5, 5.0)
  model = SAVAE(encoder, decoder, case.method, svi, global_clip_norm=0.5, seed=3, dtype=case.dtype, **learns)
  model.compile(optimizer=keras.optimizers.Adam(0.003, epsilon=1e-2))
  return model


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


class Result(NamedTuple):
  """What training ended with."""

  variables: dict[str, np.ndarray]
  history: dict[str, float]
  evaluation: dict[str, float]
  posterior: dict[str, np.ndarray]


def train(case: Case, strategy: tf.distribute.Strategy | None) -> Result:
  """50 updates by `fit`, `evaluate` and `predict`."""
  x = examples(case)
  keras.backend.clear_session()  # so that names of variables are the same
  with strategy.scope() if strategy else contextlib.nullcontext():
    model = make(case)
  batches = tf.data.Dataset.from_tensor_slices(x).batch(BATCH).repeat().take(UPDATES)
  history = model.fit(batches, verbose=0).history
  return Result(
    {v.path: v.numpy() for v in [*model.variables, *model.optimizer.variables]},
    {name: values[-1] for name, values in history.items()},
    model.evaluate(x, batch_size=BATCH, verbose=0, return_dict=True),
    model.predict(x, batch_size=BATCH, verbose=0) if case.method == "vae" else {},
  )


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
  """The largest difference in an array relative to its largest entry, over all arrays.

  Entries count as at least 0.1: a bias before batch normalisation has the gradient 0, and holds rounding errors.
  """
  assert one.keys() == other.keys()
  differences = [np.max(np.abs(a - other[name])) / max(np.max(np.abs(a)), 0.1) for name, a in one.items()]
  return float(max(differences, default=0.0))


def compared(name: str, strategy: tf.distribute.Strategy) -> dict[str, float]:
  """How far several devices are from one, and what makes sure that the comparison means something."""
  case = CASES[name]
  one, several = train(case, None), train(case, strategy)
  return dict(zip(Result._fields, map(difference, one, several), strict=True)) | {
    "steps": float(several.variables["savae/step"]),
    "skipped": float(several.variables["savae/skipped"]),
    "gradient_norm": one.history["gradient_norm_decoder"],
  }
