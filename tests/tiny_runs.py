"""Data, models and runs of a handful of weights and steps, trained the way `training.run` does: a `fit` an epoch."""

from __future__ import annotations

import keras
import numpy as np

from tf_savae import SAVAE, SVISettings, data, networks
from tf_savae.data import images_from_arrays

LATENT = 3
BATCH = 4


def image_data(train: int = 12, valid: int = 10, is_stand_in: bool = False):
  """8×8 images with a bright or dark upper half."""
  rng = np.random.default_rng(0)

  def grey(n):
    x = np.full((n, 8, 8), 0.2)
    x[rng.random(n) < 0.5, :4] = 0.9
    return x

  source = "made up: a small stand-in" if is_stand_in else "made up"
  return images_from_arrays(grey(train), grey(valid), grey(6), source=source, is_stand_in=is_stand_in)


def token_data():
  """Sequences of 3 tokens of a vocabulary of 5."""
  sizes = {"vocab_size": 5, "length": 3, "hidden": 4, "embedding": 4}
  return data.load("synthetic", data_dir="unused", seed=0, num_examples=12, **sizes)


def image_model(method: str = "savae", k: int = 2, eval_k: int | None = None, **kwargs) -> SAVAE:
  """A compiled model for `image_data`."""
  has_latent = method != "autoreg"
  encoder = None if method in ("autoreg", "svi") else networks.ResNetEncoder(LATENT, (3,))
  decoder = networks.GatedPixelCNN(LATENT if has_latent else 0, 3, (3, 3), 1, (8, 8, 1))
  return _compiled(SAVAE(encoder, decoder, method, SVISettings(k, 0.02), eval_k=eval_k, **kwargs))


def token_model(method: str = "savae", k: int = 2) -> SAVAE:
  """A compiled model for `token_data`."""
  return _compiled(
    SAVAE(networks.LSTMEncoder(5, 2, 4, 4), networks.LSTMDecoder(5, 2, 4, 4), method, SVISettings(k, 0.02))
  )


def fit_epoch(
  model: SAVAE, dataset, epoch: int, callbacks: list, start: int = 0, validate: bool = True
) -> dict:
  """One epoch from its batch number `start` on; returns the logs of its end."""
  steps = dataset.steps_per_epoch(BATCH)
  history = model.fit(
    dataset.train_batches(BATCH, epoch * steps + start, steps - start),
    initial_epoch=epoch,
    epochs=epoch + 1,
    validation_data=dataset.eval_batches("valid", BATCH) if validate else None,
    shuffle=False,
    verbose=0,
    callbacks=callbacks,
  )
  return {name: values[0] for name, values in history.history.items()}


def _compiled(model):
  model.compile(optimizer=keras.optimizers.Adam(1e-2), jit_compile=False)
  return model
