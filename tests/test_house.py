"""The plan of the package: imports run down from layer to layer, with no circle between files or packages.

Every import counts, also those under TYPE_CHECKING and inside functions.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "tf_savae"

# From the ground up. A part imports from its own layer or from those below, and from itself.
LAYERS = (
  (
    "atomic_files",
    "errors",
    "full_gaussian",
    "lazy",
    "literal_paths",
    "locks",
    "masks",
    "observations",
    "plugins",
    "posterior",
    "precision",
    "registry",
    "replicas",
    "seeds",
    "startup",
    "tokens",
    "metrics",
  ),
  ("likelihoods", "ops", "posteriors"),
  ("svi",),
  ("data", "kind", "networks"),
  (
    "example_weights",
    "importance",
    "inference",
    "keras_guards",
    "lagging",
    "masking",
    "measured",
    "methods",
    "model",
    "model_checks",
    "objective",
    "penalties",
    "saved_model",
    "schedules",
    "strategy_checks",
    "update",
  ),
  ("runs",),
  ("evaluation", "generation", "serving"),
  ("kinds",),
  ("training",),
  ("commands", "__main__"),
)


def module_name(path: Path) -> str:
  return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def imported_names(module: str) -> set[str]:
  """Modules of the package that a file names in its imports."""
  found = set()
  for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{module}: imports name the whole path"
      within = {f"{node.module}.{alias.name}" for alias in node.names}
      found |= {name if name in FILES else node.module for name in within}
  return {name for name in found if name in FILES and name != module}


# The package's own __init__ only says where public names are at home.
GRAPH = {module: imported_names(module) - {PACKAGE} for module in FILES if module != PACKAGE}


def part(module: str) -> str:
  """A package or file directly below the top."""
  return module.split(".")[1]


def assert_no_circle(graph: dict[str, set[str]]) -> None:
  try:
    TopologicalSorter(graph).prepare()
  except CycleError as error:
    pytest.fail(f"a circle: {' → '.join(reversed(error.args[1]))}")


def test_files_form_no_circle():
  assert_no_circle(GRAPH)


def test_packages_form_no_circle():
  graph: dict[str, set[str]] = {}
  for module, imports in GRAPH.items():
    graph.setdefault(part(module), set()).update(part(name) for name in imports if part(name) != part(module))
  assert_no_circle(graph)


def test_every_part_has_its_layer():
  parts = [name for layer in LAYERS for name in layer]
  assert len(parts) == len(set(parts))
  assert {part(module) for module in GRAPH} <= set(parts)


def test_imports_run_down():
  level = {name: i for i, layer in enumerate(LAYERS) for name in layer}
  upward = [
    f"{module} imports {name}"
    for module, imports in GRAPH.items()
    for name in sorted(imports)
    if level[part(name)] > level[part(module)]
  ]
  assert upward == []


def test_nothing_in_the_package_imports_what_stands_beside_it():
  beside = {"export", "experiments", "benchmarks", "tests", "testdata", "train"}
  for module, path in FILES.items():
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
      names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
      assert not beside & {name.split(".")[0] for name in names}, module


def test_a_circle_would_be_seen():
  with pytest.raises(pytest.fail.Exception, match=r"a → b → a|b → a → b"):
    assert_no_circle({"a": {"b"}, "b": {"a"}})
