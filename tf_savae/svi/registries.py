"""The names of rules, adjoints and noise draws, and such parts as plain values. No TensorFlow."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_savae.registry import Registry

#: Step rules by name, each a subclass of `Rule`: what `SVISettings(rule=...)` and `--svi_rule` accept.
RULES: Registry[type] = Registry(
  "step rule",
  {
    "gradient": "tf_savae.svi.rules:GradientStep",
    "natural": "tf_savae.svi.rules:NaturalGradient",
    "natural_multiplicative": "tf_savae.svi.rules:MultiplicativeNaturalGradient",
    "adam": "tf_savae.svi.rules:Adam",
    "learned": "tf_savae.svi.learned:LearnedStep",
  },
)

#: Adjoints by name, each a subclass of `Adjoint`: what `SAVAE(adjoint=...)` and `--adjoint` accept.
ADJOINTS: Registry[type] = Registry(
  "adjoint",
  {
    "exact": "tf_savae.svi.adjoint:ExactAdjoint",
    "stored": "tf_savae.svi.adjoint:StoredAdjoint",
    "unrolled": "tf_savae.svi.adjoint:UnrolledAdjoint",
    "finite_difference": "tf_savae.svi.adjoint:FiniteDifferenceAdjoint",
    "truncated": "tf_savae.svi.adjoint:TruncatedAdjoint",
    "first_order": "tf_savae.svi.adjoint:FirstOrderAdjoint",
    "implicit": "tf_savae.svi.implicit:ImplicitAdjoint",
  },
)

#: Kinds of noise by name, each a subclass of `Draws`: what `SVISettings(draws=...)` and `--svi_noise` accept.
DRAWS: Registry[type] = Registry(
  "kind of noise draws",
  {
    "independent": "tf_savae.svi.noise:Independent",
    "antithetic": "tf_savae.svi.noise:Antithetic",
    "signs": "tf_savae.svi.noise:Signs",
    "mean": "tf_savae.svi.noise:AtMean",
    "quadrature": "tf_savae.svi.noise:Quadrature",
  },
)


def to_config(registry: Registry[type], part: Any) -> dict[str, Any]:
  """The name of a part in its registry and its fields, as plain values.

  The fields stand beside the name, without those whose metadata say `{"saved": False}`. If one of them is called "name"
  or "fields", they are all under "fields" instead.
  """
  is_dataclass = dataclasses.is_dataclass(part)
  names = (
    [f.name for f in dataclasses.fields(part) if f.init and f.metadata.get("saved", True)]
    if is_dataclass
    else list(vars(part))
  )
  fields = {name: plain(getattr(part, name)) for name in names}
  name = registry.name_of(type(part))
  return {"name": name, "fields": fields} if {"name", "fields"} & set(fields) else {"name": name, **fields}


def from_config(registry: Registry[type], config: Mapping[str, Any]) -> Any:
  """The inverse of `to_config`."""
  fields = dict(config)
  part = registry.get(fields.pop("name"))
  return part(**(fields["fields"] if set(fields) == {"fields"} else fields))


def plain(value: Any) -> Any:
  """The value with Python's numbers and lists in place of NumPy's, as JSON needs them."""
  if isinstance(value, Mapping):
    return {name: plain(item) for name, item in value.items()}
  if isinstance(value, list | tuple):
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value
  return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def is_whole(value: object) -> bool:
  """Whether a value is a whole number, NumPy's included; True and False are none."""
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)
