"""Runs pytest on one file, as the main program of a Bazel test.

Usage: run_pytest.py FILE, from the top of the runfiles.
"""

import os
import sys
from pathlib import Path

import pytest


def main(arguments: list[str]) -> int:
  """Pytest's exit status; 5 where no test ran, which is a failure."""
  # A script's own folder comes first on the path; here it is that of the source tree, which Bazel did not stage.
  sys.path[:] = [
    path for path in sys.path if path and Path(path).resolve() != Path(__file__).resolve().parent
  ]
  # Tests start programs of their own, with this interpreter: they too find the packages that Bazel staged.
  os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
  options = ["-q", "-p", "no:cacheprovider", "--rootdir=.", "--config-file=pyproject.toml"]
  if temporary := os.environ.get("TEST_TMPDIR"):
    options.append(f"--basetemp={temporary}/pytest")
  if report := os.environ.get("XML_OUTPUT_FILE"):
    options.append(f"--junitxml={report}")
  if only := os.environ.get("TESTBRIDGE_TEST_ONLY"):  # --test_filter
    options.append(f"-k={only}")
  return pytest.main([*options, *arguments])


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
