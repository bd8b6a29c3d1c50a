"""The user's own files, which a run imports before anything else: `--plugin=FILE.py`.

Such a file registers data sets, kinds of data, networks, methods, step rules or adjoints, which can then be named like
the built-in ones.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from tf_savae.errors import UserError

_LOADED: dict[str, Path] = {}  # module name → file


def load(paths: Iterable[str]) -> None:
  """Imports each file once per process, in the given order.

  A missing file is skipped if a file of the same name was imported: it was moved after a run began.

  Raises:
    UserError: a file is missing, or fails when it is imported.
  """
  for path in map(Path, paths):
    path = path.expanduser().resolve()
    name = f"tf_savae_plugin_{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    if name in _LOADED:
      continue
    if os.fsencode(path) != str(path).encode(errors="replace"):
      raise UserError(f"--plugin={path} is not UTF-8, so that no run could remember it; rename it")
    if not path.is_file():
      if path.name in {other.name for other in _LOADED.values()}:
        continue
      raise UserError(f"--plugin={path} is no file; give the path of a Python file")
    _import(name, path)
    _LOADED[name] = path


def _import(name: str, path: Path) -> None:
  spec = importlib.util.spec_from_file_location(name, path)
  if spec is None or spec.loader is None:
    raise UserError(f"--plugin={path} is no Python file; its name must end in .py")
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # before it runs, because dataclasses and Keras look up their module
  try:
    spec.loader.exec_module(module)
  except BaseException as error:
    del sys.modules[name]
    if isinstance(error, SystemExit):
      what = (
        f"it calls sys.exit({'' if error.code is None else repr(error.code)}), but may only register things"
      )
    elif isinstance(error, Exception):
      what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    else:  # such as Ctrl-C
      raise
    raise UserError(f"--plugin={path} cannot be imported: {what}") from error
