"""Our weights in PyTorch's layouts, and its gradients in ours.

| weight | ours | PyTorch |
|---|---|---|
| convolution | `[height, width, in, out]` | `[out, in, height, width]` |
| linear, softmax | `[in, out]` | `[out, in]` |
| LSTM, input | `kernel [embedding, 4 hidden]` and, of a decoder, `latent_kernel [latent, 4 hidden]` | `weight_ih_l0 [4 hidden, embedding + latent]` |
| LSTM, recurrent | `[hidden, 4 hidden]` | `weight_hh_l0 [4 hidden, hidden]` |
| LSTM, bias | `bias [4 hidden]` | `bias_ih_l0`; its second bias, `bias_hh_l0`, is 0 |

An LSTM's gates are input, forget, output, candidate for us and input, forget, candidate, output for PyTorch.
"""  # noqa: E501, a table

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch

# PyTorch's gate at each of our places, and the inverse: the same exchange of the last two.
_GATES = (0, 1, 3, 2)


class Entry(NamedTuple):
  """One of our weights.

  Attributes:
    name: ours.
    parameter: of the module.
    to_peer: from our array to the parameter's.
    to_ours: the inverse.
    columns: the part of the parameter's second axis that is this weight; None: all of the parameter.
  """

  name: str
  parameter: torch.nn.Parameter
  to_peer: Callable[[np.ndarray], np.ndarray]
  to_ours: Callable[[np.ndarray], np.ndarray]
  columns: slice | None = None


def same(name: str, parameter: torch.nn.Parameter) -> Entry:
  return Entry(name, parameter, lambda a: a, lambda a: a)


def linear(name: str, parameter: torch.nn.Parameter) -> Entry:
  return Entry(name, parameter, np.transpose, np.transpose)


def convolution(name: str, parameter: torch.nn.Parameter) -> Entry:
  return Entry(name, parameter, lambda a: a.transpose(3, 2, 0, 1), lambda a: a.transpose(2, 3, 1, 0))


def gates(name: str, parameter: torch.nn.Parameter, columns: slice | None = None) -> Entry:
  """LSTM weights `[in, 4 hidden]`, or a bias `[4 hidden]`."""

  def exchange(a):
    """Of the first axis."""
    return np.concatenate([np.split(a, 4)[i] for i in _GATES])

  return Entry(name, parameter, lambda a: exchange(a.T), lambda a: exchange(a).T, columns)


def lstm(module: torch.nn.LSTM, embedding_dim: int, latent_dim: int = 0, prefix: str = "") -> Iterator[Entry]:
  """The entries of an LSTM whose input is an embedding and, if `latent_dim`, z."""
  yield gates(f"{prefix}kernel", module.weight_ih_l0, slice(0, embedding_dim))
  if latent_dim:
    columns = slice(embedding_dim, embedding_dim + latent_dim)
    yield gates(f"{prefix}latent_kernel", module.weight_ih_l0, columns)
  yield gates(f"{prefix}recurrent", module.weight_hh_l0)
  yield gates(f"{prefix}bias", module.bias_ih_l0)


def load(module: torch.nn.Module, weights: Mapping[str, np.ndarray]) -> None:
  """Copies our weights into a module that has `layout()`.

  Raises:
    KeyError: a weight that is missing. ValueError: one that is left over, or has another shape.
  """
  entries = list(module.layout())
  with torch.no_grad():
    for parameter in module.parameters():
      parameter.zero_()  # the LSTM's second bias has no weight of ours
    for name, parameter, to_peer, _, columns in entries:
      array = torch.from_numpy(np.ascontiguousarray(to_peer(weights[name]))).to(parameter.dtype)
      into = parameter if columns is None else parameter[:, columns]
      if into.shape != array.shape:
        raise ValueError(f"{name} is {tuple(array.shape)} here. Received: {tuple(into.shape)}")
      into.copy_(array)
  if surplus := set(weights) - {entry.name for entry in entries}:
    raise ValueError(f"weights that the peer does not have. Received: {', '.join(sorted(surplus))}")


def weights(module: torch.nn.Module) -> dict[str, np.ndarray]:
  """All that a module knows, by our names and in our layouts: its weights, and moving moments if it has any."""
  found = {}
  statistics = module.statistics() if hasattr(module, "statistics") else ()
  for name, value, _, to_ours, columns in [*module.layout(), *statistics]:
    part = value if columns is None else value[:, columns]
    found[name] = np.ascontiguousarray(to_ours(part.detach().numpy()))
  return found


def gradients(module: torch.nn.Module) -> dict[str, np.ndarray]:
  """The parameters' gradients by our names and in our layouts."""
  found = {}
  for name, parameter, _, to_ours, columns in module.layout():
    gradient = parameter.grad if columns is None else parameter.grad[:, columns]
    found[name] = np.ascontiguousarray(to_ours(gradient.detach().numpy()))
  return found
