"""Packages whose names are imported when they are first used, because TensorFlow takes seconds to import."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from tf_savae.startup import require_tensorflow_backend


def attach(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
  """The `__getattr__` and `__dir__` of a package that imports its public names on first use.

  Args:
    package: the package's `__name__`.
    homes: public name → the module that it comes from.
  """

  def find(name: str) -> Any:
    if name not in homes:
      raise AttributeError(f"module {package!r} has no attribute {name!r}")
    require_tensorflow_backend()
    return getattr(importlib.import_module(homes[name]), name)

  def names() -> list[str]:
    return sorted({*vars(sys.modules[package]), *homes})

  return find, names
