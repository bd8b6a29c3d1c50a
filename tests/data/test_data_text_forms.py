"""Text files come from many editors and systems: what carries no words is passed over, what misleads is refused."""

from __future__ import annotations

import gzip

import pytest

from tf_savae import data
from tf_savae.data import text_lines
from tf_savae.errors import UserError

MARK = b"\xef\xbb\xbf"


def documents(tmp_path, content):
  path = tmp_path / "x.txt"
  path.write_bytes(content)
  return list(text_lines.documents(path))


def refusal(tmp_path, content):
  """The one line that a file is refused with."""
  with pytest.raises(UserError) as caught:
    documents(tmp_path, content)
  assert "\n" not in str(caught.value) and "x.txt" in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize("name", ["val.txt", "valid.txt", "dev.txt", "dev.txt.gz"])
def test_val_valid_and_dev_are_validation(tmp_path, name):
  (tmp_path / "train.txt").write_text("a b\n" * 10)
  with (gzip.open if name.endswith("gz") else open)(tmp_path / name, "wt") as file:
    file.write("c d\n" * 3)
  dataset = data.load("text", data_dir=tmp_path, seed=0)
  assert [dataset.num_examples(split) for split in data.SPLITS] == [9, 3, 1]
  assert name in dataset.source


def test_two_files_of_validation_documents_are_refused(tmp_path):
  for name in ("train", "val", "dev"):
    (tmp_path / f"{name}.txt").write_text("a b\n" * 10)
  with pytest.raises(UserError, match=r"two files of valid documents: val\.txt and dev\.txt"):
    data.load("text", data_dir=tmp_path, seed=0)


def test_a_byte_order_mark_is_dropped_at_the_start_of_any_line(tmp_path):
  content = MARK + b"a b\n" + MARK + MARK + b"c\n" + b"d\n"
  assert documents(tmp_path, content) == [["a", "b"], ["c"], ["d"]]


@pytest.mark.parametrize(
  "nothing",
  [b"\x1a", b"\r\x1a\r", "\u200b".encode(), " \u200c\u2060 \u200d".encode(), MARK + b" ", b"\x1a\x1a"],
)
def test_a_line_of_nothing_visible_is_no_document(tmp_path, nothing):
  assert documents(tmp_path, b"a b\n" + nothing + b"\nc\n" + nothing) == [["a", "b"], ["c"]]
  assert len(list(text_lines.texts(tmp_path / "x.txt"))) == 2


def test_lines_may_end_as_on_windows(tmp_path):
  assert documents(tmp_path, b"a b\r\nc\r\n\x1a") == [["a", "b"], ["c"]]


@pytest.mark.parametrize("content", [b"a b\rc d\r", b"a\rb", b"a b\r" * (1 << 19)])
def test_lines_that_end_in_carriage_returns_alone_are_refused(tmp_path, content):
  assert "carriage returns (CR) and no line feeds" in refusal(tmp_path, content)


@pytest.mark.parametrize(
  ("python_name", "expected"),
  [
    ("utf-16", "UTF-16;"),
    ("utf-16-le", "UTF-16LE;"),
    ("utf-16-be", "UTF-16BE;"),
    ("utf-32", "UTF-32;"),
  ],
)
def test_wide_encodings_are_named(tmp_path, python_name, expected):
  message = refusal(tmp_path, "some words\nand more\n".encode(python_name))
  assert f"is not UTF-8 but {expected}" in message
  assert f"iconv -f {expected[:-1]} -t UTF-8" in message
