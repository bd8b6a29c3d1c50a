"""The settings of Sphinx for the documentation; `build.py` beside this file calls it."""

from __future__ import annotations

import html
import inspect
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import tf_savae  # noqa: E402

project = "tf_savae"
author = copyright = "The tf_savae authors"
version = release = tf_savae.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
nitpicky = False  # annotations name TensorFlow's and Keras's classes, whose inventories are not here

# Markdown as GitHub reads it: anchors for headings, and mathematics between dollars.
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
myst_dmath_allow_digits = False
nb_execution_mode = "off"  # a test runs the notebooks

default_role = "code"  # in docstrings, single backticks are code, as in Markdown
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"tf_savae {version}"
html_static_path = [str(ROOT / "docs/assets")]
html_css_files = ["katex/katex.min.css", "site.css"]
html_js_files = ["katex/katex.min.js", "mathematics.js"]
html_math_renderer = "katex"
html_copy_source = html_show_sourcelink = False
# Fonts of the reader's system: nothing is loaded from elsewhere.
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True


def _formula(self, node, mark: str) -> None:
  latex = html.escape(node.astext(), quote=False)
  self.body.append(f'<{mark} class="katex-source">{latex}</{mark}>')
  from docutils import nodes

  raise nodes.SkipNode


def _signature(app, what, name, found, options, signature, returns):
  """That of `__init__` for layers and models: Keras makes them through a `__new__` that takes anything."""
  if what != "class" or signature != "(*args, **kwargs)":
    return None
  _, *parameters = inspect.signature(found.__init__).parameters.values()
  plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
  return str(inspect.Signature(plain)), None


def setup(app) -> None:
  app.connect("autodoc-process-signature", _signature)
  app.add_html_math_renderer(
    "katex",
    (lambda self, node: _formula(self, node, "span"), None),
    (lambda self, node: _formula(self, node, "div"), None),
  )
