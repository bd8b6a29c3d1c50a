"""What all tests share: the order of the files, and cheaper compilation of TensorFlow's graphs."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

# Each takes a part of the time in which a graph is compiled, and gains nothing in graphs that run once or twice.
_OPTIMIZATIONS = (
  "arithmetic_optimization",
  "constant_folding",
  "layout_optimizer",
  "remapping",
  "shape_optimization",
)
# They compare with programs that they start or with files of an earlier run, to digits that depend on optimizations.
_OPTIMIZED = ("tests/export/", "tests/training/test_old_run.py", "tests/training/test_train_process.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Files with slow tests come first, so that no process is left alone with one of them at the end."""
  slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
  items.sort(key=lambda item: -slow[item.path])  # keeps the order of the others, and that within a file


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
  """Chooses the optimizations of graphs before the test's fixtures are made."""
  if tf := sys.modules.get("tensorflow"):  # tests that do without it should not wait for it
    are_on = item.nodeid.startswith(_OPTIMIZED)
    tf.config.optimizer.set_experimental_options(dict.fromkeys(_OPTIMIZATIONS, are_on))
