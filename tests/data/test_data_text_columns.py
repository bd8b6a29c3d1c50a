"""Documents from a column of a .csv or .tsv file."""

import gzip

import pytest

from tf_savae import data
from tf_savae.data import text, text_files
from tf_savae.data.vocabulary import Vocabulary
from tf_savae.errors import UserError
from tf_savae.tokens import SPECIAL


def read(path, column):
  return list(text_files.numbered(path, column))


def written(path, content):
  path.write_bytes(content.encode() if isinstance(content, str) else content)
  return path


CSV = 'id,text,label\r\n1,"a, ""quoted"" word\r\nand a line",x\r\n2,  ,y\r\n3,last,\r\n'


def test_fields_of_a_csv_are_quoted_and_may_have_line_breaks(tmp_path):
  path = written(tmp_path / "x.csv", "\ufeff" + CSV)
  found = read(path, "text")
  assert [" ".join(document.split()) for _, document in found] == ['a, "quoted" word and a line', "last"]
  assert [number for number, _ in found] == [3, 5]


def test_quotation_marks_of_a_tsv_are_text(tmp_path):
  path = written(tmp_path / "x.tsv", 'text\tlabel\n"so" he\tx\nsaid "no\ty\n')
  assert read(path, "text") == [(2, '"so" he'), (3, 'said "no')]


def test_a_number_names_a_column_of_a_file_without_heading(tmp_path):
  path = tmp_path / "x.tsv.gz"
  path.write_bytes(gzip.compress(b"1\tfirst\n2\tsecond\n"))
  assert read(path, "2") == [(1, "first"), (2, "second")]


@pytest.mark.parametrize(
  ("name", "content", "column", "message"),
  [
    ("x.csv", CSV, "words", "has no column called 'words'; name one of id, text, label with --text_column"),
    ("x.csv", "a,a\n1,2\n", "a", "has two columns called 'a'"),
    ("x.csv", CSV, "4", "has 3 columns; --text_column is one of them; received 4"),
    ("x.csv", CSV, "0", "has 3 columns; --text_column is one of them; received 0"),
    ("x.csv", "a,text\n1,2\n3\n", "text", "line 3 has 1 columns, and --text_column=text is number 2"),
    ("x.csv", 'text\n"open\n', "text", "line 2 cannot be read: unexpected end of data"),
    ("x.csv", 'text\n"a"b\n', "text", "line 2 cannot be read"),
    ("x.csv", b"text\n\xff\xfe\n", "text", "is not UTF-8: line 2"),
    ("x.csv", CSV, None, "has columns; name that of the documents with --text_column"),
  ],
)
def test_a_table_that_is_unusable_is_one_line(name, content, column, message, tmp_path):
  path = written(tmp_path / name, content)
  with pytest.raises(UserError, match=message) as caught:
    read(path, column)
  assert "\n" not in str(caught.value)


def test_a_folder_of_tables_is_a_data_set(tmp_path):
  rows = "".join(f"{i},word{i % 3} word\n" for i in range(20))
  written(tmp_path / "train.csv", "id,text\n" + rows)
  written(tmp_path / "test.tsv", "id\ttext\n1\tword0 other\n")
  dataset = data.load("text", data_dir=tmp_path, seed=0, text_column="text")
  assert [dataset.num_examples(split) for split in ("train", "valid", "test")] == [18, 2, 1]
  assert dataset.texts("test", 1) == ["word0 _UNK"]
  assert "train.csv, test.tsv" in dataset.source
  same = data.load("yahoo", data_dir=tmp_path, seed=0, text_column="text")
  assert same.texts("train", 3) == dataset.texts("train", 3)


def test_a_table_without_a_named_column_is_pointed_out(tmp_path):
  written(tmp_path / "train.csv", "id,text\n1,a\n")
  with pytest.raises(
    UserError, match=r"has train.csv, a table; name the column of its documents with --text_column"
  ):
    data.load("text", data_dir=tmp_path, seed=0)


@pytest.mark.parametrize("column", [None, "text"])
def test_a_file_of_the_other_kind_beside_those_that_are_read_is_named(tmp_path, column, caplog):
  written(tmp_path / "train.txt", "a word\n" * 20)
  written(tmp_path / "valid.csv", "id,text\n" + "1,a word\n" * 20)
  text_files.find(tmp_path, column)
  (message,) = caplog.messages
  assert ("valid.csv not read" if column is None else "train.txt not read") in message
  assert "--text_column" in message and "\n" not in message


def test_a_folder_without_tables_says_what_is_expected(tmp_path):
  written(tmp_path / "train.txt", "a word\n")
  with pytest.raises(UserError, match=r"put train.csv or train.tsv there"):
    data.load("text", data_dir=tmp_path, seed=0, text_column="text")


def test_a_table_can_be_evaluated_on(tmp_path):
  path = written(tmp_path / "new.csv", "label,text\nx,the cat\n")
  vocabulary = Vocabulary((*SPECIAL, "the", "cat"))
  assert text.dataset_from_file(path, vocabulary, text_column="text").texts("test", 2) == ["the cat"]
