"""Posteriors of given examples before and after refinement, and the bound at every step between."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_savae.model import SAVAE
from tf_savae.posterior import GaussianParams


class Posteriors(NamedTuple):
  """What inference gives for n examples, as arrays.

  Attributes:
    initial: λ_0, each `[n, latent]`; None for a method without encoder.
    final: λ_K, each `[n, latent]`.
    bounds: −ELBO in nats at λ_0 … λ_K, one noise draw each, `[K + 1, n]`.
    kl: KL(q_λK ‖ p) in nats, `[n]`.
  """

  initial: GaussianParams | None
  final: GaussianParams
  bounds: np.ndarray
  kl: np.ndarray

  def first(self, n: int) -> Posteriors:
    """Those of the first n examples."""
    initial = None if self.initial is None else GaussianParams(*(part[:n] for part in self.initial))
    final = GaussianParams(*(part[:n] for part in self.final))
    return Posteriors(initial, final, self.bounds[:, :n], self.kl[:n])


class Inference:
  """Infers `Posteriors` with a model's current weights; traced once, for all batches and epochs.

  Args:
    model: a model with a latent; K is its `eval_k`.

  Raises:
    ValueError: the model has no latent.
  """

  def __init__(self, model: SAVAE):
    if not model.latent_dim:
      raise ValueError(f"The method {model.method_name!r} has no posterior.")
    self._model = model
    self._traced = tf.function(self._infer, autograph=False, reduce_retracing=True)

  def __call__(self, x: np.ndarray, batch_size: int = 100) -> Posteriors:
    """Posteriors of examples x `[n, ...]`, with the noise that `evaluate` gives them for the same batch size."""
    parts = [
      self._traced(tf.constant(x[i : i + batch_size]), tf.constant(i, tf.int64))
      for i in range(0, len(x), batch_size)
    ]
    initial, final, bounds, kl = zip(*parts, strict=True)
    return Posteriors(
      _concat_params(initial) if self._model.method.has_encoder else None,
      _concat_params(final),
      np.concatenate([part.numpy() for part in bounds], axis=1),
      np.concatenate([part.numpy() for part in kl]),
    )

  def _infer(self, x, seen):
    batch = self._model.evaluation_batch(x, step=seen)
    final, initial, path = self._model.posterior(batch)
    bound = batch.bound(final)
    bounds = bound.neg_elbo[tf.newaxis]  # [1, batch]
    if path is not None:
      bounds = tf.concat([path, bounds], axis=0)
    return initial, final, bounds, bound.kl


def _concat_params(parts: tuple[GaussianParams, ...]) -> GaussianParams:
  return GaussianParams(*(np.concatenate([p.numpy() for p in part]) for part in zip(*parts, strict=True)))
