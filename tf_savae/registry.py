"""Registries: names for the parts that a run chooses by flag, to which a user can add parts.

Nothing here imports TensorFlow. A built-in part is listed as "module:attribute" and imported on first use, so that a
command line can check names and print `--help` at once.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

__all__ = ["Registry"]

T = TypeVar("T")


def resolve(part: Any) -> Any:
  """The object that "module:attribute" names, imported now; anything but text is returned unchanged."""
  if not isinstance(part, str):
    return part
  module, _, attribute = part.partition(":")
  return getattr(importlib.import_module(module), attribute)


class Registry(Generic[T]):
  """Parts of one type by name.

  Args:
    what: the type of part, for messages, such as "adjoint".
    built_in: the parts that come with the package, as "module:attribute", by name.

  Example:
    >>> from tf_savae.registry import Registry
    >>> shapes = Registry("shape")
    >>> _ = shapes.register("round", 3.14)
    >>> shapes.get("round"), list(shapes)
    (3.14, ['round'])
  """

  def __init__(self, what: str, built_in: Mapping[str, str] | None = None):
    self._what = what
    self._parts: dict[str, T | str] = dict(built_in or {})

  def register(self, name: str, part: T) -> T:
    """Adds a part under a name that is not taken; returns the part.

    Raises:
      ValueError: the name is empty, or belongs to another part.
    """
    if not name or not isinstance(name, str):
      raise ValueError(f"The name of a {self._what} is a text that is not empty. Received: {name!r}")
    if name in self._parts and self._parts[name] is not part:
      raise ValueError(f"There is a {self._what} of that name already. Received: {name!r}")
    self._parts[name] = part
    return part

  def names(self) -> tuple[str, ...]:
    """All names: built-in ones in the order in which they are listed, then those that were registered."""
    return tuple(self._parts)

  def get(self, name: str) -> T:
    """The part of that name.

    Raises:
      ValueError: there is none.
    """
    if name not in self._parts:
      raise ValueError(f"Unknown {self._what}; the names are {', '.join(self._parts)}. Received: {name!r}")
    part = self._parts[name] = resolve(self._parts[name])
    return part

  def name_of(self, part: T) -> str:
    """The name of a part.

    Raises:
      ValueError: it has none.
    """
    for name in self._parts:
      if self.get(name) is part:
        return name
    raise ValueError(
      f"A {self._what} needs a name before it can be saved: register it. Received: {getattr(part, '__name__', part)}"
    )

  def __contains__(self, name: object) -> bool:
    return name in self._parts

  def __iter__(self) -> Iterator[str]:
    return iter(self.names())

  def __getitem__(self, name: str) -> T:
    return self.get(name)
