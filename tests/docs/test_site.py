"""The documentation site builds without a warning, holds every page, and loads nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILDER = ROOT / "docs/site/build.py"

spec = importlib.util.spec_from_file_location("site_build", BUILDER)
builder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(builder)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
  out = tmp_path_factory.mktemp("docs") / "site"
  command = [sys.executable, str(BUILDER), f"--out={out}"]
  done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
  assert done.returncode == 0, done.stderr[-4000:]
  return out


class Page(HTMLParser):
  """What a page loads, what it links to, and its anchors."""

  def __init__(self, path):
    super().__init__()
    self.loads, self.links, self.anchors = set(), set(), set()
    self.feed(path.read_text(encoding="utf-8"))

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    if tag in ("script", "img", "iframe", "source") and attrs.get("src"):
      self.loads.add(attrs["src"])
    if tag == "link" and attrs.get("rel") in ("stylesheet", "preload", "icon"):
      self.loads.add(attrs["href"])
    if tag == "a" and attrs.get("href"):
      self.links.add(attrs["href"])
    if attrs.get("id"):
      self.anchors.add(attrs["id"])


@pytest.fixture(scope="module")
def pages(site):
  return {path: Page(path) for path in site.rglob("*.html")}


@pytest.mark.slow
def test_every_page_of_docs_is_in_the_site(site):
  for page in (ROOT / "docs").glob("*.md"):
    assert (site / f"{page.stem}.html").is_file(), page.name


def test_every_page_is_in_the_menu():
  named = [page for pages in builder.MENU.values() for page in pages]
  assert len(named) == len(set(named))
  assert {page.stem for page in (ROOT / "docs").glob("*.md")} - set(named) == {"index"}


@pytest.mark.slow
def test_pages_load_files_of_the_site_alone(site, pages):
  for path, page in pages.items():
    for link in page.loads:
      assert not re.match(r"(\w+:)?//", link), (path, link)
      assert (path.parent / link.partition("?")[0]).is_file(), (path, link)
  for style in site.rglob("*.css"):
    for link in re.findall(r"url\(['\"]?([^'\")]+)", style.read_text(encoding="utf-8")):
      assert not re.match(r"(\w+:)?//", link), (style, link)


@pytest.mark.slow
def test_links_and_anchors_between_pages_lead_somewhere(pages):
  for path, page in pages.items():
    for link in page.links:
      if re.match(r"[a-z]+:", link):
        continue
      file, _, anchor = link.partition("#")
      target = (path.parent / file).resolve() if file else path
      assert target.is_file(), (path.name, link)
      if anchor and target in pages:
        assert anchor in pages[target].anchors, (path.name, link)


@pytest.mark.slow
def test_formulas_are_left_to_the_katex_of_the_site(site):
  text = (site / "gradient.html").read_text(encoding="utf-8")
  assert text.count('class="katex-source"') > 10 and "mathematics.js" in text
  fonts = {path.name for path in (site / "_static/katex/fonts").iterdir()}
  style = (site / "_static/katex/katex.min.css").read_text(encoding="utf-8")
  assert set(re.findall(r"url\(fonts/([^)]+)\)", style)) == fonts


def test_links_to_files_of_the_repository_become_links_of_the_site():
  text = "[a](../tf_savae/model.py) ![b](images/walk.svg) [c](data.md#yahoo) [d](../README.md#methods)\n"
  text += "[e](https://example.org) [f](../benchmarks)\n```\n[a](../tf_savae/model.py)\n```\n"
  new, found = builder.rewritten("docs/x.md", text)
  assert new == (
    "[a](repository/tf_savae/model.py.md) ![b](images/walk.svg) [c](data.md#yahoo) [d](repository/README.md#methods)\n"
    "[e](https://example.org) f\n```\n[a](../tf_savae/model.py)\n```\n"
  )
  assert found == {"tf_savae/model.py", "docs/images/walk.svg", "docs/data.md", "README.md"}
  new, _ = builder.rewritten("experiments/SYNTHETIC.md", "[a](../docs/data.md) [b](figures/landscape.png)")
  assert new == "[a](../../data.md) [b](figures/landscape.png)"
