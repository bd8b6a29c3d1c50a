"""Text can be cut into characters or learned pieces; nothing is lost but white space and what is unknown."""

import importlib.util

import numpy as np
import pytest

from tf_savae import data
from tf_savae.data import units
from tf_savae.data.vocabulary import Vocabulary
from tf_savae.errors import UserError
from tf_savae.tokens import SPECIAL, UNKNOWN

WORDS = [
  "what",
  "is",
  "the",
  "best",
  "way",
  "to",
  "lose",
  "weight",
  "how",
  "do",
  "i",
  "get",
  "rid",
  "of",
  "a",
  "cold",
  "UNK",
  "_UNK",
  "café",
  "dogs",
]


def texts(n=200):
  rng = np.random.default_rng(0)
  return [" ".join(rng.choice(WORDS, 1 + i % 9)) for i in range(n)]


@pytest.fixture
def folder(tmp_path):
  for split in ("train", "val", "test"):
    (tmp_path / f"{split}.txt").write_text("".join(f"{text}\n" for text in texts()), encoding="utf-8")
  return tmp_path


def load(folder, **options):
  return data.load("text", data_dir=folder, seed=0, **options)


@pytest.mark.parametrize("kind", ["char", "sentencepiece"])
def test_a_text_comes_back_with_single_spaces(kind):
  vocabulary = units.make(kind, texts(), max_size=60, min_count=1)
  assert vocabulary.words[: len(SPECIAL)] == SPECIAL
  for text in ("how do i get a  cold\t", "café dogs", "UNK of", "", " "):
    ids = vocabulary.encode(vocabulary.split(text))
    assert vocabulary.decode(ids) == " ".join(text.split())
    assert UNKNOWN not in ids


@pytest.mark.parametrize("kind", ["char", "sentencepiece"])
def test_what_was_never_seen_is_unknown(kind):
  vocabulary = units.make(kind, texts(), max_size=60, min_count=1)
  ids = vocabulary.encode(vocabulary.split("a ☃ cold"))
  assert ids.count(UNKNOWN) == 1
  assert vocabulary.decode(ids) == "a _UNK cold"


def test_names_of_special_tokens_in_a_text_are_no_special_tokens():
  texts_with = [*texts(), *["</s> <pad> <s> end"] * 50]
  for kind in ("char", "sentencepiece"):
    vocabulary = units.make(kind, texts_with, max_size=80, min_count=1)
    ids = vocabulary.encode(vocabulary.split("a </s> <pad> <s> end"))
    assert set(ids).isdisjoint({0, 1, 2})
    if kind == "char":  # SentencePiece learns nothing across these names
      assert vocabulary.decode(ids) == "a </s> <pad> <s> end"


def test_pieces_are_those_of_sentencepiece_itself_and_a_function_of_the_text():
  first, again = (units.make("sentencepiece", texts(), max_size=50, min_count=1) for _ in range(2))
  assert first.model == again.model and first == again
  assert 20 < len(first) <= 54
  for text in texts(20):
    text = text.replace("_UNK", "☃")  # which is a name of its own, see below
    assert first.encode(first.split(text)) == first._processor.encode(text)
  lengths = [len(first.split(text)) for text in texts()]
  assert sum(map(len, map(str.split, texts()))) < sum(lengths) < sum(map(len, texts()))


@pytest.mark.parametrize("kind", ["char", "sentencepiece"])
def test_a_run_s_vocabulary_is_saved_and_loaded(kind, tmp_path):
  vocabulary = units.make(kind, texts(), max_size=60, min_count=1)
  vocabulary.save(tmp_path / "vocabulary.txt")
  loaded = units.load(tmp_path / "vocabulary.txt", kind)
  assert loaded == vocabulary and loaded != Vocabulary(vocabulary.words)
  assert loaded.split("a cold") == vocabulary.split("a cold")
  assert (tmp_path / "sentencepiece.model").exists() == (kind == "sentencepiece")


def test_a_missing_or_damaged_model_is_one_line(tmp_path):
  with pytest.raises(UserError, match=r"sentencepiece.model cannot be read"):
    units.load(tmp_path / "vocabulary.txt", "sentencepiece")
  (tmp_path / "sentencepiece.model").write_bytes(b"no model")
  with pytest.raises(UserError, match=r"sentencepiece.model is damaged"):
    units.load(tmp_path / "vocabulary.txt", "sentencepiece")


@pytest.mark.parametrize(
  ("kind", "options", "described"),
  [
    ("char", {"max_length": 40}, "of more than 40 characters dropped"),
    ("sentencepiece", {"max_length": 8, "vocab_size": 50}, "of more than 8 pieces dropped"),
  ],
)
def test_a_data_set_counts_its_units(kind, options, described, folder):
  dataset = load(folder, units=kind, **options)
  assert described in dataset.source and dataset.source.endswith(f"cut into {dataset.vocabulary.plural}")
  assert dataset.vocab_size == len(dataset.vocabulary)
  x = dataset.examples("test", 50)
  cut = map(dataset.vocabulary.split, texts())
  kept = [entries for entries in cut if len(entries) <= options["max_length"]]
  expected = [dataset.vocabulary.encode(entries) for entries in kept[:50]]
  assert [row[: len(ids)].tolist() for row, ids in zip(x, expected, strict=True)] == expected
  assert dataset.dropped["test"] == len(texts()) - len(kept) > 0


@pytest.mark.parametrize(
  ("kind", "plural"), [("char", "characters"), ("sentencepiece", "pieces"), ("word", "words")]
)
def test_what_is_unknown_is_counted_in_every_split(kind, plural, folder):
  (folder / "test.txt").write_text("a cold\na ☃ ☃ cold\n", encoding="utf-8")
  dataset = load(folder, units=kind, vocab_size=60)
  assert dataset.counts["unknown_tokens"]["test"] == 2
  [note] = dataset.notes
  assert note.startswith(f"unknown {plural}: ") and note.endswith("the model reads each as _UNK")
  again = data.dataset_from_file(folder / "train.txt", dataset.vocabulary)
  encoded = (dataset.vocabulary.encode(dataset.vocabulary.split(text)) for text in texts())
  assert again.counts == {"unknown_tokens": {"test": sum(ids.count(UNKNOWN) for ids in encoded)}}
  if kind == "char":  # the others read the corpus's own _UNK as unknown
    assert again.notes == ["unknown characters: none"]


def test_a_corpus_s_own_unknown_words_are_the_unknown_piece():
  words, pieces, characters = (
    Vocabulary([*SPECIAL, *sorted({word for text in texts() for word in text.split()} - {"_UNK", "UNK"})]),
    *(units.make(kind, texts(), max_size=60, min_count=1) for kind in ("sentencepiece", "char")),
  )
  for vocabulary, expected in ((words, 1), (pieces, 1), (characters, 0)):
    ids = vocabulary.encode(vocabulary.split("a _UNK cold"))
    assert ids.count(UNKNOWN) == expected and vocabulary.decode(ids) == "a _UNK cold"


def test_text_that_teaches_nothing_is_one_line(tmp_path):
  (tmp_path / "train.txt").write_text("a\n" * 30)
  with pytest.raises(UserError, match="SentencePiece learned nothing from the training documents") as caught:
    load(tmp_path, units="sentencepiece", vocab_size=1)
  assert "\n" not in str(caught.value)


def test_without_the_packages_one_line_says_what_to_install(monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "sentencepiece" else find(n))
  with pytest.raises(UserError, match=r"^sentencepiece is not installed: pip install 'tf_savae\[text\]'"):
    units.make("sentencepiece", texts(), max_size=50, min_count=1)
