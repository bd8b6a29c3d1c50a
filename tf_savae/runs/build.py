"""From a `RunConfig` to a compiled model: networks for the kind of data, schedules, optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tf_savae import methods, networks
from tf_savae.data.dataset import DataSet
from tf_savae.errors import UserError
from tf_savae.model import SAVAE
from tf_savae.networks.oracle_decoder import oracle_decoder
from tf_savae.runs.config import RunConfig
from tf_savae.schedules import BetaWarmup, KWarmup
from tf_savae.svi import ADJOINTS, SVISettings, adjoint

Networks = tuple[keras.layers.Layer | None, keras.layers.Layer]


def _image_networks(config: RunConfig, data: DataSet, latent_dim: int) -> Networks:
  common = {"seed": config.seed, "dtype": config.network_precision}
  encoder = networks.ResNetEncoder(config.latent_dim, config.encoder_channels, **common)
  decoder = networks.GatedPixelCNN(
    latent_dim,
    channels=config.decoder_channels,
    kernel_sizes=config.decoder_kernels,
    latent_maps=config.latent_maps,
    image_shape=data.image_shape,
    dropout=config.dropout,
    **common,
  )
  return encoder, decoder


def _token_networks(config: RunConfig, data: DataSet, latent_dim: int) -> Networks:
  sizes = {
    "embedding_dim": config.embedding_dim,
    "hidden_dim": config.hidden_dim,
    "init_scale": config.init_scale,
  }
  common = {"seed": config.seed, "dtype": config.network_precision}
  encoder = networks.LSTMEncoder(data.vocab_size, config.latent_dim, **sizes, **common)
  if config.generator == "oracle":
    return encoder, oracle_decoder(data.oracle, **common)
  decoder = networks.LSTMDecoder(
    data.vocab_size,
    latent_dim,
    **sizes,
    dropout=config.dropout,
    latent_to_logits=config.oracle == "output_layer",
    **common,
  )
  return encoder, decoder


def _text_networks(config: RunConfig, data: DataSet, latent_dim: int) -> Networks:
  common = {
    "embedding_dim": config.embedding_dim,
    "init_scale": config.init_scale,
    "seed": config.seed,
    "dtype": config.network_precision,
  }
  encoder = networks.TextLSTMEncoder(
    data.vocab_size, config.latent_dim, hidden_dim=config.hidden_dim, **common
  )
  common |= {
    "dropout": config.dropout,
    "word_dropout": config.word_dropout,
    "max_length": data.max_length,
    "logit_positions": config.logit_positions or None,
  }
  if config.decoder_name == "dilated_conv":
    sizes = {"channels": config.conv_channels, "dilations": config.dilations}
    return encoder, networks.DilatedConvDecoder(data.vocab_size, latent_dim, **sizes, **common)
  return encoder, networks.TextLSTMDecoder(
    data.vocab_size, latent_dim, hidden_dim=config.hidden_dim, **common
  )


_NETWORKS: dict[str, Callable[[RunConfig, DataSet, int], Networks]] = {
  "image": _image_networks,
  "tokens": _token_networks,
  "text": _text_networks,
}

_OPTIMIZERS = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}

# XLA on CPU: 1.8 times faster for short token sequences, after half a minute of compiling, 12 times slower for the
# PixelCNN's convolutions. Updates from which on it pays. Text has too many shapes: each would be compiled.
_XLA_PAYS_ON_CPU = {"image": float("inf"), "tokens": 300, "text": float("inf")}
_XLA_PAYS_ON_GPU = {"image": 0, "tokens": 0, "text": float("inf")}


def build_model(config: RunConfig, data: DataSet) -> SAVAE:
  """The compiled model of a run, with all its variables made.

  Raises:
    UserError: settings that do not go together.
  """
  method = methods.get(config.model)
  encoder, decoder = _NETWORKS[data.kind](config, data, config.latent_dim if method.has_latent else 0)
  try:
    model = SAVAE(
      encoder if method.has_encoder else None,
      decoder,
      config.model,
      svi_settings(config),
      eval_k=config.eval_k,
      k_schedule=_k_schedule(config, data) if method.refines else None,
      adjoint=make_adjoint(config),
      learn_step_size=_learned_step_sizes(config, method),
      initial_loss_weight=config.initial_loss_weight,
      beta=BetaWarmup(
        config.beta_start,
        config.beta_warmup_epochs * data.steps_per_epoch(config.batch_size),
        config.beta_cycles,
      ),
      free_bits=config.free_bits,
      global_clip_norm=config.outer_clip,
      seed=config.seed,
    )
  except ValueError as error:
    raise UserError(str(error)) from error
  model.compile(
    optimizer=_OPTIMIZERS[config.optimizer](config.learning_rate), jit_compile=use_xla(config, data)
  )
  # Not on an example: the length of a text is unknown.
  spec = data.eval_batches("valid", 1).element_spec
  model.build_from_config({"shape": list(spec.shape), "dtype": spec.dtype.name})
  model.optimizer.build(model.trainable_variables)
  return model


def _learned_step_sizes(config: RunConfig, method: methods.Method) -> str:
  if config.learn_svi_lr != "auto":
    return config.learn_svi_lr
  return "step" if method.learns_step_size else "none"


def _k_schedule(config: RunConfig, data: DataSet) -> KWarmup | None:
  steps = round(config.k_warmup_epochs * data.steps_per_epoch(config.batch_size))
  return KWarmup(config.k, steps) if config.k and steps else None


def svi_settings(config: RunConfig) -> SVISettings:
  """How λ is refined in training."""
  step_size: Any = config.svi_lr
  if config.svi_schedule == "linear":
    step_size = tuple(config.svi_lr * (1 - np.arange(config.k) / max(config.k, 1)))
  return SVISettings(
    config.k,
    step_size,
    config.svi_momentum,
    config.svi_clip,
    config.svi_samples,
    config.svi_tolerance,
    antithetic=config.svi_noise == "antithetic",
  )


def make_adjoint(config: RunConfig) -> adjoint.Adjoint:
  """The adjoint mode with the parameters that the flags give it."""
  parameters = {
    adjoint.ExactAdjoint: {"compute_dtype": config.adjoint_dtype},
    adjoint.TruncatedAdjoint: {"steps": config.adjoint_steps, "compute_dtype": config.adjoint_dtype},
    adjoint.FiniteDifferenceAdjoint: {"radius": config.fd_radius},
  }
  mode = ADJOINTS[config.adjoint]
  return mode(**parameters.get(mode, {}))


def use_xla(config: RunConfig, data: DataSet) -> bool:
  """Whether the step is compiled: as asked for, when bits must repeat (but of text), else where it is faster."""
  import tensorflow as tf

  if config.deterministic and data.kind != "text":
    return True
  if config.jit_compile != "auto":
    return config.jit_compile == "true"
  updates = config.epochs * data.steps_per_epoch(config.batch_size)
  if config.max_steps:
    updates = min(updates, config.max_steps)
  pays = _XLA_PAYS_ON_GPU if tf.config.list_physical_devices("GPU") else _XLA_PAYS_ON_CPU
  return updates >= pays[data.kind]
