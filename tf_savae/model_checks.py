"""Checks that the parts and numbers of a `SAVAE` fit together."""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_savae.methods import INITIAL_LOSS_TRAINS, OBJECTIVES
from tf_savae.posterior import GaussianParams
from tf_savae.svi.noise import AtMean


def check(model: Any, encoder: Any, learn_step_size: str) -> None:
  """Checks a model and raises an error if it is impossible.

  Args:
    model: a `SAVAE` with its method, networks and numbers set.
    encoder: the encoder that was given, even if the method has none.
    learn_step_size: which step sizes are to be trained.

  Raises:
    ValueError: a value is out of its range, or does not fit the method.
  """
  for wrong, rule, received in (
    *_of_networks(model, encoder),
    *_of_refinement(model, learn_step_size),
    *_of_objective(model),
  ):
    if wrong:
      raise ValueError(f"{rule}. Received: {received}")


def _of_networks(model, encoder):
  """Tuples (is wrong, what must hold, what was received) for networks, loss and update."""
  method, name, latent_dim = model.method, f"The method {model.method_name!r}", model.latent_dim
  has_latent, clip_norm = method.has_latent, model.global_clip_norm
  decoder, low_precision = model.decoder, model.adjoint.compute_dtype
  return (
    (method.has_encoder and encoder is None, f"{name} needs an encoder", "encoder=None"),
    (has_latent and not latent_dim, f"{name} needs a decoder with a latent", "latent_dim=0"),
    (not has_latent and latent_dim, f"{name} needs a decoder without latent", f"latent_dim={latent_dim}"),
    (
      model.free_bits and not model.family.kl_in_closed_form,
      "Free bits are of each latent, which needs a posterior whose KL has a closed form; free_bits must be 0",
      f"free_bits={model.free_bits}, posterior={type(model.family).__name__}",
    ),
    (
      has_latent and isinstance(model.svi.noise_draws, AtMean) and not model.family.kl_in_closed_form,
      "A posterior whose KL takes draws needs steps with noise: draws independent, antithetic or signs",
      f"draws={model.svi.draws!r}, posterior={type(model.family).__name__}",
    ),
    (
      has_latent and model.svi.noise_draws.in_closed_form and model.family.kind is not GaussianParams,
      "A decoder integrates over a diagonal Gaussian in closed form; draws must be independent or antithetic",
      f"draws={model.svi.draws!r}, posterior={type(model.family).__name__}",
    ),
    (
      model.family.trained and not has_latent,
      "A model without latent has no posterior; posterior must be 'diagonal'",
      f"method={model.method_name!r}, posterior={type(model.family).__name__}",
    ),
    (
      model.family.trained and getattr(model.family, "network", None) is not None,
      "A model makes the network of its posterior family itself; the family's network must be None",
      f"posterior={type(model.family).__name__} with a network",
    ),
    (not model.free_bits >= 0, "free_bits is a number of nats, 0 or more", model.free_bits),
    (
      low_precision and not hasattr(decoder, "computing_in"),
      "An adjoint with a compute_dtype needs a decoder with computing_in, such as a tf_savae.networks.Decoder",
      type(decoder).__name__,
    ),
    (
      has_latent and model.svi.noise_draws.in_closed_form and not hasattr(decoder, "expected_log_prob"),
      f"draws={model.svi.draws!r} need a decoder with expected_log_prob, such as late_pixelcnn for images",
      type(decoder).__name__,
    ),
    (
      clip_norm is not None and not clip_norm > 0,
      "global_clip_norm must be positive, or None for no clipping",
      clip_norm,
    ),
  )


