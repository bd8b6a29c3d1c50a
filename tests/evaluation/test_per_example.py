"""Values of examples are kept as they are; checksums tell examples apart and not their padding."""

import os

import numpy as np
import pytest

from tf_savae.errors import UserError
from tf_savae.evaluation import per_example


def test_values_come_back_as_they_were_and_a_new_file_replaces_the_old(tmp_path):
  rows = {"kl": np.array([1.5, 2.5], np.float32), "tokens": np.array([3, 4])}
  for _ in range(2):
    per_example.save(tmp_path / "rows.npz", rows)
  loaded = per_example.load(tmp_path / "rows.npz")
  assert loaded.keys() == rows.keys()
  for name, values in rows.items():
    np.testing.assert_array_equal(loaded[name], values)
  assert os.listdir(tmp_path) == ["rows.npz"]


def test_no_file_is_none_and_a_damaged_one_is_named(tmp_path):
  path = tmp_path / "rows.npz"
  assert per_example.load(path) is None
  per_example.save(path, {"kl": np.zeros(100)})
  whole = path.read_bytes()
  for damaged in (whole[:50], b"", b"text", whole[:100] + b"X" * 20 + whole[120:]):
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"rows\.npz is damaged"):
      per_example.load(path)


def test_checksums_are_of_the_example_and_not_of_its_padding():
  x = np.array([[5, 6, 2, 0], [5, 7, 2, 0], [5, 6, 2, 0]], np.int32)
  lengths = np.array([3, 3, 3])
  a, b, c = per_example.digests([x], lengths)
  assert a == c != b
  np.testing.assert_array_equal(per_example.digests([x[:, :3]], lengths), [a, b, c])


def test_checksums_are_of_all_parts_of_an_example():
  x, y = np.zeros([2, 3]), np.array([[1.0], [2.0]])
  a, b = per_example.digests([x, y])
  assert a != b
