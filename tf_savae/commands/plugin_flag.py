"""`--plugin`: files that are imported before any flag is checked, because they define names that flags may use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from absl import flags as absl_flags

from tf_savae import plugins, startup
from tf_savae.atomic_files import read_json
from tf_savae.errors import UserError
from tf_savae.runs.directory import RunDirectory


def import_named(argv: Sequence[str]) -> None:
  """Imports the files that `--plugin` on a command line names, or else those of the run in `--run_dir`.

  Args:
    argv: the program's name and its arguments, whose flags need not be right.

  Raises:
    UserError: a file cannot be imported.
  """
  paths = [path for text in _texts_of("plugin", argv) for path in text.split(",") if path]
  run_dir = _texts_of("run_dir", argv)[-1:]
  if not paths and run_dir:
    with contextlib.suppress(UserError):  # the code that reads the run reports what is wrong with it
      config = read_json(RunDirectory(os.path.expanduser(run_dir[0])).config_file) or {}
      paths = config.get("plugin") or []
  if paths:
    startup.import_tensorflow()  # plug-ins import it; this holds back its log lines
    plugins.load(paths)


def _texts_of(name: str, argv: Sequence[str]) -> list[str]:
  """All texts given for a flag, including those in `--flagfile`."""
  values = absl_flags.FlagValues()
  values.set_gnu_getopt()
  absl_flags.DEFINE_multi_string(name, [], "", flag_values=values)
  try:
    values(list(argv), known_only=True)
  except (absl_flags.Error, OSError, ValueError):
    return []  # the later check of all flags reports what is wrong
  return values[name].value