def _of_refinement(model, learn_step_size):
  """The same for steps and step sizes."""
  sizes = np.shape(model.svi.step_size)
  method, received, weight = model.method, f"method={model.method_name!r}", model.initial_loss_weight
  rule = model.svi.step_rule
  return (
    (
      learn_step_size != "none" and not method.learns_step_size,
      "Only a method that differentiates through the refinement can learn its step size",
      f"{received}, learn_step_size={learn_step_size!r}",
    ),
    (
      not weight >= 0 or (weight and not method.weighs_initial_loss),
      "initial_loss_weight is 0 or more, and 0 but for a method that is trained through the refinement",
      f"{received}, initial_loss_weight={weight}",
    ),
    (
      model.initial_loss_trains not in INITIAL_LOSS_TRAINS,
      f"initial_loss_trains is one of {', '.join(INITIAL_LOSS_TRAINS)}",
      repr(model.initial_loss_trains),
    ),
    (
      model.initial_loss_trains == "both" and not weight,
      "initial_loss_trains='both' needs an initial_loss_weight above 0",
      f"{received}, initial_loss_weight={weight}",
    ),
    (
      model.k_schedule is not None and not method.refines,
      "A k_schedule is for methods that refine",
      received,
    ),
    (
      len(sizes) > 1 and sizes[-1] not in (1, model.latent_dim),
      f"The last dimension of step_size must be 1 or the decoder's latent_dim={model.latent_dim}",
      f"step_size of shape {list(sizes)}",
    ),
    (
      method.differentiates and method.has_encoder and not model.adjoint.trains_start and not weight,
      "An adjoint that gives λ_0 no gradient needs an initial_loss_weight above 0, which trains the encoder",
      f"adjoint={type(model.adjoint).__name__}, initial_loss_weight=0",
    ),
    (
      rule.trained and not method.learns_step_size,
      "Only a method that differentiates through the refinement can train a rule",
      f"{received}, rule={model.svi.rule!r}",
    ),
    (
      rule.trained and not model.adjoint.trains_start,
      "A rule is trained by an adjoint that gives the steps a gradient",
      f"adjoint={type(model.adjoint).__name__}, rule={model.svi.rule!r}",
    ),
    (
      rule.trained and getattr(rule, "network", None) is not None,
      "A model makes the network of its rule itself; the rule's network must be None",
      f"rule={model.svi.rule!r} with a network",
    ),
    (
      learn_step_size != "none" and not model.adjoint.trains_start,
      "Step sizes are learned by an adjoint that gives them a gradient",
      f"adjoint={type(model.adjoint).__name__}, learn_step_size={learn_step_size!r}",
    ),
    (model.eval_k < 0, "eval_k is a number of SVI steps, 0 or more", model.eval_k),
    (
      model.eval_k and not method.has_latent,
      "Without latent there is nothing to refine",
      f"eval_k={model.eval_k}",
    ),
  )


def _of_objective(model):
  """The same for the bound in training."""
  name, method = model.objective, model.method
  weighted = name != "elbo"
  return (
    (name not in OBJECTIVES, f"objective is one of {', '.join(OBJECTIVES)}", repr(name)),
    (not model.iwae_samples >= 1, "iwae_samples is 1 or more", model.iwae_samples),
    (
      weighted and not method.has_latent,
      f"objective={name!r} needs a method with a latent",
      f"method={model.method_name!r}",
    ),
    (
      weighted and model.free_bits > 0,
      f"objective={name!r} has no KL in closed form, which free_bits are about",
      f"free_bits={model.free_bits}",
    ),
    (
      weighted and model.svi.noise_draws.in_closed_form,
      f"objective={name!r} draws z, and draws without noise leave none",
      f"draws={model.svi.draws!r}",
    ),
    (
      not model.lagging_updates >= 0 or (model.lagging_updates and not method.has_encoder),
      "lagging_updates is 0 or more, and 0 for a method without an encoder",
      f"method={model.method_name!r}, lagging_updates={model.lagging_updates}",
    ),
    (
      bool(model.lagging_updates) and (model.family.trained or model.family.kind is not GaussianParams),
      "lagging_updates needs the mutual information of a diagonal Gaussian",
      f"posterior={model.family!r}, lagging_updates={model.lagging_updates}",
    ),
    (
      name == "buffered" and not (method.refines and model.svi.num_steps),
      "objective='buffered' needs a method that refines, and a step or more",
      f"method={model.method_name!r}, num_steps={model.svi.num_steps}",
    ),
  )
