"""BUILD files say what Python files do: every file has its target, every import and every data file is declared."""

from __future__ import annotations

import ast
import contextlib
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

# What a file imports is not always called what the package index calls it; some import a package without saying so.
DISTRIBUTIONS = {
  "PIL": {"pillow"},
  "absl": {"absl-py"},
  "google": {"protobuf"},
  "grpc": {"grpcio"},
  "pytest": set(),  # of every pytest_test
  "tensorflow_probability": {"tensorflow-probability", "tf-keras"},
  "tensorflow_serving": {"tensorflow-serving-api"},
  "torch": set(),  # of benchmarks/peers alone, which have requirements of their own
}


class Target(NamedTuple):
  """A rule of a BUILD file; files as paths from the top, dependencies as labels in full."""

  label: str
  rule: str
  srcs: frozenset[str]
  data: frozenset[str]
  deps: frozenset[str]
  requirements: frozenset[str]


class Requirement(str):
  """What `requirement` gives in a BUILD file."""


def targets_of(build: Path) -> Iterator[Target]:
  """A BUILD file is Python enough to be run: rules are functions, here ones that take notes."""
  folder = build.parent
  package = "" if folder == ROOT else folder.relative_to(ROOT).as_posix()
  found = []

  def path(name: str) -> str:
    """A file's path from the top, where `name` is no target's label."""
    package_of, _, file = name.removeprefix("//").rpartition(":")
    return f"{package_of if name.startswith('//') else package}/{file or name}".removeprefix("/")

  def glob(patterns: list[str], exclude: list[str] = ()) -> list[str]:
    files = [file.relative_to(folder).as_posix() for pattern in patterns for file in folder.glob(pattern)]
    return [file for file in files if file not in exclude]

  def note(rule: str, name: str, srcs=(), src=None, data=(), deps=(), main=None, **_: Any) -> None:
    labels = [label for label in deps if not isinstance(label, Requirement)]
    found.append(
      Target(
        f"//{package}:{name}",
        rule,
        frozenset(map(path, [*srcs, *([src] if src else [])])),
        frozenset(map(path, data)),
        frozenset(label if label.startswith("//") else f"//{package}{label}" for label in labels),
        frozenset(label for label in deps if isinstance(label, Requirement)),
      )
    )

  rules = ("py_library", "py_binary", "py_test", "pytest_test", "filegroup")
  scope = {rule: functools.partial(note, rule) for rule in rules}
  nothing = dict.fromkeys(("load", "package", "exports_files"), lambda *_, **__: None)
  exec(
    compile(build.read_text(encoding="utf-8"), str(build), "exec"),
    {**scope, **nothing, "glob": glob, "requirement": Requirement},
  )
  yield from found


@functools.cache
def targets() -> dict[str, Target]:
  """Of all BUILD files, by label."""
  return {
    target.label: target
    for build in (ROOT / "BUILD", ROOT / "export" / "BUILD")
    for target in targets_of(build)
  }


@functools.cache
def python_files() -> tuple[str, ...]:
  """Those that Bazel sees, as paths from the top."""
  ignored = {*(ROOT / ".bazelignore").read_text(encoding="utf-8").split(), "external"}  # of the runfiles
  folders = [
    folder
    for folder in ROOT.iterdir()
    if folder.is_dir() and folder.name not in ignored and not folder.name.startswith((".", "bazel-"))
  ]
  files = [*ROOT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))]
  return tuple(sorted(file.relative_to(ROOT).as_posix() for file in files))


def is_test(file: str) -> bool:
  """Whether pytest collects it."""
  return file.startswith("tests/") and Path(file).name.startswith("test_")


def home(module: str, folder: Path) -> str | None:
  """The project's file that `import module` runs, in a file of `folder`."""
  stem = Path(*module.split("."))
  for base in (ROOT, folder):  # pytest puts a test's own folder on the path
    for file in (base / stem.with_suffix(".py"), base / stem / "__init__.py"):
      if file.exists():
        return file.relative_to(ROOT).as_posix()
  return None


def nodes(file: str) -> Iterator[ast.AST]:
  """The syntax of a Python file, and of the programs in its strings, which tests start in other processes."""
  for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
    yield node
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and "import " in node.value:
      with contextlib.suppress(SyntaxError):
        yield from ast.walk(ast.parse(node.value))


