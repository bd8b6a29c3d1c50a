"""A vocabulary is a bijection between words and ids that no text can make produce padding, a start or an end."""

import os

import pytest
import tensorflow as tf

from tf_savae.data import Vocabulary
from tf_savae.errors import UserError
from tf_savae.tokens import END, PAD, SPECIAL, START, UNKNOWN

COUNTS = {
  "b": 3,
  "a": 3,
  "rare": 1,
  "the": 9,
  "_UNK": 50,
  "UNK": 40,
  "<unk>": 30,
  "<s>": 20,
  "</s>": 20,
  "<pad>": 9,
}


def test_words_follow_the_special_ones_by_falling_count_and_ties_in_order():
  vocabulary = Vocabulary.from_counts(COUNTS)
  assert vocabulary.words == (*SPECIAL, "the", "a", "b", "rare")
  assert len(vocabulary) == 8


def test_size_counts_words_besides_the_special_ones_and_min_count_is_inclusive():
  assert Vocabulary.from_counts(COUNTS, max_size=2).words[4:] == ("the", "a")
  assert Vocabulary.from_counts(COUNTS, min_count=3).words[4:] == ("the", "a", "b")
  assert Vocabulary.from_counts(COUNTS, max_size=1, min_count=3).words[4:] == ("the",)


def test_what_is_decoded_is_what_was_encoded():
  vocabulary = Vocabulary.from_counts(COUNTS)
  ids = vocabulary.encode(["the", "a", "the", "nowhere"])
  assert ids == [4, 5, 4, UNKNOWN]
  assert vocabulary.decode([*ids, END, 4, PAD, PAD]) == "the a the _UNK"


@pytest.mark.parametrize("word", [*SPECIAL, "UNK", "<unk>", "never seen", ""])
def test_no_text_makes_a_special_token_but_the_unknown(word):
  assert Vocabulary.from_counts(COUNTS).encode([word]) == [UNKNOWN]
  assert UNKNOWN not in (PAD, START, END)


def test_a_saved_vocabulary_is_the_same_when_loaded(tmp_path):
  vocabulary = Vocabulary.from_counts({"naïve": 2, "日本": 1, "'": 7, "\ufeffmarked": 1, "\x00": 1})
  path = tmp_path / "vocabulary.txt"
  path.write_text("old")
  vocabulary.save(path)
  assert Vocabulary.load(path) == vocabulary
  assert os.listdir(tmp_path) == ["vocabulary.txt"]  # nothing temporary is left


def test_tensorflow_reads_the_same_ids_from_the_file(tmp_path):
  vocabulary = Vocabulary.from_counts({"naïve": 2, "the": 3})
  path = tmp_path / "vocabulary.txt"
  vocabulary.save(path)
  initializer = tf.lookup.TextFileInitializer(
    str(path), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
  )
  table = tf.lookup.StaticHashTable(initializer, default_value=UNKNOWN)
  text = ["naïve", "the", "nowhere", "_UNK"]
  assert table.lookup(tf.constant(text)).numpy().tolist() == vocabulary.encode(text)
  assert table.size() == len(vocabulary)


@pytest.mark.parametrize(
  ("content", "problem"),
  [
    (b"", "begins with"),
    (b"the\na\n", "begins with <pad> <s> </s> _UNK. Received: the a"),
    (b"<pad>\n<s>\n</s>\n_UNK\n", "needs words"),
    (b"<pad>\n<s>\n</s>\n_UNK\nthe\nthe\n", "number 5 of a vocabulary repeats number 4"),
    (b"<pad>\n<s>\n</s>\n_UNK\nthe\n\na\n", "number 5 of a vocabulary is empty"),
    (b"<pad>\n<s>\n</s>\n_UNK\nthe a\n", "white space. Received: 'the a'"),
    (b"<pad>\n<s>\n</s>\n_UNK\nthe\nhou", "ends in the middle of a line"),
    (b"<pad>\n<s>\n</s>\n_UNK\n\xff\n", "not UTF-8 at byte 20"),
    (None, "cannot be read: No such file"),
  ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path, content, problem):
  path = tmp_path / "vocabulary.txt"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError) as caught:
    Vocabulary.load(path)
  assert problem in str(caught.value) and str(path) in str(caught.value)
  assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path):
  with pytest.raises(UserError, match=r"cannot write the vocabulary .*: No such file"):
    Vocabulary.from_counts(COUNTS).save(tmp_path / "nowhere" / "vocabulary.txt")


@pytest.mark.parametrize(
  ("counts", "received"),
  [
    ({"a": 2, "b": 1, "_UNK": 9}, "Received: 2 different words, the most frequent one 2 times"),
    ({"_UNK": 9}, "Received: no words"),
    ({}, "Received: no words"),
  ],
)
def test_a_vocabulary_of_nothing_is_refused(counts, received):
  with pytest.raises(UserError, match=received):
    Vocabulary.from_counts(counts, min_count=3)


@pytest.mark.parametrize("sizes", [{"max_size": 0}, {"min_count": 0}])
def test_impossible_sizes_are_refused(sizes):
  with pytest.raises(UserError, match=r"at least 1\. Received"):
    Vocabulary.from_counts({"a": 1}, **sizes)
