"""The public API: its modules, their names, and a page for each module. Nothing here imports TensorFlow."""

from __future__ import annotations

import ast
import functools
import importlib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

# Each module's public names are its `__all__`.
MODULES = (
  "tf_savae",
  "tf_savae.methods",
  "tf_savae.svi",
  "tf_savae.svi.rules",
  "tf_savae.svi.learned",
  "tf_savae.svi.noise",
  "tf_savae.svi.adjoint",
  "tf_savae.svi.implicit",
  "tf_savae.networks",
  "tf_savae.likelihoods",
  "tf_savae.posteriors",
  "tf_savae.full_gaussian",
  "tf_savae.data",
  "tf_savae.kind",
  "tf_savae.training",
  "tf_savae.runs.restore",
  "tf_savae.registry",
  "tf_savae.errors",
)


class Name(NamedTuple):
  """A public name.

  Attributes:
    module: the module that a program imports it from.
    name: as the program writes it.
    home: the module that defines it.
    node: its definition: a class, a function, or an assignment.
  """

  module: str
  name: str
  home: str
  node: ast.AST

  @property
  def is_data(self) -> bool:
    """Whether it is a value, such as a registry, and neither a class nor a function."""
    return not isinstance(self.node, ast.ClassDef | ast.FunctionDef)


def tree(module: str) -> ast.Module:
  """The parsed source of a module of the package."""
  path = ROOT / module.replace(".", "/")
  path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
  return ast.parse(path.read_text(encoding="utf-8"))


def names(module: str) -> list[Name]:
  """The public names of a module, in the order of its `__all__`."""
  body = tree(module).body
  public = next(_value(node, module) for node in body if _target(node) == "__all__")
  return [Name(module, name, *_definition(module, name)) for name in public]


def page_of(item: Name) -> str:
  """The module on whose page a name is described: the one that defines it, or else the first that offers it."""
  offering = [module for module in MODULES if (item.name, item.home) in _offered(module)]
  return item.home if item.home in offering else offering[0]


@functools.cache
def _offered(module: str) -> frozenset[tuple[str, str]]:
  return frozenset((item.name, item.home) for item in names(module))


def page(module: str) -> str:
  """The Markdown page of a module."""
  text = [f"# {module}", "", (ast.get_docstring(tree(module)) or "").strip(), ""]
  for item in names(module):
    place = page_of(item)
    if place != module:
      text += [f"## {item.name}", "", f"See [{place}]({place}.md#{item.name.lower()}).", ""]
      continue
    kinds = {ast.ClassDef: ("class", ":members:"), ast.FunctionDef: ("function", "")}
    kind, option = kinds.get(type(item.node), ("data", ":no-value:"))
    directive = f"```{{eval-rst}}\n.. auto{kind}:: {item.home}.{item.name}\n   {option}\n```"
    text += [f"## {item.name}", "", f"`from {module} import {item.name}`", "", directive, ""]
  return "\n".join(text)


def _target(node: ast.AST) -> str | None:
  target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
  if isinstance(target, ast.Tuple):
    return None
  return getattr(target, "id", None)


def _value(node: ast.Assign, module: str) -> list[str]:
  """What `__all__` is; an import gives it where it is computed, which needs no TensorFlow."""
  try:
    return list(ast.literal_eval(node.value))
  except ValueError:
    return list(importlib.import_module(module).__all__)


def _definition(module: str, name: str) -> tuple[str, ast.AST]:
  """The module that defines a name, and the node that does."""
  body = tree(module).body
  for node in body:
    if getattr(node, "name", None) == name or _target(node) == name:
      return module, node
    parts = getattr(getattr(node, "targets", [None])[0], "elts", [])  # of an assignment to several names
    if name in [getattr(part, "id", None) for part in parts]:
      return module, node
  for node in body:
    if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
      return _definition(node.module, name)
  homes = importlib.import_module(module).__dict__.get("_HOMES") or _attached(body)
  return _definition(homes[name], name)


def _attached(body: list[ast.stmt]) -> dict[str, str]:
  """The dictionary that a module hands to `lazy.attach` without naming it."""
  for node in body:
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
      for argument in node.value.args:
        if isinstance(argument, ast.Dict):
          return ast.literal_eval(argument)
  return {}
