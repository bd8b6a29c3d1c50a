"""What all tests share: the order of the files, and cheaper compilation of TensorFlow's graphs."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

# Each takes a part of the time in which a graph is compiled, and gains nothing in graphs that run once or twice.
# Programs that tests start, and so training as users start it, keep them.
_OPTIMIZATIONS = (
  "arithmetic_optimization",
  "constant_folding",
  "layout_optimizer",
  "remapping",
  "shape_optimization",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Files with slow tests come first, so that no process is left alone with one of them at the end."""
  slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
  items.sort(key=lambda item: -slow[item.path])  # keeps the order of the others, and that within a file


def pytest_collection_finish() -> None:
  if tf := sys.modules.get("tensorflow"):  # tests that do without it should not wait for it
    tf.config.optimizer.set_experimental_options(dict.fromkeys(_OPTIMIZATIONS, False))
