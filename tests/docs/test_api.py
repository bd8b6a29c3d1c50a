"""Every public name says what it is: arguments, shapes, units, errors, source, and an example that runs.

The rule, for each name in the `__all__` of the modules of the API reference:

* A summary of one sentence.
* `Args:` or `Attributes:` name each parameter. A class may leave that to the class that it inherits from.
* A function that returns something says what: under `Returns:`, or in a summary that is a noun phrase.
* `Raises:` where the definition has a `raise`.
* A shape such as `[batch, latent]` where a parameter is a tensor or an array.
* "nats" where the text speaks of an ELBO, a KL, log p, or "the" bound, loss or likelihood.
* A source for methods, rules, adjoints and networks: the paper, or an author and a year.
* `Example:`, whose lines run and print what is written.
* Public methods and properties have a docstring, their own or one that they inherit.
* A registry or a constant has a comment `#:` before it.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

from tf_savae.data import DATASETS
from tf_savae.networks.catalogue import DECODERS, ENCODERS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs/site"))

import api  # noqa: E402

NAMES = [item for module in api.MODULES for item in api.names(module) if api.page_of(item) == module]
DESCRIBED = [item for item in NAMES if not item.is_data]
SOURCE = re.compile(r"\bpaper\b|\b(18|19|20)\d\d\b|Source:")
OF_A_SOURCE = ("tf_savae.methods", "tf_savae.svi.rules", "tf_savae.svi.adjoint")
UNITS = re.compile(r"\bELBO\b|\bKL\(|log p\(|\b(a|the) (bound|loss|likelihood)\b")


def written(item) -> str:
  return ast.get_docstring(item.node) or ""


def of(items):
  return pytest.mark.parametrize("item", items, ids=lambda item: f"{item.module}.{item.name}")


def parameters(item) -> list[str]:
  """Names that a program passes: of a function, of `__init__`, or the fields of a dataclass or named tuple."""
  node = item.node
  if isinstance(node, ast.ClassDef):
    made = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    if not made:
      is_plain = any(ast.unparse(base) == "NamedTuple" for base in node.bases) or any(
        "dataclass" in ast.unparse(decorator) for decorator in node.decorator_list
      )
      fields = [part for part in node.body if isinstance(part, ast.AnnAssign) and is_plain]
      return [part.target.id for part in fields if "ClassVar" not in ast.unparse(part.annotation)]
    node = made[0]
  arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
  return [argument.arg for argument in arguments if argument.arg != "self"]


def section(text: str, *titles: str) -> str:
  """What stands under the titles, up to the next one."""
  found = [
    re.search(rf"^{title}:\n(.*?)(?=^\w[\w ]*:\n|\Z)", text, flags=re.DOTALL | re.MULTILINE)
    for title in titles
  ]
  return "".join(match[1] for match in found if match)


def inherited(item) -> str:
  """The docstrings of the classes of the package that a class inherits from."""
  found = getattr(importlib.import_module(item.home), item.name)
  classes = found.__mro__[1:] if inspect.isclass(found) else ()
  return "\n\n".join(
    inspect.cleandoc(c.__doc__ or "") for c in classes if c.__module__.startswith("tf_savae")
  )


def test_names_are_found():
  assert len(NAMES) > 60
  assert {"SAVAE", "refine", "DECODERS", "run"} <= {item.name for item in NAMES}


@of([item for item in NAMES if item.is_data])
def test_a_value_has_a_comment_for_the_reference(item):
  path = ROOT / f"{item.home.replace('.', '/')}.py"
  path = path if path.exists() else path.with_suffix("") / "__init__.py"
  lines = path.read_text(encoding="utf-8").splitlines()
  assert lines[item.node.lineno - 2].startswith("#: ")


@of(DESCRIBED)
def test_a_name_is_described(item):
  text = written(item)
  summary = text.partition("\n\n")[0]
  assert re.search(r"[.:]\Z", summary) and len(summary.split()) < 40, summary
  listed = section(text, "Args", "Attributes")
  if isinstance(item.node, ast.ClassDef):
    listed += section(inherited(item), "Args", "Attributes")
  for name in parameters(item):
    assert re.search(rf"^ *([\w*]+, )*\**{name}(, [\w*]+)*:", listed, flags=re.MULTILINE), name
  if (
    isinstance(item.node, ast.FunctionDef) and ast.unparse(item.node.returns or ast.Constant(None)) != "None"
  ):
    assert "Returns:\n" in text or re.match(r"(A|An|The|One) ", summary) or "returns" in summary.lower()
  raised = [
    part
    for body in (item.node.body if isinstance(item.node, ast.FunctionDef) else _constructors(item.node))
    for part in ast.walk(body)
    if isinstance(part, ast.Raise)
  ]
  if raised:
    assert "Raises:\n" in text or "Raises:\n" in inherited(item)


def _constructors(node):
  names = ("__init__", "__post_init__")
  return [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name in names]


@of(DESCRIBED)
def test_a_name_says_its_shapes_units_and_source(item):
  text = written(item)
  own = [item.node] if isinstance(item.node, ast.FunctionDef) else _constructors(item.node)
  annotated = " ".join(ast.unparse(part.args) for part in own)
  if re.search(r"tf\.Tensor|np\.ndarray|GaussianParams", annotated):
    assert "`[" in text
  told = text.partition("\nExample:")[0]
  if UNITS.search(told):
    assert "nats" in told or "nats" in inherited(item)
  networks = (
    item.module == "tf_savae.networks" and isinstance(item.node, ast.ClassDef) and item.name != "Network"
  )
  if item.module in OF_A_SOURCE or networks:
    assert SOURCE.search(told)


@of(DESCRIBED)
def test_the_parts_of_a_class_are_described(item):
  found = getattr(importlib.import_module(item.home), item.name)
  if inspect.isclass(found):
    for name in [name for name in vars(found) if not name.startswith("_")]:
      part = inspect.getattr_static(found, name)
      if callable(part) or isinstance(part, property | classmethod | staticmethod):
        assert inspect.getdoc(getattr(found, name)), name


@pytest.fixture
def registries_afterwards_as_before(monkeypatch):
  """What an example registers is not there for other tests."""
  registries = [DATASETS, *(r for catalogue in (ENCODERS, DECODERS) for r in catalogue._of_kind.values())]
  for registry in registries:
    monkeypatch.setattr(registry, "_parts", dict(registry._parts))


@pytest.mark.slow
@pytest.mark.usefixtures("registries_afterwards_as_before")
@of(DESCRIBED)
def test_the_example_runs(item, capfd):
  examples = doctest.DocTestParser().get_doctest(written(item), {}, item.name, item.home, item.node.lineno)
  assert examples.examples, "no Example:"
  assert "\nExample:\n" in written(item)
  report: list[str] = []
  runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
  result = runner.run(examples, out=report.append)
  assert result.failed == 0, "".join(report)
