"""Batch number `step` is a pure function of (seed, step), and an epoch is a permutation."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tf_savae.data import batches, images_from_arrays
from tf_savae.errors import UserError

N, BATCH = 23, 5
PER_EPOCH = 5  # 23 = 4 · 5 + 3


def served_rows(start, num, seed=1, n=N, batch=BATCH):
  """The rows of batches `start` … `start + num − 1`, served through the pipeline."""
  served = batches.train(lambda rows, step: rows, seed, n, batch, start, num)
  return [rows.numpy() for rows in served]


def grey_images(n, seed=0):
  return np.random.default_rng(seed).uniform(size=(n, 4, 3)).astype(np.float32)


@pytest.fixture
def images():
  return lambda seed: images_from_arrays(
    grey_images(N), grey_images(7, 1), grey_images(6, 2), source="test", seed=seed
  )


def test_an_epoch_holds_every_example_exactly_once_and_ends_in_the_short_batch():
  for epoch in range(3):
    rows = served_rows(epoch * PER_EPOCH, PER_EPOCH)
    assert [len(r) for r in rows] == [5, 5, 5, 5, 3]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(N))


def test_every_epoch_has_its_own_order():
  rows = served_rows(0, 400 * PER_EPOCH)
  orders = {tuple(np.concatenate(rows[i : i + PER_EPOCH])) for i in range(0, len(rows), PER_EPOCH)}
  assert len(orders) == 400


def test_orders_of_successive_epochs_are_not_correlated():
  n = 24345  # of chardata.mat, where a cheaper permutation was seen to fail
  orders = np.stack(served_rows(0, 40, n=n, batch=n))
  correlation = [np.corrcoef(a, b)[0, 1] * np.sqrt(n) for a, b in itertools.pairwise(orders)]
  assert np.abs(correlation).max() < 4.5  # standard normal each if the orders are independent
  assert np.std(correlation) < 1.5


def test_order_depends_on_the_seed():
  assert not np.array_equal(
    np.concatenate(served_rows(0, 5, seed=1)), np.concatenate(served_rows(0, 5, seed=2))
  )


@pytest.mark.parametrize("start", [1, 4, 5, 7, 12])
def test_a_batch_is_the_same_bit_for_bit_wherever_the_run_starts(images, start):
  whole = [x.numpy() for x in images(3).train_batches(BATCH, 0, 15)]
  resumed = [x.numpy() for x in images(3).train_batches(BATCH, start, 15 - start)]
  assert len(resumed) == 15 - start
  for a, b in zip(whole[start:], resumed, strict=True):
    np.testing.assert_array_equal(a, b)


def test_cardinality_is_known_and_the_batch_dimension_is_not(images):
  served = images(0).train_batches(BATCH, 3, 9)
  assert served.cardinality() == 9
  assert served.element_spec == tf.TensorSpec([None, 4, 3, 1], tf.float32)
  evaluated = images(0).eval_batches("valid", BATCH)
  assert evaluated.cardinality() == 2
  assert evaluated.element_spec == served.element_spec


def test_a_batch_larger_than_the_data_is_the_data():
  (rows,) = served_rows(0, 1, batch=100)
  np.testing.assert_array_equal(np.sort(rows), np.arange(N))


def test_the_billionth_step_costs_what_the_first_does():
  step = 10**9
  (rows,) = served_rows(step, 1)
  np.testing.assert_array_equal(rows, batches.train_rows(1, tf.constant(step, tf.int64), N, BATCH))


@pytest.mark.parametrize(("batch", "start", "num"), [(0, 0, 1), (-5, 0, 1), (5, -1, 1), (5, 0, -1)])
def test_impossible_batches_are_refused(images, batch, start, num):
  with pytest.raises(UserError, match="Received"):
    images(0).train_batches(batch, start, num)
