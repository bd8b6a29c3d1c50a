"""Splits are what the files say; what has no file is divided off, the same on every machine and in every run."""

import gc
import gzip
import os
import pathlib
import resource
import tempfile
import tracemalloc

import numpy as np
import pytest

from tf_savae import data
from tf_savae.data import text, text_files, text_lines
from tf_savae.data.dataset import SPLITS
from tf_savae.errors import UserError


def lines(n, word="w"):
  return "".join(f"{word}{i} {word} end\n" for i in range(n))


def load(folder, name="text", **options):
  return data.load(name, data_dir=folder, seed=0, **options)


def sizes(dataset):
  return [dataset.num_examples(split) for split in SPLITS]


def refusal(function, *args, **kwargs) -> str:
  """The one line that the call is refused with."""
  with pytest.raises(UserError) as caught:
    function(*args, **kwargs)
  assert "\n" not in str(caught.value)
  return str(caught.value)


def test_three_files_are_the_three_splits(tmp_path):
  for name, n in (("train", 7), ("val", 3), ("test", 2)):
    (tmp_path / f"{name}.txt").write_text(lines(n, name))
  dataset = load(tmp_path)
  assert sizes(dataset) == [7, 3, 2]
  assert dataset.texts("train", 2) == ["train0 train end", "train1 train end"]
  assert dataset.source.endswith("/ (train.txt, val.txt, test.txt): 7 train, 3 valid, 2 test documents")
  assert (dataset.name, dataset.kind, dataset.is_stand_in) == ("text", "text", False)


def test_the_vocabulary_is_made_of_training_documents_only(tmp_path):
  for name in ("train", "valid", "test"):
    (tmp_path / f"{name}.txt").write_text(lines(2, name))
  dataset = load(tmp_path)
  assert set(dataset.vocabulary.words[4:]) == {"train", "end", "train0", "train1"}
  assert dataset.vocab_size == 8
  assert dataset.texts("valid", 1) == ["_UNK _UNK end"]


@pytest.mark.parametrize("name", ["train.txt", "val.txt", "valid.txt.gz", "test.txt"])
def test_one_file_is_divided_80_10_10_whatever_its_name_in_the_order_of_the_file(tmp_path, name):
  with (gzip.open if name.endswith("gz") else open)(tmp_path / name, "wt") as file:
    file.write("\n \n" + lines(50) + "\n")  # lines without words do not count
  dataset = load(tmp_path)
  assert sizes(dataset) == [40, 5, 5]
  assert f"{name} divided 80/10/10 into train, valid and test by a fixed seed" in dataset.source
  first = [int(words.split()[0][1:]) for words in dataset.texts("train", 50)]
  assert first == sorted(set(first))


def test_the_division_is_pinned(tmp_path):
  # Results are compared across runs, machines and releases: this must never change.
  (tmp_path / "train.txt").write_text(lines(20))
  labels = text_files.divide({"train": tmp_path / "train.txt"}).labels
  assert [np.flatnonzero(labels == i).tolist() for i in (1, 2)] == [[9, 19], [10, 13]]


@pytest.mark.parametrize(
  ("files", "expected", "divided"),
  [
    ({"train": 20, "val": 4}, [18, 4, 2], "train.txt divided 90/10 into train and test"),
    ({"train": 20, "test": 4}, [18, 2, 4], "train.txt divided 90/10 into train and valid"),
    ({"valid": 20, "test": 4}, [18, 2, 4], "valid.txt divided 90/10 into train and valid"),
    ({"train": 3}, [1, 1, 1], "train.txt divided 80/10/10"),
  ],
)
def test_a_split_without_a_file_is_a_tenth_of_another(tmp_path, files, expected, divided):
  for name, n in files.items():
    (tmp_path / f"{name}.txt").write_text(lines(n))
  dataset = load(tmp_path)
  assert sizes(dataset) == expected
  assert divided in dataset.source


def test_long_documents_are_dropped_after_the_division_and_counted(tmp_path):
  (tmp_path / "train.txt").write_text(lines(50))
  before = load(tmp_path)
  text_of_50 = lines(50).splitlines()
  (tmp_path / "train.txt").write_text(
    "\n".join(line + " more" * (i % 5 == 0) for i, line in enumerate(text_of_50))
  )
  after = load(tmp_path, max_length=3)
  assert sum(after.dropped.values()) == 10
  for split in SPLITS:
    assert after.num_examples(split) == before.num_examples(split) - after.dropped[split]
  assert f"10 of more than 3 words dropped ({after.dropped['train']} train, " in after.source
  assert set(after.texts("train", 50)) <= set(before.texts("train", 50))
  assert after.max_length == 4  # with the end
  assert "more" not in after.vocabulary.words


def test_vocabulary_options_and_a_given_vocabulary(tmp_path):
  (tmp_path / "train.txt").write_text(lines(30))
  assert load(tmp_path, vocab_size=3).vocab_size == 7
  assert load(tmp_path, min_count=2).vocabulary.words[4:] == ("end", "w")
  given = data.Vocabulary.from_counts({"end": 1})
  dataset = load(tmp_path, vocabulary=given, vocab_size=3)
  assert dataset.vocabulary is given
  assert dataset.texts("test", 1) == ["_UNK _UNK end"]