@functools.cache
def imports(file: str) -> tuple[frozenset[str], frozenset[str]]:
  """The project's files that `file` imports, anywhere in it, and the distributions."""
  ours, theirs = set(), set()
  folder = (ROOT / file).parent
  for node in nodes(file):
    if isinstance(node, ast.Import):
      modules = [(alias.name, None) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      modules = [(f"{node.module}.{alias.name}", node.module) for alias in node.names]
    else:
      continue
    for module, parent in modules:
      top = module.partition(".")[0]
      if found := home(module, folder) or (parent and home(parent, folder)):
        ours.add(found)
      elif top not in sys.stdlib_module_names:
        theirs |= DISTRIBUTIONS.get(top, {top})
  return frozenset(ours), frozenset(theirs)


def data_of(label: str) -> frozenset[str]:
  """The files that are staged beside the target: its own and those of what it depends on."""
  target = targets()[label]
  return frozenset().union(target.data, target.srcs, *map(data_of, target.deps))


@functools.cache
def fixtures_named_in(file: str) -> frozenset[str]:
  """The files of testdata/ that a string in a Python file is the name or the path of."""
  fixtures = {path.name for path in (ROOT / "testdata").iterdir() if path.is_file() and path.suffix != ".md"}
  strings = {n.value for n in nodes(file) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
  return frozenset(
    f"testdata/{name}" for name in {string.rpartition("/")[2] for string in strings} & fixtures
  )


def owner(file: str) -> str | None:
  """The label of the library that has a file."""
  return next((t.label for t in targets().values() if t.rule == "py_library" and file in t.srcs), None)


def programs() -> list[Target]:
  """All targets of Python files."""
  return [target for target in targets().values() if target.rule != "filegroup"]


def test_every_test_file_has_its_target():
  files = {file for file in python_files() if is_test(file)}
  tests = {target.label: set(target.srcs) for target in programs() if target.rule.endswith("test")}
  assert len(files) > 50
  assert files - set().union(*tests.values()) == set()
  assert tests == {f"//:{Path(file).stem}": {file} for file in files}


def test_every_other_python_file_is_in_a_library_or_a_program():
  libraries = frozenset().union(*(target.srcs for target in programs() if not target.rule.endswith("test")))
  others = {file for file in python_files() if not is_test(file)}
  assert others - libraries == {"tests/run_pytest.py"}  # which pytest.bzl gives to every test
  assert libraries <= others


def test_no_file_is_in_two_libraries():
  srcs = [src for target in programs() if target.rule == "py_library" for src in target.srcs]
  assert len(srcs) == len(set(srcs))


def test_dependencies_exist():
  assert {dep for target in programs() for dep in target.deps} <= targets().keys()
  lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
  pinned = set(re.findall(r"^([\w.-]+)==", lock, flags=re.MULTILINE))
  assert {name for target in programs() for name in target.requirements} <= pinned


def test_every_import_is_declared():
  missing = {}
  for target in programs():
    offered = target.srcs.union(*(targets()[dep].srcs for dep in target.deps))
    for src in target.srcs:
      if target.rule == "py_binary" and owner(src) in target.deps:
        continue  # the library has the dependencies
      ours, theirs = imports(src)
      labels = {owner(file) or file for file in ours - offered}
      if labels or theirs - target.requirements:
        missing[target.label, src] = labels | theirs - target.requirements
  assert not missing


def test_every_data_file_is_declared():
  missing = {}
  for target in programs():
    for src in target.srcs:
      # What the files of testdata/ name are their outputs.
      used = frozenset() if src.startswith("testdata/") else fixtures_named_in(src)
      if target.rule.endswith("test"):
        used |= {
          file
          for parent in Path(src).parents
          if (file := (parent / "conftest.py").as_posix()) in python_files()
        }
      if used - data_of(target.label):
        missing[target.label, src] = used - data_of(target.label)
  assert not missing


def test_the_module_reads_both_locks():
  path = ROOT / "MODULE.bazel"
  if not path.exists():
    pytest.skip("Bazel 4 knows no modules, and .ci/bazel_check does not stage the file")
  module = path.read_text(encoding="utf-8")
  locks = dict(
    re.findall(r'hub_name = "(\w+)",.*?requirements_lock = "//:([\w.-]+)"', module, flags=re.DOTALL)
  )
  assert locks == {"pypi": "requirements.txt", "pypi_dev": "requirements-dev.txt"}
  assert re.search(r"^pytest==", (ROOT / locks["pypi_dev"]).read_text(encoding="utf-8"), flags=re.MULTILINE)
