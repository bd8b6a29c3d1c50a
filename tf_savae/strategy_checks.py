"""What a model that trains on several devices cannot do, said before it begins."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_savae.errors import UserError


def check_compile(model: keras.Model, optimizer: Any, options: dict[str, Any]) -> None:
  """Raises UserError for arguments of `compile` that do not go with a strategy."""
  if (steps := options.get("steps_per_execution")) not in (None, 1):
    raise UserError(f"steps_per_execution must be 1 under a strategy; received {steps}; leave it out")
  if options.get("jit_compile") is True:
    raise UserError("jit_compile does not go with a strategy; received True; leave it out")
  is_scaled = options.get("auto_scale_loss") is not False and model.dtype_policy.name == "mixed_float16"
  if is_scaled or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
    raise UserError(
      "an optimiser that scales the loss, as mixed_float16 needs, does not go with a strategy; received"
      f" {'mixed_float16' if is_scaled else type(optimizer).__name__}; take mixed_bfloat16"
    )
  if not isinstance(optimizer, keras.optimizers.Optimizer):
    return
  if steps := optimizer.gradient_accumulation_steps:
    raise UserError(
      f"gradient accumulation does not go with a strategy; received gradient_accumulation_steps={steps};"
      " more devices take a larger batch"
    )
  if optimizer._distribution_strategy is not model.distribute_strategy:
    raise UserError(
      "the optimiser was made outside of the strategy's scope; make it, and the model, under `with"
      " strategy.scope():`"
    )


def check_lagging(model: keras.Model, optimizer: Any) -> None:
  """Raises UserError where encoder and decoder cannot be updated one without the other."""
  if getattr(model, "lagging", None) is None:
    return
  is_scaled = model.dtype_policy.name == "mixed_float16"
  if is_scaled or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
    raise UserError(
      "lagging_updates does not go with an optimiser that scales the loss, as mixed_float16 needs; received"
      f" lagging_updates={model.lagging_updates}; take mixed_bfloat16"
    )
  if model._distribute_strategy is not None:
    raise UserError(
      "lagging_updates does not go with a strategy, which updates all variables or none; received"
      f" lagging_updates={model.lagging_updates}; train on one device"
    )


def check_networks(networks: list[keras.layers.Layer]) -> None:
  """Raises UserError for batch normalisation that would see the rows of one device alone."""
  for network in networks:
    for layer in network._flatten_layers():
      is_plain = type(layer) is keras.layers.BatchNormalization
      if is_plain and not layer.synchronized:
        raise UserError(
          f"the batch normalisation {layer.name} would see the examples of one device alone; received a plain one under"
          " a strategy; make it with synchronized=True"
        )


def check_place(model: keras.Model) -> None:
  """Raises UserError for a model that was made outside of the scope of the strategy that is in use."""
  if model._distribute_strategy is None and tf.distribute.has_strategy():
    raise UserError(
      "the model was made outside of the strategy's scope; make it, and its optimiser and networks, under `with"
      " strategy.scope():`"
    )
