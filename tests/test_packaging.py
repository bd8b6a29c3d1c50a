"""pyproject.toml, the requirements and the package say the same, and what is installed is whole."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest

import tf_savae
from tf_savae import startup
from tf_savae.data import omniglot, yahoo
from tf_savae.errors import UserError

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# A module's name where it is not that of its distribution.
MODULES = {"absl-py": "absl", "pillow": "PIL", "protobuf": "google"}


def names(requirements: list[str]) -> list[str]:
  return [re.match(r"[\w-]+", requirement).group() for requirement in requirements]


def required() -> list[str]:
  return names(PROJECT["project"]["dependencies"])


def extras(*groups: str) -> list[str]:
  """What a user installs for a part of the program."""
  return names([line for group in groups for line in PROJECT["project"]["optional-dependencies"][group]])


USED = ("serving", "parquet", "text", "analysis")


def test_version_and_licence_are_said_once():
  assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "tf_savae.__version__"}
  assert PROJECT["project"]["license"] == tf_savae.__license__
  module = ROOT / "MODULE.bazel"
  if module.exists():  # Bazel 4 knows no modules, and .ci/bazel_check does not stage the file
    assert f'version = "{tf_savae.__version__}"' in module.read_text(encoding="utf-8")
  release = tf_savae.__version__.partition(".dev")[0]
  assert f"## [{release}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
  assert f"\nversion: {tf_savae.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_dependencies_are_bounded_and_those_of_the_requirements():
  listed = re.findall(
    r"^([\w-]+)", (ROOT / "requirements.in").read_text(encoding="utf-8"), flags=re.MULTILINE
  )
  assert sorted(required() + extras(*USED)) == sorted(set(listed) | {"protobuf"})
  pinned = (ROOT / "requirements.txt").read_text(encoding="utf-8")
  for name in required() + extras(*USED):
    assert re.search(rf"^{name}==", pinned, flags=re.MULTILINE), name
  assert all(">=" in requirement for requirement in PROJECT["project"]["dependencies"])


def test_the_package_imports_what_it_requires():
  found = set()
  for path in (ROOT / "tf_savae").rglob("*.py"):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      if isinstance(node, ast.Import):
        found |= {alias.name.partition(".")[0] for alias in node.names}
      elif isinstance(node, ast.ImportFrom):
        found.add(node.module.partition(".")[0])
  found -= set(sys.stdlib_module_names) | {"tf_savae"}
  modules = {MODULES.get(name, name.replace("-", "_")) for name in required()}
  assert found - modules == {"grpc", "tensorflow_serving", "pyarrow", "sentencepiece"}  # the extras
  # tensorflow-probability imports these two.
  assert modules - found == {"tf_keras", "setuptools"}


def test_data_and_the_mark_of_types_travel_with_the_package():
  package = Path(tf_savae.__file__).parent
  for file in (omniglot.STAND_IN, yahoo.STAND_IN, package / "py.typed"):
    assert file.is_file() and file.is_relative_to(package)


def test_without_the_extra_for_serving_one_line_says_what_to_install(monkeypatch):
  startup.require_serving()
  find = importlib.util.find_spec
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "grpc" else find(name))
  with pytest.raises(UserError, match=r"^grpc is not installed: pip install 'tf_savae\[serving\]'$"):
    startup.require_serving()
