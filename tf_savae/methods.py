"""The training methods: one class for each row of the paper's tables.

A method says which parts of a model it uses, and computes one loss from the results of inference. The gradient of that
loss with respect to the decoder's variables θ and the inference variables φ is the method's update. If θ and φ have
different objectives, the loss is their sum, and each term reaches only its own variables.

Nothing here imports TensorFlow, because flags check the names of methods.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from tf_savae.registry import Registry

if TYPE_CHECKING:
  import tensorflow as tf

  from tf_savae.inference import Inferred

__all__ = ["METHODS", "SVI", "VAE", "VAESVI", "VAESVIKL", "Autoreg", "Method", "SemiAmortized"]

#: What the bound at λ_K is in training: the ELBO, or an importance-weighted bound of `tf_savae.importance`.
OBJECTIVES = ("elbo", "iwae", "buffered")

#: What a weighted L(λ_0) trains beside L(λ_K): φ alone, or φ and θ.
INITIAL_LOSS_TRAINS = ("encoder", "both")


class Method(abc.ABC):
  """A row of the paper's tables. The attributes say which parts of a model it uses; losses are nats per example.

  Attributes:
    label: name of the row in the paper's tables; `{k}` stands for K.
    has_latent: whether there is a z.
    has_encoder: whether λ_0 comes from an encoder.
    refines: whether the posterior is λ_K rather than λ_0.
    differentiates: whether gradients pass through the refinement, including those of its step sizes.
    trains_encoder_on_initial: whether L(λ_0) is part of the loss, as a loss of φ alone.

  Example:
    A method of one's own:

    >>> from tf_savae.methods import METHODS, VAESVI
    >>> class Both(VAESVI):
    ...   label = "VAE+SVI 1+2"
    ...   def loss(self, inferred):
    ...     return super().loss(inferred) + inferred.start.kl_to(inferred.params)
    >>> "savae" in METHODS
    True
  """

  label: str
  has_latent = True
  has_encoder = True
  refines = True
  differentiates = False
  trains_encoder_on_initial = False

  @property
  def learns_step_size(self) -> bool:
    """Whether step sizes can be trained."""
    return self.differentiates

  @property
  def weighs_initial_loss(self) -> bool:
    """Whether a weighted L(λ_0) may be added for φ."""
    return self.differentiates

  @abc.abstractmethod
  def loss(self, inferred: Inferred) -> tf.Tensor:
    """The loss that trains θ and φ, `[batch]`, nats."""


class Autoreg(Method):
  """No latent variable: −log p(x). "Gated PixelCNN" and "LM" in the paper's tables.

  Example:
    >>> from tf_savae.methods import METHODS
    >>> METHODS.get("autoreg").has_latent
    False
  """

  label = "Language model"
  has_latent = has_encoder = refines = False

  def loss(self, inferred):
    return inferred.final.nll


class VAE(Method):
  """Amortised inference: θ and φ by L(λ_0) (Kingma and Welling 2014).

  Example:
    >>> from tf_savae.methods import METHODS
    >>> METHODS.get("vae").refines
    False
  """

  label = "VAE"
  refines = False

  def loss(self, inferred):
    return inferred.final.weighted(inferred.beta)


class SVI(Method):
  """K steps from a random λ_0 ~ 0.1 · N(0, I), no encoder; θ by L(λ_K) at constant λ_K (Hoffman et al. 2013).

  Example:
    >>> from tf_savae.methods import METHODS
    >>> METHODS.get("svi").has_encoder
    False
  """

  label = "SVI K={k}"
  has_encoder = False

  def loss(self, inferred):
    return inferred.final.weighted(inferred.beta)


class VAESVI(Method):
  """θ by L(λ_K) at constant λ_K, φ by L(λ_0). "VAE+SVI 1" in the tables (Krishnan et al. 2018).

  Example:
    >>> from tf_savae.methods import METHODS
    >>> METHODS.get("vae_svi").trains_encoder_on_initial
    True
  """

  label = "VAE+SVI 1"
  trains_encoder_on_initial = True

  def loss(self, inferred):
    return inferred.final.weighted(inferred.beta) + inferred.initial_loss


class VAESVIKL(Method):
  """θ by L(λ_K), φ by KL(q_λ0 ‖ q_λK), λ_K constant in both. "VAE+SVI 2" in the tables (Hjelm et al. 2016).

  Example:
    >>> from tf_savae.methods import METHODS
    >>> METHODS.get("vae_svi_kl").differentiates
    False
  """

  label = "VAE+SVI 2"

  def loss(self, inferred):
    return inferred.final.weighted(inferred.beta) + inferred.start.kl_to(inferred.params)


class SemiAmortized(Method):
  """θ and φ by the total derivative of L(λ_K), through all K steps: "SA-VAE" (Kim et al. 2018).

  With the model's `initial_loss_weight` w, φ is also trained by w L(λ_0). This helps when the refinement forgets its
  starting point, because then little of the gradient of L(λ_K) reaches the encoder. With `initial_loss_trains="both"`
  the loss of θ and φ is L(λ_K) + w L(λ_0), so the decoder also fits the codes that the encoder gives without steps. A
  loss at points before the last one is deep supervision (Lee et al. 2015). Marino et al. (2018) train iterative
  inference in that way.

  Example:
    >>> from tf_savae.methods import METHODS
    >>> METHODS.get("savae").differentiates
    True
  """

  label = "SA-VAE K={k}"
  differentiates = True

  def loss(self, inferred):
    loss = inferred.final.weighted(inferred.beta)
    return loss if inferred.initial_loss is None else loss + inferred.initial_loss


#: Methods by name: what `SAVAE(method=...)` and `--model` accept.
METHODS: Registry[Method] = Registry("method")
METHODS.register("autoreg", Autoreg())
METHODS.register("vae", VAE())
METHODS.register("svi", SVI())
METHODS.register("vae_svi", VAESVI())
METHODS.register("vae_svi_kl", VAESVIKL())
METHODS.register("savae", SemiAmortized())


def get(name: str) -> Method:
  """The method for a name in `METHODS`. Raises ValueError for an unknown name."""
  return METHODS.get(name)
