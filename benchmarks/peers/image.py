"""The image model in PyTorch: the residual encoder and the gated PixelCNN of tf_savae.networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers import layout


class Encoder(nn.Module):
  """x `[batch, 1, side, side]` to λ_0."""

  def __init__(self, latent_dim: int, channels: Sequence[int], side: int):
    super().__init__()
    self.blocks, self.halves = nn.ModuleList(), nn.ModuleList()
    width = 1
    for out in channels:
      self.blocks.append(_Residual(width, out))
      self.halves.append(nn.Conv2d(out, out, 2, stride=2))
      width, side = out, side // 2
    self.mean = nn.Linear(side * side * width, latent_dim)
    self.log_var = nn.Linear(side * side * width, latent_dim)

  def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
    for block, half in zip(self.blocks, self.halves, strict=True):
      x = half(block(x))
    x = x.permute(0, 2, 3, 1).flatten(1)  # our heads read channels last
    return self.mean(x), self.log_var(x)

  def layout(self) -> Iterator[layout.Entry]:
    def pair(name, module, kind):
      yield kind(f"{name}/kernel", module.weight)
      yield layout.same(f"{name}/bias", module.bias)

    for i, (block, half) in enumerate(zip(self.blocks, self.halves, strict=True)):
      for name in ("conv1", "conv2", "shortcut"):
        if (conv := getattr(block, name)) is not None:
          yield from pair(f"stage_{i}/{name}", conv, layout.convolution)
      for name in ("norm1", "norm2"):
        yield layout.same(f"stage_{i}/{name}/gamma", getattr(block, name).weight)
        yield layout.same(f"stage_{i}/{name}/beta", getattr(block, name).bias)
      yield from pair(f"stage_{i}/half", half, layout.convolution)
    yield from pair("mean", self.mean, layout.linear)
    yield from pair("log_var", self.log_var, layout.linear)

  def statistics(self) -> Iterator[layout.Entry]:
    """The moving moments of batch normalisation."""
    for i, block in enumerate(self.blocks):
      for name in ("norm1", "norm2"):
        yield layout.same(f"stage_{i}/{name}/moving_mean", getattr(block, name).running_mean)
        yield layout.same(f"stage_{i}/{name}/moving_variance", getattr(block, name).running_var)


class _Residual(nn.Module):
  def __init__(self, width: int, out: int):
    super().__init__()
    self.conv1, self.norm1 = nn.Conv2d(width, out, 3, padding=1), nn.BatchNorm2d(out)
    self.conv2, self.norm2 = nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out)
    self.shortcut = None if width == out else nn.Conv2d(width, out, 1)

  def forward(self, x: Tensor) -> Tensor:
    h = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
    return F.relu(h + (x if self.shortcut is None else self.shortcut(x)))


class Decoder(nn.Module):
  """−log p(x | z) under the gated PixelCNN.

  As in our model, kernels hold only the causal half of their window. The image's part of the first layer is computed
  once for all refinement steps, and so is the linear map from z to its part.
  """

  def __init__(
    self,
    latent_dim: int,
    channels: int,
    kernel_sizes: Sequence[int],
    latent_maps: int,
    side: int,
    position_maps: int = 0,
  ):
    super().__init__()
    self.latent_dim, self.channels, self.latent_maps, self.side = latent_dim, channels, latent_maps, side
    self.kernel_sizes = tuple(kernel_sizes)
    c, first = channels, self.kernel_sizes[0]

    def weight(*shape):
      return nn.Parameter(torch.empty(shape))

    def several(*shapes):
      return nn.ParameterList([weight(*shape) for shape in shapes])

    self.latent_kernel = weight(latent_dim, side * side * latent_maps)
    self.latent_bias = weight(side * side * latent_maps)
    self.vertical_latent = weight(2 * c, latent_maps, first // 2 + 1, first)
    self.horizontal_latent = weight(2 * c, latent_maps, 1, first // 2 + 1)
    widths = [1] + [c] * (len(self.kernel_sizes) - 1)
    sizes = list(zip(widths, self.kernel_sizes, strict=True))
    self.vertical = several(*((2 * c, w, k // 2 + 1, k) for w, k in sizes))
    self.vertical_bias = several(*((2 * c,) for _ in sizes))
    self.horizontal = several(*((2 * c, w, 1, k // 2 + 1) for w, k in sizes))
    self.horizontal_bias = several(*((2 * c,) for _ in sizes))
    self.across = several(*((2 * c, 2 * c, 1, 1) for _ in sizes))
    self.across_bias = several(*((2 * c,) for _ in sizes))
    self.out = several(*((c, c, 1, 1) for _ in sizes))
    self.out_bias = several(*((c,) for _ in sizes))
    self.logit_kernel = weight(1, c, 1, 1)
    self.logit_bias = weight(1)
    self.position_maps = position_maps
    if position_maps:
      self.position_map = weight(side * side * position_maps)
      self.vertical_position = weight(2 * c, position_maps, first // 2 + 1, first)
      self.horizontal_position = weight(2 * c, position_maps, 1, first // 2 + 1)

  def layout(self) -> Iterator[layout.Entry]:
    yield layout.same("latent_kernel", self.latent_kernel)
    yield layout.same("latent_bias", self.latent_bias)
    yield layout.convolution("vertical_latent", self.vertical_latent)
    yield layout.convolution("horizontal_latent", self.horizontal_latent)
    for i in range(len(self.kernel_sizes)):
      for name in ("vertical", "horizontal", "across", "out"):
        yield layout.convolution(f"{name}_{i}", getattr(self, name)[i])
        yield layout.same(f"{name}_bias_{i}", getattr(self, f"{name}_bias")[i])
    yield layout.convolution("logit_kernel", self.logit_kernel)
    yield layout.same("logit_bias", self.logit_bias)
    if self.position_maps:
      yield layout.same("position_map", self.position_map)
      yield layout.convolution("vertical_position", self.vertical_position)
      yield layout.convolution("horizontal_position", self.horizontal_position)

  def precompute(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """What z is not needed for: differentiable tensors, and constants."""
    vertical = _look_up(x[:, :, :-1], self.vertical[0], self.vertical_bias[0])
    horizontal = _look_left(x[..., :-1], self.horizontal[0], self.horizontal_bias[0])
    horizontal = F.pad(horizontal, (1, 0)) + self.across_bias[0][:, None, None]
    # z enters through a linear layer and a convolution with nothing in between: one linear map.
    maps = torch.cat([self.latent_kernel, self.latent_bias[None]])
    v, h = self._of_maps(maps, self.vertical_latent, self.horizontal_latent)
    flat = [half[:-1].permute(0, 2, 3, 1).flatten(1) for half in (v, h)]
    vertical, horizontal = vertical + v[-1], horizontal + h[-1]
    if self.position_maps:
      v, h = self._of_maps(self.position_map[None], self.vertical_position, self.horizontal_position)
      vertical, horizontal = vertical + v, horizontal + h
    return [vertical, horizontal, torch.cat(flat, dim=1)], []

  def _of_maps(self, maps, vertical, horizontal):
    """What flat maps beside the image add to both halves of the first layer."""
    maps = maps.view(maps.shape[0], self.side, self.side, -1).permute(0, 3, 1, 2)
    above = _look_up(maps[:, :, :-1], vertical)
    return above, F.pad(_look_left(maps[..., :-1], horizontal), (1, 0))

  def forward(self, x: Tensor, z: Tensor, context: Sequence[Tensor]) -> Tensor:
    """−log p(x | z) summed over the batch, nats."""
    vertical, horizontal, from_latent = context
    flat = z @ from_latent
    split = (self.side - 1) * self.side * 2 * self.channels
    vertical = vertical + self._maps(flat[:, :split])
    horizontal = horizontal + self._maps(flat[:, split:])
    h = v = None
    for i in range(len(self.kernel_sizes)):
      if i:
        # Strictly above: the last row goes, one more comes in at the top.
        vertical = _look_up(v[:, :, :-1], self.vertical[i], self.vertical_bias[i], extra=1)
        bias = self.horizontal_bias[i] + self.across_bias[i]
        horizontal = _look_left(h, self.horizontal[i], bias)
      horizontal = horizontal + F.pad(F.conv2d(vertical, self.across[i]), (0, 0, 1, 0))
      v = _gate(vertical)
      o = F.conv2d(_gate(horizontal), self.out[i], self.out_bias[i])
      h = o if i == 0 else h + o
    logits = F.conv2d(h, self.logit_kernel, self.logit_bias)
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum")

  def _maps(self, flat):
    return flat.view(flat.shape[0], -1, self.side, 2 * self.channels).permute(0, 3, 1, 2)


def _look_up(x, kernel, bias=None, extra=0):
  rows, columns = kernel.shape[2:]
  return F.conv2d(F.pad(x, (columns // 2, columns // 2, rows - 1 + extra, 0)), kernel, bias)


def _look_left(x, kernel, bias=None):
  return F.conv2d(F.pad(x, (kernel.shape[3] - 1, 0)), kernel, bias)


def _gate(x):
  a, b = x.chunk(2, dim=1)
  return torch.tanh(a) * torch.sigmoid(b)
