"""BUILD files say what Python files do: every file is in a library, and a library names what its files import."""

from __future__ import annotations

import ast
import functools
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]

# What a file imports is not always called what the package index calls it; some import a package without saying so.
DISTRIBUTIONS = {
  "PIL": {"pillow"},
  "absl": {"absl-py"},
  "google": {"protobuf"},
  "sentencepiece": {"sentencepiece", "tensorflow-text"},  # whose library of operations is loaded
  "grpc": {"grpcio"},
  "tensorflow_probability": {"tensorflow-probability", "tf-keras"},
  "tensorflow_serving": {"tensorflow-serving-api"},
  "torch": set(),  # of benchmarks/peers alone, which have requirements of their own
}


@functools.cache
def libraries() -> dict[str, SimpleNamespace]:
  """label → the files, labels and distributions of a `python_package`: a BUILD file is Python enough to be run."""
  found = {}
  folders = ("tf_savae", "export", "experiments", "benchmarks")
  for build in (path for folder in folders for path in sorted((ROOT / folder).rglob("BUILD"))):
    package = build.parent.relative_to(ROOT).as_posix()

    def note(name, srcs=None, deps=(), pip=(), package=package, folder=build.parent, **_):
      files = sorted(path.name for path in folder.glob("*.py")) if srcs is None else srcs
      labels = {f"//{package}{dep}" if dep.startswith(":") else full(dep) for dep in deps}
      found[f"//{package}:{name}"] = SimpleNamespace(
        files=[f"{package}/{file}" for file in files], deps=labels, pip=set(pip)
      )

    nothing = dict.fromkeys(("load", "sources", "py_binary"), lambda *_, **__: None)
    exec(compile(build.read_text(encoding="utf-8"), str(build), "exec"), {**nothing, "python_package": note})
  return found


def full(label: str) -> str:
  """`//a/b` in full: `//a/b:b`."""
  return label if ":" in label else f"{label}:{label.rpartition('/')[2]}"


@functools.cache
def owner(file: str) -> str | None:
  """The label of the library that has a file."""
  return next((label for label, library in libraries().items() if file in library.files), None)


def imports(file: str) -> tuple[set[str], set[str]]:
  """The labels of libraries, and the distributions, that a file imports, anywhere in it."""
  labels, distributions = set(), set()
  for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
    if isinstance(node, ast.Import):
      modules = [(alias.name, None) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      modules = [(f"{node.module}.{alias.name}", node.module) for alias in node.names]
    else:
      continue
    for module, parent in modules:
      stems = [name.replace(".", "/") for name in (module, parent) if name]
      homes = [owner(f"{stem}{ending}") for stem in stems for ending in (".py", "/__init__.py")]
      top = module.partition(".")[0]
      if any(homes):
        labels.add(next(filter(None, homes)))
      elif top not in sys.stdlib_module_names:
        distributions |= DISTRIBUTIONS.get(top, {top})
  return labels, distributions


def test_every_python_file_is_in_one_library():
  files = [file for library in libraries().values() for file in library.files]
  assert len(files) == len(set(files)) > 100
  folders = ("tf_savae", "export", "experiments", "benchmarks")
  there = {path.relative_to(ROOT).as_posix() for f in folders for path in (ROOT / f).rglob("*.py")}
  assert set(files) == there


@pytest.mark.parametrize("label", sorted(libraries()))
def test_a_library_names_what_its_files_import_and_nothing_else(label):
  library = libraries()[label]
  # The package's own __init__ says where names are at home, and imports them when they are asked for.
  files = [file for file in library.files if file != "tf_savae/__init__.py"]
  labels, distributions = (set().union(*parts) for parts in zip(*map(imports, files), strict=True))
  assert library.pip == distributions
  if label == "//tf_savae:tf_savae":  # all of them: registries import by name
    assert library.deps == {other for other in libraries() if other.startswith("//tf_savae")} - {label}
  else:
    assert library.deps == labels - {label}


def test_every_folder_of_tests_has_its_targets():
  build = (ROOT / "BUILD").read_text(encoding="utf-8")
  named = re.findall(r'^ {8}"(tests[\w/]*)": \[', build, flags=re.MULTILINE)
  folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
  assert set(named) == folders and len(named) == len(folders)
  names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
  assert len(names) == len(set(names))  # targets are called like the files


def test_every_distribution_is_pinned():
  lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
  pinned = set(re.findall(r"^([\w.-]+)==", lock, flags=re.MULTILINE))
  assert set().union(*(library.pip for library in libraries().values())) <= pinned


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


def test_a_sandboxed_test_finds_the_sources_of_every_package():
  listed = set(
    re.findall(r'^ {12}"([\w/]+)",$', (ROOT / "BUILD").read_text(encoding="utf-8"), flags=re.MULTILINE)
  )
  packages = {str(path.parent.relative_to(ROOT)) for path in (ROOT / "tf_savae").rglob("BUILD")}
  assert packages <= listed
