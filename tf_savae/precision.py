"""The precision of variables and of λ: float32 or more, whatever keras.json says."""

from __future__ import annotations

from typing import Any

import keras

_HALF = ("float16", "bfloat16")


def default(dtype: Any) -> Any:
  """The dtype or policy of a layer: what is given; else Keras's default, but float32 where variables would be half."""
  if dtype is None and keras.config.dtype_policy().variable_dtype in _HALF:
    return "float32"
  return dtype


def holds_half(dtype: Any) -> bool:
  """Whether a dtype or policy has variables of half precision."""
  return dtype is not None and keras.dtype_policies.get(dtype).variable_dtype in _HALF
