"""Encoder → refinement → loss between real networks: what tests of the adjoint differentiate."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tests import tiny
from tf_savae.objective import NegELBO
from tf_savae.posterior import GaussianParams
from tf_savae.svi import SVISettings
from tf_savae.svi.refine import refine

BETA = 0.7


class Links(NamedTuple):
  """What a chain computed: λ_0, what the loss is conditioned on, λ_0 … λ_K, and L(λ_K) `[batch]`."""

  initial: GaussianParams
  conditions: tuple
  trajectory: GaussianParams
  loss: tf.Tensor


class Chain:
  """Networks with a refinement between them.

  Args:
    networks: encoder, decoder and x.
    dtype: of λ and noise.
    training: whether dropout and batch statistics are on.
    in_closed_form: whether L takes its expectation over z in closed form.
  """

  def __init__(
    self, networks: tuple, dtype: str = "float64", training: bool = False, in_closed_form: bool = False
  ):
    self.encoder, self.decoder, self.x = networks
    self.dtype, self.training = dtype, training
    self.objective = NegELBO(self.decoder, in_closed_form=in_closed_form)
    self.beta = tf.constant(BETA, dtype)

  def precompute(self, x: tf.Tensor | None = None) -> tuple:
    """The decoder's context, with the same masks every time."""
    return self.decoder.precompute(self.x if x is None else x, training=self.training, seed=tiny.SEED)

  def encode(self, x: tf.Tensor | None = None) -> GaussianParams:
    """λ_0."""
    return tiny.encode(self.encoder, self.x if x is None else x, training=self.training)

  def noise(self, *shape: int, seed: int) -> tf.Tensor:
    """Fixed noise `[*shape, batch, latent]`."""
    return tiny.normal(*shape, tiny.BATCH, tiny.LATENT, seed=seed, dtype=self.dtype)

  def links(self, settings: SVISettings, noise, final_noise, adjoint="exact", x=None, context=None) -> Links:
    """All that there is between x and the loss."""
    x = self.x if x is None else x
    conditions = (x, self.beta, self.precompute(x) if context is None else context)
    initial = self.encode(x)
    params, trajectory = refine(
      self.objective, initial, settings, noise=noise, context=conditions, adjoint=adjoint
    )
    return Links(initial, conditions, trajectory, self.objective(params, final_noise, *conditions))
