"""From a `RunConfig` to a compiled model: networks for the kind of data, schedules, optimiser."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_savae import methods, observations
from tf_savae.data.dataset import DataSet
from tf_savae.errors import UserError
from tf_savae.full_gaussian import FullGaussianParams
from tf_savae.kind import KINDS
from tf_savae.model import SAVAE
from tf_savae.networks import (
  BatchNormalizedEncoder,
  ConditionalDecoder,
  ConditionalEncoder,
  FullCovarianceEncoder,
)
from tf_savae.networks.catalogue import DECODERS, ENCODERS
from tf_savae.posteriors import POSTERIORS, PosteriorFamily
from tf_savae.runs import adjoint_choice
from tf_savae.runs.config import RunConfig
from tf_savae.schedules import BetaWarmup, KWarmup
from tf_savae.svi import RULES, SVISettings

Networks = tuple[keras.layers.Layer | None, keras.layers.Layer]


_OPTIMIZERS = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}


def build_model(config: RunConfig, data: DataSet) -> SAVAE:
  """The compiled model of a run, with all its variables made.

  Raises:
    UserError: settings do not fit together.
  """
  method = methods.get(config.model)
  encoder, decoder = make_networks(config, data, method)
  try:
    model = SAVAE(
      encoder,
      decoder,
      config.model,
      svi_settings(config),
      posterior=make_posterior(config),
      eval_k=config.eval_k,
      k_schedule=_k_schedule(config, data) if method.refines else None,
      adjoint=adjoint_choice.choose(config, decoder, data).adjoint,
      learn_step_size=_learned_step_sizes(config, method),
      initial_loss_weight=config.initial_loss_weight,
      initial_loss_trains=config.initial_loss_trains,
      beta=BetaWarmup(
        config.beta_start,
        config.beta_warmup_epochs * data.steps_per_epoch(config.batch_size),
        config.beta_cycles,
        config.beta,
      ),
      free_bits=config.free_bits,
      objective=config.objective,
      iwae_samples=config.iwae_samples,
      lagging_updates=config.lagging_updates,
      global_clip_norm=config.outer_clip,
      seed=config.seed,
    )
  except ValueError as error:
    raise UserError(str(error)) from error
  compile_and_build(config, data, model)
  return model


def compile_and_build(config: RunConfig, data: DataSet, model: SAVAE) -> None:
  """Gives a model without an optimiser that of the settings, and creates all variables of both."""
  if not model.compiled:
    optimizer = _OPTIMIZERS[config.optimizer](config.learning_rate)
    if config.network_precision == "mixed_float16":
      optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    # XLA does not compile a step of several devices.
    jit_compile = not tf.distribute.has_strategy() and use_xla(config, data)
    model.compile(optimizer=optimizer, jit_compile=jit_compile)
  # Not on an example: the length of a text is unknown.
  model.build_from_config(observations.described(data.eval_batches("valid", 1).element_spec))
  if not model.optimizer.built:
    model.optimizer.build(model.trainable_variables)


def make_networks(config: RunConfig, data: DataSet, method: methods.Method) -> Networks:
  """The encoder (None for a method without one) and the decoder for the kind of `data`.

  Raises:
    UserError: there is no such network for this kind of data.
  """
  common = {"seed": config.seed, "dtype": config.network_precision}
  try:
    num_labels = getattr(data, "num_labels", 0)
    maker = DECODERS.get(_decoder_name(config, data), data.kind)
    size = config.latent_dim if method.has_latent else 0
    decoder = maker.build(data, size + num_labels, **config.values(maker.settings), **common)
    if num_labels:
      decoder = ConditionalDecoder(decoder, num_labels)
    if not method.has_encoder:
      return None, decoder
    maker, is_full = (
      ENCODERS.get(config.encoder, data.kind),
      make_posterior(config).kind is FullGaussianParams,
    )
    outputs = FullCovarianceEncoder.inner_dim(config.latent_dim) if is_full else config.latent_dim
    encoder = maker.build(data, outputs, **config.values(maker.settings), **common)
    if num_labels:
      encoder = ConditionalEncoder(encoder, num_labels)
    if config.bn_gamma:
      encoder = BatchNormalizedEncoder(encoder, config.latent_dim, config.bn_gamma)
    return (FullCovarianceEncoder(encoder, config.latent_dim) if is_full else encoder), decoder
  except ValueError as error:
    raise UserError(str(error)) from error


def _decoder_name(config: RunConfig, data: DataSet) -> str:
  """That of the settings; of "auto" for images with more than two values, the first that has a likelihood for them."""
  if config.decoder == "auto" and getattr(data, "pixels", "") == "levels":
    return "conv"
  return config.decoder


def _learned_step_sizes(config: RunConfig, method: methods.Method) -> str:
  if config.learn_svi_lr != "auto":
    return config.learn_svi_lr
  return "step" if method.learns_step_size and config.trains_start else "none"


def _k_schedule(config: RunConfig, data: DataSet) -> KWarmup | None:
  steps = round(config.k_warmup_epochs * data.steps_per_epoch(config.batch_size))
  return KWarmup(config.k, steps) if config.k and steps else None


# By name, α_k / α_0 of step k of K; None: 1.
_SCHEDULES = {
  "constant": None,
  "linear": lambda k, num_steps: 1 - k / max(num_steps, 1),
  "harmonic": lambda k, num_steps: 1 / (1 + 0.3 * k),
}


def svi_settings(config: RunConfig) -> SVISettings:
  """How λ is refined in training."""
  step_size: Any = config.svi_lr
  falling = _SCHEDULES[config.svi_schedule]
  num_steps = (
    config.k or config.eval_k or 0
  )  # a model may be trained without steps, and be refined at evaluation
  if falling is not None or config.svi_lr_log_var is not None:
    along_k = np.ones([num_steps]) if falling is None else falling(np.arange(num_steps), num_steps)
    step_size = tuple(config.svi_lr * along_k)
    if config.svi_lr_log_var is not None:
      of_both = zip(step_size, config.svi_lr_log_var * along_k, strict=True)
      step_size = tuple(((mean,), (log_var,)) for mean, log_var in of_both)
  of_rule = _known(RULES.get(config.svi_rule), momentum=config.svi_momentum, clip_norm=config.svi_clip)
  return SVISettings(
    num_steps,
    step_size,
    num_samples=config.svi_samples,
    tolerance=config.svi_tolerance,
    rule=config.svi_rule,
    draws=config.svi_noise,
    **of_rule,
  )


def _known(part: type, **values: Any) -> dict[str, Any]:
  """Those of the values that a part, a dataclass, has a field for."""
  fields = getattr(part, "__dataclass_fields__", {})
  return {name: value for name, value in values.items() if name in fields}


def make_posterior(config: RunConfig) -> PosteriorFamily:
  """The posterior family, with those flags that are parameters of it."""
  family = POSTERIORS.get(config.posterior)
  return family(**_known(family, num_flows=config.iaf_flows, hidden=config.iaf_hidden))


def use_xla(config: RunConfig, data: DataSet) -> bool:
  """Whether the step is compiled: as requested, else if bits must repeat or if it is faster.

  For the sake of bits, data of many shapes are never compiled, since each shape would be compiled separately.
  """
  kind = KINDS.get(data.kind)
  if config.deterministic and kind.has_one_shape:
    return True
  if config.jit_compile != "auto":
    return config.jit_compile == "true"
  updates = config.epochs * data.steps_per_epoch(config.batch_size)
  if config.max_steps:
    updates = min(updates, config.max_steps)
  return updates >= kind.xla_pays_from(on_gpu=bool(tf.config.list_physical_devices("GPU")))
