"""The words in the code: sentences of at most 30 words, rates with "per", and no reference to a file users lack."""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from pathlib import Path

from tests.wording import MOST_WORDS, sentences

ROOT = Path(__file__).parents[1]
CODE = ("tf_savae", "export", "experiments", "benchmarks", "testdata")
PRODUCT = sorted([ROOT / "train.py", *(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))])
FILES = [*PRODUCT, *sorted(path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))]

_INTERNAL = re.compile(r"\b(DESIGN|FACTS)(\.md)?\b")
_UNITS = (
  r"(?:nats|seconds|examples|rows|tokens|updates|draws|points|batches|passes|bytes|pixels|steps|once|twice)"
)
_PER = r"(?:step|update|example|row|batch|epoch|second|minute"
_PER += r"|token|document|line|split|axis|draw|run|side)"
_RATE = re.compile(rf"\b{_UNITS} an? {_PER}\b")
_FIELD = re.compile(r"\n *(?:[\w.*`, ]+: )|\n *(?:[*-]|\d+\.) ")


def docstrings(path: Path):
  """Yields (line, text) of every docstring in a file."""
  for node in ast.walk(_tree(path)):
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
      text = ast.get_docstring(node)
      if text:
        yield node.body[0].lineno, text


def comments(path: Path):
  """Yields (line, text) of every comment in a file."""
  for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
    if token.type == tokenize.COMMENT:
      yield token.start[0], token.string


@functools.cache
def _tree(path: Path) -> ast.Module:
  return ast.parse(path.read_text(encoding="utf-8"))


def _paragraphs(text: str):
  """The paragraphs of prose in a docstring; those that are indented, such as formulas and tables, are left out."""
  text = re.sub(
    r"^ *(>>>|\.\.\. ?).*(\n(?! *(>>>|\.\.\.|$)).*)*", "", text, flags=re.MULTILINE
  )  # examples to run
  for section in re.split(r"\n\s*\n", text):
    for paragraph in _FIELD.split("\n" + section):
      lines = paragraph.strip("\n").splitlines()
      if (
        lines
        and not lines[0].startswith("    ")
        and not re.search(r"\S {3,}\S|^\|", paragraph, flags=re.MULTILINE)
      ):
        yield paragraph


def test_no_docstring_or_comment_names_a_file_that_users_lack():
  assert not list(_matches(_INTERNAL))


def test_rates_are_written_with_per():
  assert not list(_matches(_RATE))


def _matches(pattern: re.Pattern[str]):
  """Yields the docstrings and comments, of the tests too, in which `pattern` is found."""
  for path in FILES:
    for line, text in (*docstrings(path), *comments(path)):
      if pattern.search(text):
        yield f"{path.relative_to(ROOT)}:{line}: {text}"


def test_no_sentence_of_a_docstring_is_longer_than_30_words():
  long = [
    f"{path.relative_to(ROOT)}:{line}: {sentence}"
    for path in PRODUCT
    for line, text in docstrings(path)
    for paragraph in _paragraphs(text)
    for sentence in sentences(paragraph)
    if len(sentence.split()) > MOST_WORDS
  ]
  assert not long
