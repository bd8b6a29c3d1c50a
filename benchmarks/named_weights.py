"""The variables of our networks, by the names that the peers know."""

from __future__ import annotations


def named_variables(model) -> dict:
  """The trainable variables of both networks, by names that the peers know."""
  found = {f"decoder/{v.name}": v for v in model.decoder.trainable_variables}
  stages = getattr(model.encoder, "stages", None)
  if stages is None:
    return found | {f"encoder/{v.name}": v for v in model.encoder.trainable_variables}
  layers = {"mean": model.encoder.mean_head, "log_var": model.encoder.log_var_head}
  for i, (block, half) in enumerate(zip(stages[::2], stages[1::2], strict=True)):
    parts = {part: getattr(block, part) for part in ("conv1", "norm1", "conv2", "norm2", "shortcut")}
    layers |= {f"stage_{i}/{part}": layer for part, layer in parts.items() if layer is not None}
    layers[f"stage_{i}/half"] = half
  for layer_name, layer in layers.items():
    found |= {f"encoder/{layer_name}/{v.name}": v for v in layer.trainable_variables}
  return found


def moving_moments(model) -> dict:
  """The moving moments of the encoder's batch normalisation, by names that the peers know; none of sequences."""
  found = {}
  for i, block in enumerate(getattr(model.encoder, "stages", [])[::2]):
    for part in ("norm1", "norm2"):
      layer = getattr(block, part)
      found |= {f"encoder/stage_{i}/{part}/{v.name}": v for v in layer.non_trainable_variables}
  return found
