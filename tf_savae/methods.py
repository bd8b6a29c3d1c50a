"""The training methods: every row of the paper's tables, one class a row.

A method maps a batch to one loss, whose gradient with respect to the decoder's variables θ and the inference
variables φ together is the method's update, and to the bounds to report. Where θ and φ have different objectives, the
loss is their sum, and each term is built so that it reaches its own variables only.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tf_savae.objective import Batch, Bound
from tf_savae.posterior import GaussianParams


class Losses(NamedTuple):
  """What a method makes of a batch; all tensors per example, nats.

  Attributes:
    loss: its gradient trains θ and φ, `[batch]`.
    initial: bound at λ_0; None where λ_0 does not come from an encoder.
    final: bound at the λ that the decoder is trained on.
    path: L(λ_k; ε_k) along the refinement, `[K, batch]`, β-weighted; None without refinement.
  """

  loss: tf.Tensor
  initial: Bound | None
  final: Bound
  path: tf.Tensor | None


class Method:
  """A row of the table. The attributes say what of a model it uses."""

  has_latent = True
  has_encoder = True
  refines = True  # posterior is λ_K rather than λ_0
  learns_step_size = False  # gradients reach α
  weighs_initial_loss = False  # L(λ_0) may be added for φ

  def initial(self, batch: Batch) -> GaussianParams | None:
    """λ_0."""
    return batch.encode()

  def losses(self, batch: Batch) -> Losses:
    """The losses and bounds of a batch."""
    raise NotImplementedError


class Autoreg(Method):
  """No latent variable: −log p(x). "Gated PixelCNN" and "LM" in the tables."""

  has_latent = has_encoder = refines = False

  def initial(self, batch):
    return None

  def losses(self, batch):
    final = batch.bound(None)
    return Losses(final.nll, None, final, None)


class VAE(Method):
  """Amortised inference: θ and φ by L(λ_0) (Kingma and Welling 2014)."""

  refines = False

  def losses(self, batch):
    final = batch.bound(batch.encode())
    return Losses(final.weighted(batch.beta), final, final, None)


class SVI(Method):
  """K steps from a random λ_0 ~ 0.1 · N(0, I), no encoder; θ by L(λ_K) at constant λ_K (Hoffman et al. 2013)."""

  has_encoder = False

  def initial(self, batch):
    return batch.random_initial(scale=0.1)

  def losses(self, batch):
    params, _, path = batch.refine(self.initial(batch), adjoint=None)
    final = batch.bound(params)
    return Losses(final.weighted(batch.beta), None, final, path)


class VAESVI(Method):
  """θ by L(λ_K) at constant λ_K, φ by L(λ_0). "VAE+SVI 1" in the tables (Krishnan et al. 2018)."""

  def losses(self, batch):
    start = batch.encode()
    params, _, path = batch.refine(start, adjoint=None)
    initial, final = batch.bound(start), batch.bound(params)
    return Losses(final.weighted(batch.beta) + batch.loss_of(start), initial, final, path)


class VAESVIKL(Method):
  """θ by L(λ_K), φ by KL(q_λ0 ‖ q_λK), λ_K constant in both. "VAE+SVI 2" in the tables (Hjelm et al. 2016)."""

  def losses(self, batch):
    start = batch.encode()
    params, _, path = batch.refine(start, adjoint=None)
    final = batch.bound(params)
    return Losses(final.weighted(batch.beta) + start.kl_to(params), batch.bound(start), final, path)


class SAVAE(Method):
  """θ and φ by the total derivative of L(λ_K), through all K steps (Kim et al. 2018).

  With the model's `initial_loss_weight` w, φ also by w L(λ_0): a refinement may forget where it began, and then little
  of L(λ_K) reaches the encoder.
  """

  learns_step_size = True
  weighs_initial_loss = True

  def losses(self, batch):
    start = batch.encode()
    params, _, path = batch.refine(start, adjoint=batch.model.adjoint)
    final = batch.bound(params)
    loss, weight = final.weighted(batch.beta), batch.model.initial_loss_weight
    if weight:
      loss += weight * batch.loss_of(start)
    return Losses(loss, batch.bound(start), final, path)


METHODS: dict[str, Method] = {
  "autoreg": Autoreg(),
  "vae": VAE(),
  "svi": SVI(),
  "vae_svi": VAESVI(),
  "vae_svi_kl": VAESVIKL(),
  "savae": SAVAE(),
}


def get(name: str) -> Method:
  """The method of a name in `METHODS`. Raises ValueError for another."""
  if name not in METHODS:
    raise ValueError(f"Unknown method; the names are {', '.join(METHODS)}. Received: {name!r}")
  return METHODS[name]
