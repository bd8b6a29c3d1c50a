"""`--dataset=text`: documents from the user's own files, one per line. Other corpora are read with the same code."""

from __future__ import annotations

import collections
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from tf_savae.data import batches, bucketing, text_files
from tf_savae.data import units as units_lib
from tf_savae.data.dataset import SPLITS, DataSet, check_split
from tf_savae.data.text_files import Corpus
from tf_savae.data.text_store import Documents, Writer
from tf_savae.data.vocabulary import Vocabulary
from tf_savae.errors import UserError
from tf_savae.tokens import SPECIAL, UNKNOWN

# Different words counted at a time, so that a corpus of any size is counted in a few hundred megabytes.
MAX_COUNTED = 1 << 21


class TextDataSet(DataSet):
  r"""Documents as rows of ids, in batches `[batch, length]` int32: the words, then END, then PAD.

  The length of a batch is that of its longest document, rounded up to a multiple of 8. So training sees at most
  2 ⌈max_length / 8⌉ shapes (the last batch of an epoch may be a short one).

  Attributes:
    vocabulary: the words that the ids stand for.
    vocab_size: number of ids, including the special ones.
    max_length: the largest number of tokens in a document, including END.
    dropped: for each split, how many documents were left out because they are longer.
    counts: `unknown_tokens`, for each split that has documents: how many of its tokens are not in the vocabulary. The
      model reads each as one unknown token.

  Args:
    documents: for each split, its encoded documents.
    name, source, is_stand_in, seed: as of `DataSet`.

  Example:
    >>> import pathlib, tempfile
    >>> from tf_savae import data
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "train.txt").write_text("a b a\n" * 20)
    >>> documents = data.load("text", data_dir=folder, seed=0)
    >>> documents.texts("test", 1)
    ['a b a']
  """

  kind = "text"

  def __init__(
    self,
    documents: dict[str, Documents],
    vocabulary: Vocabulary,
    *,
    max_length: int,
    dropped: dict[str, int],
    name: str,
    source: str,
    is_stand_in: bool,
    seed: int,
  ):
    super().__init__(name=name, source=source, is_stand_in=is_stand_in, seed=seed)
    self.vocabulary = vocabulary
    self.vocab_size = len(vocabulary)
    self.max_length = max_length
    self.dropped = dropped
    self._documents = documents
    splits = [split for split in SPLITS if len(documents[split])]
    self.counts = {"unknown_tokens": {split: documents[split].num_unknown for split in splits}}
    self.notes = [_unknown({split: documents[split] for split in splits}, vocabulary.plural)]

  def num_examples(self, split: str) -> int:
    return len(self._documents[check_split(split)])

  def num_tokens(self, split: str) -> int:
    """Number of words and ENDs in `split`, the tokens over which its perplexity is a mean."""
    return self._documents[check_split(split)].num_tokens

  def texts(self, split: str, n: int) -> list[str]:
    """The first `n` documents of `split` in the order of the file, with "_UNK" for unknown words."""
    documents = self._documents[check_split(split)]
    return [self.vocabulary.decode(documents[row]) for row in range(min(n, len(documents)))]

  def train_batches(self, batch_size: int, start_step: int, num_steps: int) -> tf.data.Dataset:
    """As in `DataSet`; the documents of a batch have similar lengths, see `tf_savae.data.bucketing`."""
    with tf.device("CPU:0"):
      lengths = tf.constant(self._documents["train"].lengths)
    return bucketing.train(
      lambda rows: self._eval_batch("train", rows), self.seed, lengths, batch_size, start_step, num_steps
    )

  def eval_batches(self, split: str, batch_size: int) -> tf.data.Dataset:
    """`split` once, from the shortest document to the longest, the same for every run."""
    with tf.device("CPU:0"):
      order = tf.constant(np.argsort(self._documents[check_split(split)].lengths, kind="stable"), tf.int64)
    return batches.evaluation(
      lambda rows: self._eval_batch(split, tf.gather(order, rows)), self.num_examples(split), batch_size
    )

  def _train_batch(self, rows: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    del step  # words are what they are
    return self._eval_batch("train", rows)

  def _eval_batch(self, split: str, rows: tf.Tensor) -> tf.Tensor:
    x = tf.numpy_function(self._documents[check_split(split)].padded, [rows], tf.int32)
    return tf.ensure_shape(x, [None, None])


def load(
  *,
  data_dir: str | os.PathLike[str],
  seed: int,
  download: bool = True,
  strict: bool = False,
  vocab_size: int = 20000,
  min_count: int = 1,
  max_length: int = 200,
  units: str = "word",
  text_column: str | None = None,
  name: str = "text",
  vocabulary: Vocabulary | None = None,
) -> TextDataSet:
  """The documents of the files train, val (or valid, or dev) and test, each .txt or .txt.gz, in `data_dir`.

  The files are UTF-8 with one document per line and spaces between words; empty lines are skipped. Any one of the
  files is enough: missing splits are divided off it by a fixed seed, before long documents are dropped.

  The files are read twice, first to count words and then to encode them. A file that has to be divided is read once
  more, to count its documents. Encoded documents go to a temporary file in TMPDIR, and memory holds a few bytes per
  document.

  Args:
    data_dir: the folder with the files.
    seed: the training run's seed; it decides the order of the training documents only.
    download, strict: not used; there is nothing to download and no stand-in.
    vocab_size: the largest number of words besides the four special tokens; the most frequent words are kept. Of
      SentencePiece it is how many pieces are learned.
    min_count: how often a word must occur in the training documents to be in the vocabulary.
    max_length: the largest number of words in a document; longer documents are dropped and counted.
    units: what a document is cut into, one of `units.UNITS`; sizes and lengths count these.
    text_column: the column of the documents in train.csv or train.tsv and so on, as for `text_columns.numbered`.
    name: the name of the data set.
    vocabulary: the vocabulary of an earlier run, used unchanged; None: one is made from the training documents.

  Raises:
    UserError: there are no files, or they are unusable.
  """
  del download, strict
  folder = pathlib.Path(data_dir).expanduser()
  files = text_files.find(folder, text_column)
  if not files:
    missing = "" if folder.is_dir() else " (which does not exist)"
    expected = text_files.EXPECTED if text_column is None else "train.csv or train.tsv"
    raise UserError(f"no documents in {folder}{missing}: put {expected} there, or give another data_dir")
  return from_files(
    files,
    f"text in {folder.resolve().name}/",
    name=name,
    is_stand_in=False,
    seed=seed,
    vocab_size=vocab_size,
    min_count=min_count,
    max_length=max_length,
    units=units,
    text_column=text_column,
    vocabulary=vocabulary,
  )


def from_files(
  files: dict[str, pathlib.Path],
  what: str,
  *,
  name: str,
  is_stand_in: bool,
  seed: int,
  vocab_size: int,
  min_count: int,
  max_length: int,
  vocabulary: Vocabulary | None,
  units: str = "word",
  text_column: str | None = None,
) -> TextDataSet:
  """The documents of `files`, which has a file for at least one split; `what` begins the line that describes them."""
  for size, value in (("vocab_size", vocab_size), ("min_count", min_count), ("max_length", max_length)):
    if value < 1:
      raise UserError(f"text: {size} must be at least 1. Received: {value}")
  if units not in units_lib.UNITS:
    raise UserError(f"text: units must be one of {', '.join(units_lib.UNITS)}. Received: {units!r}")
  corpus = text_files.divide(files, text_column)
  if vocabulary is None and units == "word":
    counts = _count_words(corpus, max_length)
    vocabulary = Vocabulary.from_counts(counts, max_size=vocab_size, min_count=min_count)
    del counts
  elif vocabulary is None:
    of_training = (text for split, text in corpus.texts(only="train") if split == "train")
    vocabulary = units_lib.make(units, of_training, max_size=vocab_size, min_count=min_count)
  about = {"name": name, "is_stand_in": is_stand_in, "seed": seed}
  return _data_set(corpus, f"{what} ({corpus.describe()})", vocabulary, max_length, SPLITS, **about)


def dataset_from_file(
  path: str | os.PathLike[str],
  vocabulary: Vocabulary,
  max_length: int = 200,
  seed: int = 0,
  name: str = "text",
  text_column: str | None = None,
) -> TextDataSet:
  r"""A data set to evaluate a model on: its split "test" is one file, and its other splits are empty.

  Args:
    path: any file of documents; compressed if its name ends in ".gz".
    vocabulary: the model's vocabulary.
    max_length: the largest number of words in a document, as for `load`; longer ones are dropped and counted.
    seed: the run's seed.
    name: the name of the data set.
    text_column: of the documents, if the file is a .csv or .tsv.

  Raises:
    UserError: the file is unusable.

  Example:
    >>> import pathlib, tempfile
    >>> from tf_savae.data import Vocabulary, dataset_from_file
    >>> from tf_savae.tokens import SPECIAL
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "mine.txt"
    >>> _ = file.write_text("a b\nb a a\n")
    >>> dataset_from_file(file, Vocabulary([*SPECIAL, "a", "b"])).num_examples("test")
    2
  """
  path = pathlib.Path(path).expanduser()
  corpus = Corpus({"test": path}, None, None, text_column)
  about = {"name": name, "is_stand_in": False, "seed": seed}
  return _data_set(corpus, f"text in {path.name}", vocabulary, max_length, ("test",), **about)


def _data_set(
  corpus: Corpus,
  what: str,
  vocabulary: Vocabulary,
  max_length: int,
  needed: Sequence[str],
  **about: Any,
) -> TextDataSet:
  """The encoded documents of `corpus`; raises UserError if a split in `needed` has none."""
  documents, dropped = _encode(corpus, vocabulary, max_length)
  for split in needed:
    if not len(documents[split]):
      raise _no_documents(corpus, split, dropped[split], max_length, vocabulary.plural)
  sizes = _sizes(documents, dropped, max_length, vocabulary.plural)
  cut = "" if vocabulary.units == "word" else f"; cut into {vocabulary.plural}"
  source = f"{what}: {sizes}{cut}"
  return TextDataSet(
    documents, vocabulary, max_length=max_length + 1, dropped=dropped, source=source, **about
  )


def _count_words(corpus: Corpus, max_length: int) -> collections.Counter[str]:
  """How often each word occurs in the training documents that are not too long.

  Whenever there are more than `MAX_COUNTED` different words, the rarer half is forgotten (lossy counting). The counts
  of the rarest words are then too low, and those of frequent words remain exact.
  """
  counts: collections.Counter[str] = collections.Counter()
  dropped = 0
  forgot = False
  for split, text in corpus.texts(only="train"):
    if split != "train":
      continue
    words = text.split()
    if len(words) > max_length:
      dropped += 1
      continue
    counts.update(words)
    if len(counts) > MAX_COUNTED:
      median = sorted(counts.values())[len(counts) // 2]
      counts = collections.Counter({word: count for word, count in counts.items() if count > median})
      forgot = True
  if forgot:
    logging.warning(
      "%s has more than %d different words: the rarest were not all counted",
      corpus.file_of("train"),
      MAX_COUNTED,
    )
  if not counts:
    raise _no_documents(corpus, "train", dropped, max_length)
  return counts


def _encode(
  corpus: Corpus, vocabulary: Vocabulary, max_length: int
) -> tuple[dict[str, Documents], dict[str, int]]:
  """The documents of each split that are not too long, and the number of those that are."""
  writers = {split: Writer(len(vocabulary)) for split in SPLITS}
  dropped = dict.fromkeys(SPLITS, 0)
  for split, text in corpus.texts():
    words = vocabulary.split(text)
    if len(words) > max_length:
      dropped[split] += 1
    else:
      writers[split].add(vocabulary.encode(words))
  return {split: writer.finish() for split, writer in writers.items()}, dropped


def _no_documents(
  corpus: Corpus, split: str, dropped: int, max_length: int, plural: str = "words"
) -> UserError:
  path = corpus.file_of(split)
  if not dropped:
    return UserError(f"{path} is empty: it has no documents; put one document on each line")
  return UserError(
    f"{path}: no {split} document is left, since all {dropped} have more than max_length={max_length} {plural}; "
    f"raise max_length, or put one document on each line"
  )


def _unknown(documents: dict[str, Documents], plural: str) -> str:
  """One line that says how much of each split is not in the vocabulary."""
  if not any(each.num_unknown for each in documents.values()):
    return f"unknown {plural}: none"
  shares = ", ".join(
    f"{each.num_unknown / max(1, each.num_tokens - len(each)):.2%} of {split}"
    for split, each in documents.items()
  )
  return f"unknown {plural}: {shares}; the model reads each as {SPECIAL[UNKNOWN]}"


def _sizes(documents: dict[str, Documents], dropped: dict[str, int], max_length: int, plural: str) -> str:
  """How many documents there are and how many were dropped, in words."""
  splits = [split for split in SPLITS if len(documents[split]) or dropped[split]]
  sizes = ", ".join(f"{len(documents[split])} {split}" for split in splits)
  total = sum(dropped.values())
  each = ", ".join(f"{dropped[split]} {split}" for split in splits)
  left_out = f"; {total} of more than {max_length} {plural} dropped ({each})" if total else ""
  return f"{sizes} documents{left_out}"