def test_special_words_in_a_text_are_unknown_words(tmp_path):
  (tmp_path / "train.txt").write_text("a <pad> <s> </s> UNK <unk> _UNK\n" * 10)
  dataset = load(tmp_path)
  assert dataset.examples("train", 1).tolist() == [[4, 3, 3, 3, 3, 3, 3, 2]]
  assert dataset.vocab_size == 5


def test_line_ends_marks_and_any_white_space_are_no_words(tmp_path):
  (tmp_path / "train.txt").write_bytes("\ufeffa  b\tc\r\n\u3000\r\n".encode() + b"a b c" + b"\na b c\r\n")
  dataset = load(tmp_path)
  assert sizes(dataset) == [1, 1, 1]
  assert {dataset.texts(split, 1)[0] for split in SPLITS} == {"a b c"}


def test_any_one_file_can_be_the_test_split(tmp_path):
  path = tmp_path / "any name.gz"
  path.write_bytes(gzip.compress(b"a b c\nb a\na a a a\n"))
  vocabulary = data.Vocabulary.from_counts({"a": 2, "b": 1})
  dataset = data.dataset_from_file(path, vocabulary, max_length=3, seed=0)
  assert sizes(dataset) == [0, 0, 2]
  assert dataset.dropped == {"train": 0, "valid": 0, "test": 1}
  assert dataset.texts("test", 9) == ["a b _UNK", "b a"]
  assert dataset.source == "text in any name.gz: 2 test documents; 1 of more than 3 words dropped (1 test)"
  assert list(dataset.eval_batches("valid", 3)) == list(dataset.train_batches(3, 0, 5)) == []
  assert dataset.num_tokens("valid") == 0 and dataset.steps_per_epoch(3) == 0


def test_yahoo_is_looked_for_in_its_folder_and_beside_it(tmp_path):
  (tmp_path / "val.txt").write_text(lines(10))
  assert sizes(load(tmp_path, "yahoo")) == [8, 1, 1]
  (tmp_path / "yahoo").mkdir()
  (tmp_path / "yahoo" / "val.txt").write_text(lines(20))
  dataset = load(tmp_path, "yahoo")
  assert sizes(dataset) == [16, 2, 2]
  assert dataset.name == "yahoo" and not dataset.is_stand_in and "stand-in" not in dataset.source


def test_yahoo_without_files_is_a_stand_in_and_says_so(tmp_path):
  dataset = load(tmp_path, "yahoo")
  assert dataset.is_stand_in and dataset.source.startswith("stand-in for Yahoo")
  assert sizes(dataset) == [1600, 200, 200]


def test_strict_data_makes_the_stand_in_an_error_that_says_what_to_put_where(tmp_path):
  message = refusal(load, tmp_path, "yahoo", strict=True)
  assert f"no Yahoo documents in {tmp_path}/yahoo (which does not exist)" in message
  assert "no download" in message and "Put train.txt, val.txt, test.txt" in message


