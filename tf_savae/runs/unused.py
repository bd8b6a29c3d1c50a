"""Finds settings that were given but that a run does not use, so that they can be reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from tf_savae import methods
from tf_savae.data.sources import DATASETS
from tf_savae.networks.catalogue import DECODERS, ENCODERS
from tf_savae.posteriors import POSTERIORS
from tf_savae.runs.config import RunConfig
from tf_savae.runs.options import concerns
from tf_savae.svi import DRAWS, RULES

# Settings that are parameters of a part, by the field of the part that takes them.
_OF_RULE = {"svi_momentum": "momentum", "svi_clip_norm": "clip_norm"}
_OF_POSTERIOR = {"iaf_flows": "num_flows", "iaf_hidden": "hidden"}
_OF_ADJOINT = {"adjoint_steps": "steps", "fd_radius": "radius"}
# Settings of the refinement that commands for several methods give to all of them.
_COMMON = ("k", "eval_k")


def unused(config: RunConfig, given: Iterable[str]) -> dict[str, str]:
  """Why each of the settings `given` has no effect on a run, by name; those that have one are left out."""
  found = {}
  for reasons in (
    _by_method(config),
    _by_parts(config),
    _by_networks(config),
    _by_data_set(config),
    _by_kind(config),
    {} if config.init_from else {"init_networks": "no --init_from"},
    {"profile": "--eval_only"} if config.eval_only else {},
    {} if config.objective == "iwae" else {"iwae_samples": f"--objective={config.objective}"},
  ):
    found |= {name: reason for name, reason in reasons.items() if name in given}
  return found


def _by_kind(config):
  fields = dataclasses.fields(config)
  return {f.name: f"--dataset={config.dataset}" for f in fields if not concerns(f, config.kind)}


def _by_data_set(config):
  """Settings of other data sets that neither this one nor a network takes."""
  taken = set(DATASETS.get(config.dataset).settings)
  for catalogue in (DECODERS, ENCODERS):
    taken |= {s for each in catalogue.names(config.kind) for s in catalogue.get(each, config.kind).settings}
  known = {setting for name in DATASETS for setting in DATASETS.get(name).settings}
  return dict.fromkeys(known - taken, f"--dataset={config.dataset}")


def _by_networks(config):
  """Settings of networks for this kind of data that the chosen ones do not take."""
  method, used, known = methods.get(config.model), set(), set()
  chosen = {DECODERS: config.decoder, ENCODERS: config.encoder if method.has_encoder else None}
  for catalogue, name in chosen.items():
    known |= {s for each in catalogue.names(config.kind) for s in catalogue.get(each, config.kind).settings}
    used |= set(catalogue.get(name, config.kind).settings) if name else set()
  decoder = DECODERS.resolve(config.decoder, config.kind)
  return dict.fromkeys(known - used, f"--model={config.model} --decoder={decoder}")


def _by_parts(config):
  rule = set(getattr(RULES.get(config.svi_rule), "__dataclass_fields__", {}))
  adjoint = set(getattr(config.adjoint_type, "__dataclass_fields__", {}))
  posterior = set(getattr(POSTERIORS.get(config.posterior), "__dataclass_fields__", {}))
  return {
    **{
      name: f"--posterior={config.posterior}"
      for name, field in _OF_POSTERIOR.items()
      if field not in posterior
    },
    **{name: f"--svi_rule={config.svi_rule}" for name, field in _OF_RULE.items() if field not in rule},
    **{name: f"--adjoint={config.adjoint}" for name, field in _OF_ADJOINT.items() if field not in adjoint},
  }


def _by_method(config):
  method, names = methods.get(config.model), []
  if not method.has_latent or not (method.refines or config.eval_k):
    group = [f.name for f in dataclasses.fields(config) if f.metadata["group"] == "Refinement"]
    names += [name for name in group if name not in _COMMON]
    if method.has_latent and DRAWS.get(config.svi_noise).in_closed_form:
      names.remove("svi_noise")  # of the training loss
  elif not method.differentiates:
    names += ["adjoint", *_OF_ADJOINT]
  if not method.has_encoder:
    names.append("bn_gamma")
  return dict.fromkeys(names, f"--model={config.model}")
