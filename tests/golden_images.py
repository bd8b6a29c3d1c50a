"""The golden float64 numbers of a tiny image model, and that model built from them.

`testdata/README.md` says where the numbers come from and what the keys mean. Golden weights and gradients
are laid out as convolution [out, in, height, width], linear [out, in], feature maps channel first. `Layout`
names, for each of them, the Keras variables it becomes and the way there and back:

  arrays = golden_images.load()
  encoder, decoder, layout = golden_images.build()
  ...
  gradients = tape.gradient(loss, [v.value for v in layout.variables])
  ours = layout.to_golden(gradients)          # {golden name: array}
  np.testing.assert_allclose(ours[name], arrays["vae.grad." + name])
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_savae.networks.pixelcnn import GatedPixelCNN
from tf_savae.networks.resnet import ResNetEncoder

PATH = pathlib.Path(__file__).resolve().parent.parent / "testdata" / "image_gradients.npz"

ENCODER_CHANNELS = (4, 4, 6)
CHANNELS = 4
KERNEL_SIZES = (5, 3, 3)
LATENT_MAPS = 2
LATENT_DIM = 3


class Entry(NamedTuple):
  """One golden array: the Keras variables it fills, and the conversions."""

  variables: list
  split: Callable[[np.ndarray], list[np.ndarray]]
  join: Callable[[list[np.ndarray]], np.ndarray]


class Layout:
  """Golden name → Keras variables, for one or several networks."""

  def __init__(self, entries: dict[str, Entry]):
    self.entries = entries

  @property
  def variables(self) -> list:
    """All Keras variables, each once, in the order of the golden names."""
    return [v for entry in self.entries.values() for v in entry.variables]

  def assign(self, arrays: dict[str, np.ndarray], prefix: str) -> None:
    """Fills the variables with the arrays called `prefix` + golden name."""
    for name, entry in self.entries.items():
      for variable, value in zip(entry.variables, entry.split(arrays[prefix + name]), strict=True):
        variable.assign(value)

  def to_golden(self, gradients: Sequence[tf.Tensor]) -> dict[str, np.ndarray]:
    """Gradients in the order of `variables` → {golden name: gradient in the golden layout}."""
    left = iter([np.asarray(g) for g in gradients])
    return {name: entry.join([next(left) for _ in entry.variables]) for name, entry in self.entries.items()}


@functools.cache
def load() -> dict[str, np.ndarray]:
  """All golden arrays by name."""
  with np.load(PATH) as arrays:
    return dict(arrays)


def images() -> np.ndarray:
  """x, `[3, 28, 28, 1]` float64."""
  return np.moveaxis(load()["x"], 1, -1)


def build() -> tuple[ResNetEncoder, GatedPixelCNN, Layout]:
  """The golden encoder and decoder in float64 with their golden weights, and the layout of both."""
  encoder = ResNetEncoder(LATENT_DIM, ENCODER_CHANNELS, dtype="float64")
  encoder.build((None, 28, 28, 1))
  decoder = _pixelcnn(LATENT_DIM)
  layout = Layout({**_encoder_entries(encoder), **_decoder_entries(decoder)})
  layout.assign(load(), "w.")
  return encoder, decoder, layout


def build_autoregressive() -> tuple[GatedPixelCNN, Layout]:
  """The golden decoder without latent (keys `ar.*`), and its layout."""
  decoder = _pixelcnn(0)
  layout = Layout(_decoder_entries(decoder))
  layout.assign(load(), "ar.w.")
  return decoder, layout


def _pixelcnn(latent_dim: int) -> GatedPixelCNN:
  return GatedPixelCNN(latent_dim, CHANNELS, KERNEL_SIZES, LATENT_MAPS, dtype="float64")


def _same(variable) -> Entry:
  return Entry([variable], lambda a: [a], lambda parts: parts[0])


def _convolution(variable) -> Entry:
  return Entry(
    [variable],
    lambda a: [np.transpose(a, (2, 3, 1, 0))],
    lambda parts: np.transpose(parts[0], (3, 2, 0, 1)),
  )


def _convolution_of_parts(image, latent) -> Entry:
  """One golden kernel whose first input channel is the image; the others are the maps of z."""
  return Entry(
    [image, latent],
    lambda a: [np.transpose(a, (2, 3, 1, 0))[:, :, :1], np.transpose(a, (2, 3, 1, 0))[:, :, 1:]],
    lambda parts: np.transpose(np.concatenate(parts, axis=2), (3, 2, 0, 1)),
  )


def _from_maps(variable, height: int, width: int, maps: int) -> Entry:
  """Linear layer that reads flattened maps: [out, maps·height·width] ↔ [height·width·maps, out]."""
  size = height * width * maps
  return Entry(
    [variable],
    lambda a: [a.reshape(-1, maps, height, width).transpose(2, 3, 1, 0).reshape(size, -1)],
    lambda parts: parts[0].reshape(height, width, maps, -1).transpose(3, 2, 0, 1).reshape(-1, size),
  )


def _to_maps(variable, height: int, width: int, maps: int) -> Entry:
  """Linear layer that makes maps: [maps·height·width, …] ↔ [..., height·width·maps]; the bias likewise."""

  def split(a):
    a = a.reshape(maps, height, width, -1).transpose(3, 1, 2, 0).reshape(-1, height * width * maps)
    return [a.reshape(tuple(variable.shape))]

  def join(parts):
    a = parts[0].reshape(-1, height, width, maps).transpose(3, 1, 2, 0).reshape(maps * height * width, -1)
    return a if parts[0].ndim == 2 else a[:, 0]

  return Entry([variable], split, join)


def _encoder_entries(encoder: ResNetEncoder) -> dict[str, Entry]:
  entries = {}
  for i, layer in enumerate(encoder.stages):
    name = f"enc_cnn.{i}"
    if i % 2:
      entries |= _keras_convolution(name, layer)
      continue
    entries |= _keras_convolution(f"{name}.conv1", layer.conv1)
    entries |= _keras_convolution(f"{name}.conv2", layer.conv2)
    for norm in ("1", "2"):
      batch_norm = getattr(layer, "norm" + norm)
      entries[f"{name}.bn{norm}.weight"] = _same(batch_norm.gamma)
      entries[f"{name}.bn{norm}.bias"] = _same(batch_norm.beta)
    if layer.shortcut is not None:
      entries |= _keras_convolution(f"{name}.proj", layer.shortcut)
  for name, head in (("mean", encoder.mean_head), ("logvar", encoder.log_var_head)):
    entries[f"latent_linear_{name}.weight"] = _from_maps(head.kernel, 3, 3, ENCODER_CHANNELS[-1])
    entries[f"latent_linear_{name}.bias"] = _same(head.bias)
  return entries


def _keras_convolution(name: str, layer) -> dict[str, Entry]:
  return {f"{name}.weight": _convolution(layer.kernel), f"{name}.bias": _same(layer.bias)}


def _decoder_entries(decoder: GatedPixelCNN) -> dict[str, Entry]:
  entries = {}
  height, width, _ = decoder.image_shape
  if decoder.latent_dim:
    entries["dec_cnn.z_linear.weight"] = _to_maps(decoder.latent_kernel, height, width, decoder.latent_maps)
    entries["dec_cnn.z_linear.bias"] = _to_maps(decoder.latent_bias, height, width, decoder.latent_maps)
  for i in range(len(decoder.kernel_sizes)):
    name = f"dec_cnn.modules.{i}"
    vertical, horizontal = _convolution(decoder.vertical[i]), _convolution(decoder.horizontal[i])
    if i == 0 and decoder.latent_dim:
      vertical = _convolution_of_parts(decoder.vertical[0], decoder.vertical_latent)
      horizontal = _convolution_of_parts(decoder.horizontal[0], decoder.horizontal_latent)
    entries |= {
      f"{name}.v_conv.weight": vertical,
      f"{name}.v_conv.bias": _same(decoder.vertical_bias[i]),
      f"{name}.vh_conv.weight": _convolution(decoder.across[i]),
      f"{name}.vh_conv.bias": _same(decoder.across_bias[i]),
      f"{name}.h_conv.weight": horizontal,
      f"{name}.h_conv.bias": _same(decoder.horizontal_bias[i]),
      f"{name}.h_conv_res.weight": _convolution(decoder.out[i]),
      f"{name}.h_conv_res.bias": _same(decoder.out_bias[i]),
    }
  entries["dec_linear.weight"] = _convolution(decoder.logit_kernel)
  entries["dec_linear.bias"] = _same(decoder.logit_bias)
  return entries
