"""README and the documentation are a promise: their Python runs, and what they name exists."""

import functools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wording import MOST_WORDS, sentences

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
GUIDE = [ROOT / "README.md", *DOCS]
BESIDE_THE_CODE = ("experiments/SYNTHETIC.md", "benchmarks/NOTES.md", "testdata/README.md")
PAGES = [*GUIDE, *(ROOT / name for name in BESIDE_THE_CODE)]
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def name_of(page):
  return str(page.relative_to(ROOT))


def blocks(page, language):
  return [code for found, code in FENCED.findall(TEXT[page]) if found == language]


def prose(page):
  return FENCED.sub("", TEXT[page])


# Python --------------------------------------------------------------------------------------------------------

PLUGIN_GUIDE = ROOT / "docs/extending.md"
EXAMPLES = [
  pytest.param(page, code, id=f"{name_of(page)}-{number}")
  for page in GUIDE
  if page != PLUGIN_GUIDE
  for number, code in enumerate(blocks(page, "python"))
]


def test_there_are_examples_of_own_images_and_of_own_networks():
  pages = {name_of(example.values[0]) for example in EXAMPLES}
  assert {"docs/data.md", "docs/networks.md"} <= pages


@pytest.mark.slow
@pytest.mark.parametrize(("page", "code"), EXAMPLES)
def test_example_runs(page, code, capsys):
  exec(compile(code, f"example of {name_of(page)}", "exec"), {"__name__": "__main__"})
  assert "nan" not in capsys.readouterr().out


@pytest.mark.slow
def test_plugin_of_the_guide_trains_and_can_be_evaluated(tmp_path):
  (code,) = blocks(PLUGIN_GUIDE, "python")
  (tmp_path / re.match(r"# (\w+\.py)\n", code).group(1)).write_text(code, encoding="utf-8")
  lines = "\n".join(blocks(PLUGIN_GUIDE, "bash")).splitlines()
  train = next(line for line in lines if "train.py" in line)
  sweep = next(line for line in lines if "tf_savae sweep" in line)
  for line in (f"{train} --max_steps=2", f"{sweep} --num=4"):
    words = [sys.executable, *shlex.split(line)[1:]]
    words = [str(ROOT / word) if word == "train.py" else word for word in words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
      words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


# Commands ------------------------------------------------------------------------------------------------------


def commands(page):
  """(program, its flags) for each command of ours in the page's code, and inline in its text."""
  found = []
  lines = [line for code in blocks(page, "bash") for line in code.replace("\\\n", " ").splitlines()]
  for line in [*lines, *re.findall(r"`([^`\n]*python [^`\n]*)`", prose(page))]:
    for match in re.finditer(
      r"python (train\.py|-m (tf_savae \w+|(?:tf_savae|export|benchmarks|experiments)\.[\w.]+))", line
    ):
      rest = re.split(r"&&|;|\||#| -- ", line[match.end() :])[0]
      found.append((match.group(1), set(re.findall(r" --(?:no)?([a-z_]+)", rest))))
  return found


@functools.cache
def flags_of(program):
  """Names of the flags that `program --help` lists."""
  command = [sys.executable, *shlex.split(program), "--help"]
  environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
  done = subprocess.run(
    command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
  )
  assert "No module named" not in done.stderr and "can't open file" not in done.stderr, done.stderr
  return set(re.findall(r"--(?:\[no\])?([a-z_]+)", done.stdout))


ALL_COMMANDS = sorted({program for page in PAGES for program, _ in commands(page)})


def test_commands_are_found():
  named = {"train.py", "-m tf_savae generate", "-m tf_savae export", "-m experiments.synthetic"}
  assert named <= set(ALL_COMMANDS)


@pytest.mark.parametrize("program", ALL_COMMANDS)
def test_command_exists_and_has_every_flag_that_is_written_with_it(program):
  for page in PAGES:
    for named, flags in commands(page):
      if named == program:
        assert flags <= flags_of(program), name_of(page)


@pytest.mark.parametrize("page", GUIDE, ids=name_of)
def test_every_flag_in_the_text_is_one_of_a_command(page):
  known = set().union(*map(flags_of, ALL_COMMANDS)) | {"help"}
  inline = " ".join(re.findall(r"`([^`\n]+)`", prose(page)))
  # A flag may be named by its `--no…` form, and some names begin with "no".
  named = re.findall(r"(?<![\w-])--([a-z_]+)", inline)
  unknown = [name for name in named if name not in known and name.removeprefix("no") not in known]
  assert not unknown


# Files, links, headings ----------------------------------------------------------------------------------------


def anchors(page):
  """What GitHub and the usual site generators make of a page's headings."""
  headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
  return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
  for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
    if re.match(r"[a-z]+:", link):
      continue
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists(), link
    assert target.is_relative_to(ROOT), link
    if anchor:
      assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_named_exist(page):
  for path in re.findall(r"`((?:\w+/)+[\w-]+\.(?:py|md|png|txt|gz|mat))`", prose(page)):
    base = path.split("/")[0]
    if (ROOT / base).is_dir() and base not in ("data", "runs"):  # what a user has there
      assert (ROOT / path).exists(), path


def test_every_page_is_in_the_index_and_in_readme():
  for page in DOCS:
    if page.name != "index.md":
      assert f"]({page.name})" in TEXT[ROOT / "docs/index.md"], page.name
      assert f"](docs/{page.name})" in TEXT[ROOT / "README.md"], page.name


def test_map_from_the_paper_names_the_core():
  section = TEXT[ROOT / "README.md"].partition("## From the paper to the code")[2].partition("\n## ")[0]
  core = ("svi/rules", "svi/noise", "svi/refine", "svi/adjoint", "objective", "inference", "methods", "model")
  for module in core:
    assert f"](tf_savae/{module}.py)" in section, module


# Prose ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_sentence_is_longer_than_30_words(page):
  text = re.sub(r"^ *(\||#|!\[|<!--).*$", "\n", prose(page), flags=re.MULTILINE)  # tables, headings, pictures
  text = re.sub(r"\]\([^)]*\)", "]", text)
  for paragraph in re.split(r"\n\s*\n|\n\s*(?:[*-]|\d+\.) ", text):
    for sentence in sentences(paragraph):
      assert len(sentence.split()) <= MOST_WORDS, sentence
