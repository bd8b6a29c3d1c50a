"""Initialisers whose draws depend on a seed and their place alone: a network is a pure function of its config."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import keras


def glorot_stream(seed: int) -> Iterator[keras.initializers.Initializer]:
  """Glorot-uniform initialisers, each with its own seed: a network is a pure function of its config."""
  return (keras.initializers.GlorotUniform(_weight_seed(seed, i)) for i in itertools.count())


def uniform_stream(seed: int, scale: float) -> Iterator[keras.initializers.Initializer]:
  """Initialisers of U(−scale, scale), each with its own seed."""
  return (
    keras.initializers.RandomUniform(-scale, scale, seed=_weight_seed(seed, i)) for i in itertools.count()
  )


def _weight_seed(seed: int, index: int) -> int:
  return (seed * 1_000_003 + index) % 2**31
