"""What a release is made of: the changelog's form, the workflows' schemas, and pins that agree."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tf_savae

ROOT = Path(__file__).parents[1]
SCHEMAS = {
  "github-workflows": ".github/workflows/*.yml",
  "github-issue-forms": ".github/ISSUE_TEMPLATE/[!c]*.yml",
  "github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
  "citation-file-format": "CITATION.cff",
}


def read(name):
  path = ROOT / name
  if not path.exists():
    pytest.skip(f"{name} is not staged here")
  return path.read_text(encoding="utf-8")


def test_changelog_keeps_its_form():
  text = read("CHANGELOG.md")
  releases = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
  assert releases[0] == "[Unreleased]"
  found = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", release) for release in releases[1:]]
  assert all(found), releases
  versions = [tuple(map(int, match[1].split("."))) for match in found]
  assert versions == sorted(versions, reverse=True)
  dates = [match[2] for match in found]
  assert dates == sorted(dates, reverse=True)
  assert found[0][1] == tf_savae.__version__.partition(".dev")[0]
  kinds = set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE))
  assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_follow_their_schema(schema):
  if importlib.util.find_spec("check_jsonschema") is None:
    pytest.skip("check-jsonschema is not installed")
  files = [str(path) for path in sorted(ROOT.glob(SCHEMAS[schema]))]
  if not files:
    pytest.skip("the files are not staged here")
  command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *files]
  done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
  assert done.returncode == 0, done.stdout


def test_workflow_tests_the_versions_that_the_package_names():
  project = tomllib.loads(read("pyproject.toml"))["project"]
  named = [item.rpartition(" ")[2] for item in project["classifiers"] if re.search(r":: 3\.\d+$", item)]
  tested = re.search(r"python: \[(.*)\]", read(".github/workflows/test.yml"))[1]
  assert [version.strip(' "') for version in tested.split(",")] == named


def test_pre_commit_uses_the_pinned_versions():
  text, pinned = read(".pre-commit-config.yaml"), read("requirements-dev.txt")
  for repository, package in (("ruff-pre-commit", "ruff"), ("check-jsonschema", "check-jsonschema")):
    revision = re.search(rf"/{repository}\n *rev: v?([\d.]+)", text)[1]
    assert f"\n{package}=={revision}\n" in pinned


def test_extras_of_developers_are_pinned():
  extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
  pinned = read("requirements-dev.txt")
  listed = set(re.findall(r"^(\w[\w-]*)(?=\s)", read("requirements-dev.in"), flags=re.MULTILINE))
  names = {re.match(r"[\w-]+", item).group() for extra in ("dev", "docs") for item in extras[extra]}
  assert names == listed
  for name in names:
    assert re.search(rf"^{name}==", pinned, flags=re.MULTILINE), name


def test_developers_get_all_that_the_program_needs_at_its_versions():
  program, developers = (
    set(read(name).splitlines()) for name in ("requirements.txt", "requirements-dev.txt")
  )
  assert program - developers == set()


def test_the_pinned_set_has_every_extra_that_adds_a_feature():
  extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
  pinned = read("requirements.txt")
  for extra in extras.keys() - {"gpu", "dev", "docs"}:  # a GPU's libraries are for its machine alone
    for item in extras[extra]:
      name = re.match(r"[\w-]+", item).group()
      assert re.search(rf"^{name}==", pinned, flags=re.MULTILINE), f"[{extra}] {name}"
