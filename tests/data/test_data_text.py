"""Batches of text: every document once per epoch, padded little, a pure function of (seed, step)."""

import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tf_savae import data, tokens
from tf_savae.data import bucketing
from tf_savae.data.dataset import SPLITS
from tf_savae.errors import UserError

N, BATCH, PER_EPOCH = 67, 4, 17  # 67 = 16 · 4 + 3
MAX_LENGTH = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Documents of 1 to 40 words; the first word of each is its own."""
  folder = tmp_path_factory.mktemp("documents")
  length = np.random.default_rng(0).integers(0, MAX_LENGTH, 200)
  for name, numbers in (("train", range(N)), ("val", range(N, N + 9)), ("test", range(100, 113))):
    text = "".join(f"d{i} {'word ' * length[i]}\n" for i in numbers)
    (folder / f"{name}.txt").write_text(text)
  return folder


@pytest.fixture(scope="module")
def vocabulary():
  return data.Vocabulary.from_counts({"word": 9, **{f"d{i}": 1 for i in range(200)}})


@pytest.fixture(scope="module")
def dataset(folder, vocabulary):
  def load(seed=1):
    return data.load("text", data_dir=folder, seed=seed, vocabulary=vocabulary, max_length=MAX_LENGTH)

  return load


def batches_of(dataset, start, num, batch_size=BATCH):
  return [x.numpy() for x in dataset.train_batches(batch_size, start, num)]


def documents_in(batches):
  """The first id of every document: which one it is."""
  return [int(i) for x in batches for i in x[:, 0]]


def test_an_epoch_holds_every_document_exactly_once_and_ends_in_the_short_batch(dataset):
  every = sorted(dataset().examples("train", N)[:, 0].tolist())
  for epoch in range(3):
    batches = batches_of(dataset(), epoch * PER_EPOCH, PER_EPOCH)
    assert [len(x) for x in batches] == [4] * 16 + [3]
    assert sorted(documents_in(batches)) == every


@pytest.mark.parametrize("start", [1, 16, 17, 18, 40])
def test_a_batch_is_the_same_bit_for_bit_wherever_the_run_starts(dataset, start):
  whole = batches_of(dataset(), 0, 3 * PER_EPOCH)
  resumed = batches_of(dataset(), start, 3 * PER_EPOCH - start)
  assert len(resumed) == 3 * PER_EPOCH - start
  for a, b in zip(whole[start:], resumed, strict=True):
    np.testing.assert_array_equal(a, b)


def test_orders_differ_between_epochs_and_seeds_and_repeat_for_the_same(dataset):
  orders = [documents_in(batches_of(dataset(seed), 0, 5 * PER_EPOCH)) for seed in (1, 2, 1)]
  assert orders[0] == orders[2]
  epochs = {tuple(order[i * N : (i + 1) * N]) for order in orders for i in range(5)}
  assert len(epochs) == 10


def test_documents_meet_others_in_every_epoch(dataset):
  batches = batches_of(dataset(), 0, 20 * PER_EPOCH)
  met = collections.defaultdict(set)
  for x in batches:
    for a, b in itertools.permutations(documents_in([x]), 2):
      met[a].add(b)
  assert len(met) == N and min(map(len, met.values())) > 2 * (BATCH - 1)


def test_rows_are_the_documents_words_then_the_end_then_padding(dataset):
  lines = {line.split()[0]: line for line in dataset().texts("train", N)}
  served = [row for x in batches_of(dataset(), 0, PER_EPOCH) for row in x]
  for row in served:
    text = dataset().vocabulary.decode(row)
    assert text == lines[text.split()[0]]
    length = len(text.split())
    assert row[length] == tokens.END and not row[length + 1 :].any() and row[:length].all()


def test_a_batch_is_padded_to_the_multiple_of_8_above_its_longest_so_shapes_are_few(dataset):
  shapes = set()
  for x in batches_of(dataset(), 0, 20 * PER_EPOCH):
    longest = int(tokens.lengths(x).numpy().max())
    assert x.shape[1] == -(-longest // 8) * 8
    shapes.add(x.shape)
  assert len(shapes) <= 2 * -(-(MAX_LENGTH + 1) // 8)
  assert dataset().max_length == MAX_LENGTH + 1


def test_documents_of_a_batch_are_of_similar_length():
  lengths = tf.constant(np.random.default_rng(0).integers(20, 200, 8000), tf.int32)
  rows = bucketing.epoch_rows(1, tf.constant(3, tf.int64), lengths, 32).numpy()
  np.testing.assert_array_equal(np.sort(rows), np.arange(8000))
  batches = lengths.numpy()[rows].reshape(-1, 32)
  longest = batches.max(axis=1)
  cells = 32 * (-(-longest // 8) * 8).sum()
  assert batches.sum() / cells > 0.94  # a batch of any 32 would be half empty
  # The order of the batches is random: neighbours tell nothing about each other.
  assert abs(np.corrcoef(longest[:-1], longest[1:])[0, 1]) < 4 / np.sqrt(len(longest))


@pytest.mark.parametrize(("n", "batch_size"), [(1, 4), (4, 4), (5, 4), (3, 1), (300, 2)])
def test_any_number_of_documents_and_any_batch_size_make_an_epoch(n, batch_size):
  rows = bucketing.epoch_rows(0, tf.constant(0, tf.int64), tf.range(n) % 7 + 1, batch_size).numpy()
  np.testing.assert_array_equal(np.sort(rows), np.arange(n))


def test_evaluation_serves_every_document_once_from_short_to_long_whatever_the_seed(dataset):
  a, b = ([x.numpy() for x in dataset(seed).eval_batches("test", 4)] for seed in (1, 2))
  assert [len(x) for x in a] == [4, 4, 4, 1]
  assert sorted(documents_in(a)) == sorted(dataset().examples("test", 99)[:, 0].tolist())
  lengths = np.concatenate([tokens.lengths(x) for x in a])
  assert (np.diff(lengths) >= 0).all()
  for x, y in zip(a, b, strict=True):
    np.testing.assert_array_equal(x, y)


def test_examples_and_texts_come_in_the_order_of_the_file(dataset, folder):
  expected = [" ".join(line.split()) for line in (folder / "val.txt").read_text().splitlines()]
  assert dataset().texts("valid", 4) == expected[:4]
  x = dataset().examples("valid", 4)
  assert x.dtype == np.int32 and x.shape[1] % 8 == 0
  assert [dataset().vocabulary.decode(row) for row in x] == expected[:4]
  assert len(dataset().examples("valid", 100)) == len(dataset().texts("valid", 100)) == 9


def test_tokens_are_words_and_ends(dataset, folder):
  for split, name in zip(SPLITS, ("train", "val", "test"), strict=True):
    documents = (folder / f"{name}.txt").read_text().splitlines()
    counted = sum(len(document.split()) + 1 for document in documents)
    assert dataset().num_tokens(split) == counted
    assert sum(int(tf.reduce_sum(tokens.lengths(x))) for x in dataset().eval_batches(split, 5)) == counted


def test_cardinality_is_known_and_batch_and_length_are_not(dataset):
  spec = tf.TensorSpec([None, None], tf.int32)
  served = dataset().train_batches(BATCH, 3, 40)
  assert (served.cardinality(), served.element_spec) == (40, spec)
  evaluated = dataset().eval_batches("valid", 4)
  assert (evaluated.cardinality(), evaluated.element_spec) == (3, spec)
  assert dataset().steps_per_epoch(BATCH) == PER_EPOCH
  assert batches_of(dataset(), 5, 0) == []


def test_the_billionth_step_costs_what_the_first_does(dataset):
  (x,) = batches_of(dataset(), 10**9, 1)
  assert x.shape[0] in (3, 4)


def test_a_vocabulary_too_large_for_two_bytes_an_id_is_stored_in_four(tmp_path):
  words = [f"w{i:05d}" for i in range(70000)]
  (tmp_path / "train.txt").write_text(
    "".join(" ".join(words[i : i + 100]) + "\n" for i in range(0, 70000, 100))
  )
  large = data.load("text", data_dir=tmp_path, seed=0, vocabulary=data.Vocabulary((*tokens.SPECIAL, *words)))
  assert large.texts("train", 1000)[-1].split()[0] > "w69"
  assert large.texts("train", 1)[0].split()[0] < "w01"


@pytest.mark.parametrize(("batch", "start", "num"), [(0, 0, 1), (-5, 0, 1), (5, -1, 1), (5, 0, -1)])
def test_impossible_batches_are_refused(dataset, batch, start, num):
  with pytest.raises(UserError, match="Received"):
    dataset().train_batches(batch, start, num)


def test_an_unknown_split_is_refused(dataset):
  for ask in (dataset().num_examples, dataset().num_tokens):
    with pytest.raises(UserError, match="unknown split"):
      ask("val")
