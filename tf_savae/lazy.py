"""Packages whose names are imported when they are first used, because TensorFlow takes seconds to import."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def attach(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
  """A package's `__getattr__` and `__dir__`.

  Args:
    package: its `__name__`.
    homes: the module that each public name comes from.
  """

  def find(name: str) -> Any:
    if name not in homes:
      raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(homes[name]), name)

  def names() -> list[str]:
    return sorted({*vars(sys.modules[package]), *homes})

  return find, names