BAD = {
  "an empty file": (b"", "train.txt is empty: it has no documents"),
  "a file of empty lines": (b"\n\n \n", "train.txt is empty: it has no documents"),
  "not UTF-8": (b"a b\nc \xe9t\xe9\n" * 5, "not UTF-8: line 2 has byte 0xe9 at position 3"),
  "too few documents": (b"a\nb\n", "at least 3 documents are needed .* train, valid, test. Received: 2"),
  "one line": (b"word " * 300, "at least 3 documents are needed"),
  "only long documents": (
    b"word " * 5 * 5 + b"\n" + b"a a a a a a\n" * 9,
    "all 8 have more than max_length=5",
  ),
  "no word often enough": (
    b"a b\nc d\ne f\n",
    "no word occurs at least 2 times.* Received: 2 different words",
  ),
  "only unknown words": (b"_UNK UNK\n" * 10, "the vocabulary is empty.* Received: no words"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_text_is_one_clear_line(tmp_path, bad):
  content, problem = BAD[bad]
  (tmp_path / "train.txt").write_bytes(content)
  with pytest.raises(UserError, match=problem):
    load(tmp_path, max_length=5, min_count=2)
  assert "\n" not in refusal(load, tmp_path, max_length=5, min_count=2)


@pytest.mark.parametrize("bad", [b"", b"\n", b"a a a\n"])
def test_every_split_needs_a_document(tmp_path, bad):
  for name in ("train", "val", "test"):
    (tmp_path / f"{name}.txt").write_bytes(b"a b\n")
  (tmp_path / "val.txt").write_bytes(bad)
  assert f"{tmp_path}/val.txt" in refusal(load, tmp_path, max_length=2)
  assert f"{tmp_path}/val.txt" in refusal(
    data.dataset_from_file, tmp_path / "val.txt", data.Vocabulary.from_counts({"a": 1}), 2, 0
  )


def test_a_folder_without_files_is_told_what_is_expected(tmp_path):
  (tmp_path / "notes.md").write_text("")
  assert f"no documents in {tmp_path}: put train.txt, val.txt, test.txt (or .txt.gz" in refusal(
    load, tmp_path
  )
  assert "(which does not exist)" in refusal(load, tmp_path / "nowhere")
  assert "cannot be read: Not a directory" in refusal(load, tmp_path / "notes.md")


def test_two_files_for_one_split_are_refused(tmp_path):
  for name in ("val.txt", "valid.txt.gz"):
    (tmp_path / name).write_text("a")
  assert "two files of valid documents: val.txt and valid.txt.gz" in refusal(load, tmp_path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
  (tmp_path / "train.txt").mkdir()
  assert "train.txt cannot be read: Is a directory" in refusal(load, tmp_path)
  (tmp_path / "train.txt").rmdir()
  (tmp_path / "train.txt").symlink_to("gone.txt")
  assert "train.txt cannot be read: No such file" in refusal(load, tmp_path)


@pytest.mark.parametrize("damage", ["cut off", "no gzip", "wrong inside", "wrong sum"])
def test_a_damaged_gzip_is_refused(tmp_path, damage):
  good = gzip.compress(lines(2000).encode())
  content = {
    "cut off": good[: len(good) // 2],
    "no gzip": b"a b c\n" * 10,
    "wrong inside": good[:60] + b"\xff" * 40 + good[100:],
    "wrong sum": good[:-6] + b"\x00\x01" + good[-4:],
  }
  (tmp_path / "train.txt.gz").write_bytes(content[damage])
  assert "train.txt.gz is damaged, or not a gzip file" in refusal(load, tmp_path)


def test_a_giant_line_is_refused_without_reading_it(tmp_path):
  path = tmp_path / "train.txt"
  path.write_text("a b\n")
  os.truncate(path, 1 << 38)  # a hole of 256 GB, which takes no room
  tracemalloc.start()
  message = refusal(load, tmp_path)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert "line 2 is longer than 1,048,576 bytes; put one document on each line" in message
  assert peak < 8 * text_lines.MAX_LINE_BYTES


def test_a_file_that_changes_between_the_passes_is_noticed(tmp_path):
  path = tmp_path / "train.txt"
  path.write_text(lines(10))
  corpus = text_files.divide({"train": path})
  for n in (9, 11):
    path.write_text(lines(n))
    assert f"it had 10 documents and now has {n}" in refusal(lambda: list(corpus.texts()))


def test_a_full_disk_is_one_clear_line(tmp_path):
  (tmp_path / "train.txt").write_text(lines(10000))
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))  # for this process, no file may grow further
  try:
    message = refusal(load, tmp_path)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert "cannot write the encoded documents to /" in message and "set TMPDIR" in message


@pytest.mark.parametrize("option", ["vocab_size", "min_count", "max_length"])
def test_impossible_sizes_are_refused(tmp_path, option):
  (tmp_path / "train.txt").write_text(lines(10))
  assert f"{option} must be at least 1. Received: 0" in refusal(load, tmp_path, **{option: 0})


def test_tokens_are_not_held_in_memory(tmp_path):
  num_documents, words = 1500, 200
  line = " ".join(f"w{i % 50}" for i in range(words)) + "\n"
  (tmp_path / "train.txt").write_text(line * 10)
  load(tmp_path)  # whatever is imported or traced once
  with open(tmp_path / "train.txt", "w") as file:
    file.writelines(line for _ in range(num_documents))

  tracemalloc.start()
  dataset = load(tmp_path)
  tokens = sum(map(dataset.num_tokens, SPLITS))
  assert tokens == num_documents * (words + 1)
  assert (
    tracemalloc.get_traced_memory()[1] < tokens
  )  # bytes: less than one for each token, where an id takes two
  tracemalloc.stop()

  batches = iter(dataset.train_batches(32, 0, dataset.steps_per_epoch(32)))
  served = int(next(batches).shape[0])
  tracemalloc.start()
  served += sum(int(x.shape[0]) for x in batches)
  assert served == dataset.num_examples("train")
  assert tracemalloc.get_traced_memory()[1] < tokens
  tracemalloc.stop()


def test_the_temporary_file_lies_in_tmpdir_without_a_name_and_goes_with_the_data(tmp_path, monkeypatch):
  (tmp_path / "train.txt").write_text(lines(10))
  place = tmp_path / "scratch"
  place.mkdir()
  monkeypatch.setattr(tempfile, "tempdir", str(place))

  def mapped():
    return str(place) in pathlib.Path("/proc/self/maps").read_text()

  dataset = load(tmp_path)
  assert os.listdir(place) == []
  assert mapped()
  del dataset
  gc.collect()
  assert not mapped()


def test_more_words_than_can_be_counted_cost_the_rare_ones_only(tmp_path, monkeypatch):
  (tmp_path / "train.txt").write_text(lines(200))
  (tmp_path / "val.txt").write_text(lines(2))
  (tmp_path / "test.txt").write_text(lines(2))
  monkeypatch.setattr(text, "MAX_COUNTED", 50)
  words = load(tmp_path).vocabulary.words[4:]
  assert words[:2] == ("end", "w") and len(words) <= 50
