"""Training batches of documents of similar length; batch number `step` is a pure function of (seed, step).

An epoch begins with a permutation of the documents. Its last n mod B documents form the short batch that ends the
epoch. The others are divided into pools of `POOL` batches. Each pool is sorted by padded length and cut into batches,
and the batches of all pools are shuffled. So every document occurs once per epoch, batches hold little padding, and
each epoch groups the documents into batches differently.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tf_savae.data import batches
from tf_savae.data.text_store import MULTIPLE
from tf_savae.seeds import Purpose, stateless_seed

POOL = 64  # batches sorted together: more means less padding, fewer means batches that mix more freely


def epoch_rows(seed: int, epoch: tf.Tensor, lengths: tf.Tensor, batch_size: int) -> tf.Tensor:
  """All rows `[documents]` int64 in the order in which an epoch uses them, B at a time and the remainder last.

  Args:
    seed: the training run's seed.
    epoch: number of the epoch, from 0.
    lengths: length of each document, `[documents]`.
    batch_size: B.
  """
  document_seed, batch_seed = tf.unstack(tf.random.split(stateless_seed(seed, epoch, Purpose.ORDER), 2))
  shuffle = tf.random.experimental.stateless_shuffle
  n = tf.size(lengths, tf.int64)
  num_full = n // batch_size
  rows = shuffle(tf.range(n), document_seed)
  full, rest = rows[: num_full * batch_size], rows[num_full * batch_size :]
  # One sort for all pools: by pool, then by length in units of padding, which costs no more padding than the exact
  # length would. argsort keeps equal lengths in their random order, so the documents of a batch vary.
  pool = tf.range(tf.size(full, tf.int64)) // (POOL * batch_size)
  by_length = -(-tf.cast(tf.gather(lengths, full), tf.int64) // MULTIPLE)
  full = tf.gather(full, tf.argsort(pool * (tf.reduce_max(by_length) + 1) + by_length))
  order = shuffle(tf.range(num_full), batch_seed)
  full = tf.gather(tf.reshape(full, [num_full, batch_size]), order)
  return tf.concat([tf.reshape(full, [-1]), rest], axis=0)


def train(
  make_batch: Callable[[tf.Tensor], tf.Tensor],
  seed: int,
  lengths: tf.Tensor,
  batch_size: int,
  start_step: int,
  num_steps: int,
) -> tf.data.Dataset:
  """Batches `start_step` to `start_step + num_steps - 1` of a run, made by `make_batch(rows)`."""
  n = int(tf.size(lengths))
  per_epoch = batches.steps_per_epoch(n, batch_size)
  batches.check_steps(start_step, num_steps)
  if not n or not num_steps:
    return batches.ahead_of_the_step(
      tf.data.Dataset.range(0).map(lambda _: make_batch(tf.zeros([0], tf.int64)))
    )
  first_epoch, skipped = divmod(start_step, per_epoch)
  last_epoch = (start_step + num_steps - 1) // per_epoch

  def rows_of_epoch(epoch):
    rows = epoch_rows(seed, epoch, lengths, batch_size)  # once per epoch, not once per batch
    first = tf.where(epoch == first_epoch, tf.constant(skipped, tf.int64), 0)
    return tf.data.Dataset.range(first, per_epoch).map(lambda i: rows[i * batch_size : (i + 1) * batch_size])

  rows = tf.data.Dataset.range(first_epoch, last_epoch + 1).flat_map(rows_of_epoch).take(num_steps)
  rows = rows.apply(tf.data.experimental.assert_cardinality(num_steps))
  return batches.ahead_of_the_step(rows.map(make_batch))
