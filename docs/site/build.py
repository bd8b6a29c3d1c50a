"""Builds the documentation site, without network: `python docs/site/build.py`, into build/site.

Sphinx with MyST rather than MkDocs Material, whose maintenance ends in 2027: it is kept, its search works from files,
and its autodoc reads names that are imported when they are first used.

The pages are written for GitHub and a checkout, where a link may lead to any file of the repository. First they are
copied to a folder beside the site. Each file outside of docs/ that a page links to then becomes a page below
`repository/`, Markdown as it is and code with line numbers, and links are rewritten. Any warning of Sphinx is an error.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import api  # noqa: E402

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build/site"

# The pages in the order of the menu, under headings.
MENU = {
  "Start": ("install", "idea", "choosing", "faq"),
  "Tutorials": ("notebooks/images", "notebooks/text"),
  "Guides": (
    "data",
    "pictures",
    "networks",
    "keras",
    "extending",
    "runs",
    "tensorboard",
    "deploy",
    "devices",
    "speed",
    "bazel",
  ),
  "The paper": ("paper", "design", "gradient", "results", "analysis", "repository/experiments/SYNTHETIC"),
  "API": tuple(f"api/{module}" for module in api.MODULES),
  "Project": (
    "repository/CONTRIBUTING",
    "repository/CHANGELOG",
    "cite",
    "repository/benchmarks/RESULTS",
    "repository/benchmarks/NOTES",
    "repository/testdata/README",
  ),
}

_FENCED = re.compile(r"^```.*?^```$", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s#]+)((?:#[^)\s]*)?)\)")
_LANGUAGES = {".py": "python", ".bzl": "python", ".toml": "toml", ".yml": "yaml", ".cff": "yaml"}


def site_path(path: str) -> str:
  """Where a file of the repository is in the site's source: `docs/data.md` is `data.md`."""
  if path.startswith("docs/"):
    return path.removeprefix("docs/")
  ending = posixpath.splitext(path)[1]
  return f"repository/{path}" if ending in (".md", ".png", ".svg") else f"repository/{path}.md"


def prose_and_code(text: str) -> Iterator[tuple[str, bool]]:
  """The text in parts, and whether a part is a fenced block."""
  last = 0
  for block in _FENCED.finditer(text):
    yield text[last : block.start()], False
    yield block.group(), True
    last = block.end()
  yield text[last:], False


def rewritten(path: str, text: str) -> tuple[str, set[str]]:
  """The text of a Markdown file for the site, and the files of the repository that it links to."""
  found: set[str] = set()
  place = posixpath.dirname(site_path(path)) or "."

  def to_site(match: re.Match[str]) -> str:
    mark, words, link, anchor = match.groups()
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    if ":" in link or not (ROOT / target).exists():
      return match.group()
    if (ROOT / target).is_dir():  # has no page
      return words
    found.add(target)
    return f"{mark}[{words}]({posixpath.relpath(site_path(target), place)}{anchor})"

  parts = [part if is_code else _LINK.sub(to_site, part) for part, is_code in prose_and_code(text)]
  return "".join(parts), found


def code_page(path: str) -> str:
  """A page that shows a source file, and that the search leaves out."""
  language = _LANGUAGES.get(posixpath.splitext(path)[1], "text")
  text = (ROOT / path).read_text(encoding="utf-8")
  head = f"---\norphan: true\nnosearch: true\n---\n# {posixpath.basename(path)}\n\n`{path}`\n\n"
  return f"{head}````{{code-block}} {language}\n:linenos:\n\n{text}````\n"


def menu() -> str:
  """The tables of contents that the first page ends with."""
  trees = (
    f"```{{toctree}}\n:hidden:\n:caption: {heading}\n\n" + "\n".join(pages) + "\n```"
    for heading, pages in MENU.items()
  )
  return "\n\n" + "\n\n".join(trees) + "\n"


def stage(source: Path) -> None:
  """Writes the pages, and all that they link to, to the folder `source`."""
  shutil.rmtree(source, ignore_errors=True)
  pages = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/notebooks").glob("*.ipynb"))]
  waiting = [path.relative_to(ROOT).as_posix() for path in pages]
  done, listed = set(waiting), {page for pages in MENU.values() for page in pages}
  while waiting:
    path = waiting.pop()
    new = source / site_path(path)
    new.parent.mkdir(parents=True, exist_ok=True)
    if not path.endswith(".md"):
      if new.suffix == ".md":
        new.write_text(code_page(path), encoding="utf-8")
      else:
        shutil.copyfile(ROOT / path, new)
      continue
    text, linked = rewritten(path, (ROOT / path).read_text(encoding="utf-8"))
    if path == "docs/index.md":
      text += menu()
    elif not path.startswith("docs/") and site_path(path).removesuffix(".md") not in listed:
      text = f"---\norphan: true\n---\n{text}"  # reached by links alone, such as a table that a command wrote
    new.write_text(text, encoding="utf-8")
    linked -= done
    done |= linked
    waiting += sorted(linked)


def write_api(source: Path) -> None:
  """Writes the pages of the API reference."""
  (source / "api").mkdir()
  for module in api.MODULES:
    (source / f"api/{module}.md").write_text(api.page(module), encoding="utf-8")


def main() -> int:
  parser = argparse.ArgumentParser(description="Builds the documentation site, without network.")
  parser.add_argument("--out", type=Path, default=SITE, help="the folder of the site (default: build/site)")
  out = parser.parse_args().out.resolve()
  source, doctrees = (out.with_name(f"{out.name}_{part}") for part in ("source", "doctrees"))
  stage(source)
  write_api(source)
  command = [sys.executable, "-m", "sphinx", "--builder=html", "--fresh-env", "--fail-on-warning"]
  command += ["--keep-going", "--quiet", f"--conf-dir={Path(__file__).parent}", f"--doctree-dir={doctrees}"]
  status = subprocess.run([*command, str(source), str(out)], check=False).returncode
  if status == 0:
    print(f"written to {out}/index.html")
  return status


if __name__ == "__main__":
  sys.exit(main())
