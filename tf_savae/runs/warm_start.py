"""`--init_from`: a new run begins with the encoder and decoder of another run, such as SA-VAE with those of a VAE.

With `--init_networks=encoder` it begins with the encoder alone, such as after pre-training as an autoencoder.
"""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from tf_savae import methods
from tf_savae.errors import UserError
from tf_savae.literal_paths import LiteralPath
from tf_savae.model import SAVAE
from tf_savae.networks.catalogue import DECODERS, ENCODERS
from tf_savae.runs.checkpoints import saved_steps
from tf_savae.runs.config import RunConfig, show
from tf_savae.runs.directory import RunDirectory

# Settings of networks that may differ, because they change neither the shape nor the meaning of a variable.
_FREE = ("dropout", "word_dropout", "init_scale", "logit_positions")
_OF_LATENT = ("latent_dim", "latent_maps")  # irrelevant without a latent


def warm_start(config: RunConfig, run: RunDirectory, model: SAVAE) -> None:
  """Gives `model` the weights of networks in `config.init_from`, as they were at its best validation bound.

  Learned step sizes, the optimiser's state and all schedules begin as in any new run.

  Args:
    config: the settings of the new run.
    run: its directory, which already has its vocabulary if it is one of text.
    model: its model, built.

  Raises:
    UserError: there is no trained run, or its networks or words are not those of this run.
  """
  source = RunDirectory(config.init_from)
  stored = source.read_config()
  if stored is None:
    raise UserError(f"--init_from={source.path} holds no run; name a run directory, or start without")
  _check_methods(config, stored)
  if _content(source.vocabulary_file) != _content(run.vocabulary_file):
    raise UserError(
      f"--init_from={source.path} knows other words than this run; use its data, --vocab_size={stored.vocab_size}"
      f" and --min_count={stored.min_count}, or start without"
    )
  directory = source.checkpoints / "best"
  steps = saved_steps(directory, "best")
  if not steps:
    raise UserError(f"--init_from={source.path} has no best checkpoint yet; train it for an epoch first")
  different = _difference(config, stored)
  if different:
    raise UserError(
      f"--init_from={source.path} does not fit this run: {different}; use the same networks, or start without"
    )
  networks = {"encoder": model.encoder, "decoder": model.decoder}
  networks = {name: network for name, network in networks.items() if name in _roles(config)}
  # A flow on top of another run's diagonal Gaussian begins as the identity.
  if config.posterior == stored.posterior and model.posterior_network is not None:
    networks["posterior_network"] = model.posterior_network
  checkpoint = tf.train.Checkpoint(model=tf.train.Checkpoint(**networks))
  try:
    literal = LiteralPath(directory)
    best = f"best-{steps[-1]}"
    checkpoint.restore(str(literal.path / best)).expect_partial().assert_existing_objects_matched()
  except (tf.errors.OpError, LookupError, ValueError, AssertionError) as error:
    raise UserError(
      f"--init_from={source.path} cannot be used: its best checkpoint {best} is damaged, or of another"
      " version; name another run, or start without"
    ) from error


def _roles(config: RunConfig) -> tuple[str, ...]:
  """The networks that the run takes over."""
  if config.init_networks == "encoder":
    return ("encoder",)
  return ("decoder", "encoder") if methods.get(config.model).has_encoder else ("decoder",)


def _check_methods(config: RunConfig, stored: RunConfig) -> None:
  ours, theirs = methods.get(config.model), methods.get(stored.model)
  for part, needed, there in (
    ("a latent", ours.has_latent, theirs.has_latent),
    ("an encoder", ours.has_encoder, theirs.has_encoder),
  ):
    # An encoder that is there and not needed is left out; a decoder either has a latent or not.
    if needed and not there:
      raise UserError(
        f"--model={config.model} needs {part}, and --init_from={config.init_from} has none: it is a run of"
        f" --model={stored.model}"
      )
  if theirs.has_latent and not ours.has_latent:
    raise UserError(
      f"--model={config.model} has no latent, and the decoder of --init_from={config.init_from} has one: it is a"
      f" run of --model={stored.model}"
    )


def _difference(config: RunConfig, stored: RunConfig) -> str | None:
  """The first setting that gives the two runs other networks, in words."""
  if config.kind != stored.kind:
    return f"--dataset is {stored.dataset} there, {config.dataset} here"
  method, names = methods.get(config.model), []
  for role in _roles(config):
    catalogue = {"decoder": DECODERS, "encoder": ENCODERS}[role]
    there, here = (catalogue.resolve(getattr(run, role), run.kind) for run in (stored, config))
    if there != here:
      return f"its {role} is {there}, here {here}"
    names += catalogue.get(here, config.kind).settings
  if method.has_encoder:
    names.append("bn_gamma")
  if config.generator == stored.generator == "oracle":
    names.append("data_seed")
  if method.has_encoder and "full" in (config.posterior, stored.posterior):
    names.append("posterior")  # the encoder gives all parts of λ
  if config.posterior == stored.posterior == "iaf":
    names += ["iaf_flows", "iaf_hidden"]
  names = [name for name in ("latent_dim", *dict.fromkeys(names)) if name not in _FREE]
  if not method.has_latent:
    names = [name for name in names if name not in _OF_LATENT]
  for name in names:
    there, here = getattr(stored, name), getattr(config, name)
    if there != here:
      return f"--{name} is {show(there)} there, {show(here)} here"
  return None


def _content(path: Path) -> bytes | None:
  try:
    return path.read_bytes()
  except FileNotFoundError:
    return None
