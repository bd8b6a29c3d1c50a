"""What is particular to documents: their last token, padding, word dropout, and generating a token at a time."""

import numpy as np
import pytest
import tensorflow as tf

from tf_savae import tokens
from tf_savae.networks import TextLSTMDecoder, TextLSTMEncoder
from tf_savae.networks.noise import drop_words, sequence_dropout_mask

DOCUMENTS = tf.constant([[4, 7, 5, 3, 2], [6, 6, 2, 0, 0], [5, 4, 7, 2, 0]], tf.int32)
Z = tf.random.stateless_normal([3, 2], [3, 4], dtype=tf.float64)
SEED = tf.constant([1, 2])


def decoder(latent_dim=2, **options):
  return TextLSTMDecoder(8, latent_dim, 3, 4, init_scale=0.8, dtype="float64", **options)


def padded(x, by=3):
  return tf.pad(x, [[0, 0], [0, by]], constant_values=tokens.PAD)


def test_encoder_reads_up_to_the_last_token_and_no_padding():
  encoder = TextLSTMEncoder(8, 2, 3, 4, init_scale=0.8, dtype="float64")
  together = encoder(padded(DOCUMENTS))
  for i, row in enumerate(DOCUMENTS):
    alone = encoder(tf.boolean_mask(row, tokens.is_token(row))[tf.newaxis])
    for a, b in zip(alone, together, strict=True):
      np.testing.assert_allclose(a[0], b[i], rtol=1e-12)
  assert np.all(encoder(DOCUMENTS[:, :-1]).mean[0] != together.mean[0])  # that row's END is gone


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_padding_changes_no_number(dropout):
  d = decoder(dropout=dropout, word_dropout=dropout)

  def values(x):
    with tf.GradientTape() as tape:
      tape.watch(Z)
      log_prob = d.log_prob(x, Z, d.precompute(x, training=True, seed=SEED))
    weights = [v.value for v in d.trainable_variables]
    with tf.GradientTape() as second:
      second.watch(weights)
      derivative = d.log_prob_derivative(x, Z, Z + 1, d.precompute(x, training=True, seed=SEED))
    gradients = second.gradient(derivative, weights)
    return [log_prob, tape.gradient(log_prob, Z), derivative, *map(tf.convert_to_tensor, gradients)]

  for a, b in zip(values(DOCUMENTS), values(padded(DOCUMENTS)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_log_prob_is_the_sum_over_words_and_end_of_what_next_says():
  d = decoder()
  state, token, total = d.start(Z, 3), tf.fill([3], tokens.START), np.zeros(3)
  for t in range(DOCUMENTS.shape[1]):
    logits, state = d.next(token, state)
    token = DOCUMENTS[:, t]
    of_token = tf.gather(tf.nn.log_softmax(logits), token, batch_dims=1)
    total += np.where(token == tokens.PAD, 0.0, of_token)
  np.testing.assert_allclose(d.log_prob(DOCUMENTS, Z, d.precompute(DOCUMENTS)), total, rtol=1e-12)


def test_probabilities_of_all_documents_sum_to_one():
  """Over all continuations of one token, of END, START, UNKNOWN, PAD and four words."""
  d = decoder()
  logits = d(tf.constant([[4, 2]]), Z[:1])
  np.testing.assert_allclose(tf.reduce_sum(tf.nn.softmax(logits), axis=-1), 1.0, rtol=1e-12)


@pytest.mark.parametrize("latent_dim", [0, 2])
def test_a_token_does_not_see_itself_or_what_follows(latent_dim):
  d = decoder(latent_dim)
  z = Z[:1] if latent_dim else None
  x, other = tf.constant([[4, 7, 5, 3, 2]]), tf.constant([[4, 7, 6, 6, 2]])
  np.testing.assert_array_equal(d(x, z)[:, :3], d(other, z)[:, :3])
  assert np.all(d(x, z)[:, 3] != d(other, z)[:, 3])


@pytest.mark.parametrize("positions", [1, 4])
def test_logits_of_a_few_positions_at_a_time_give_the_same(positions):
  def values(d):
    context = d.precompute(DOCUMENTS)
    return d.log_prob(DOCUMENTS, Z, context), d.log_prob_derivative(DOCUMENTS, Z, Z + 1, context)

  np.testing.assert_allclose(values(decoder(logit_positions=positions)), values(decoder()), rtol=1e-12)


class TestMasks:
  def test_words_are_dropped_at_the_rate_and_start_never(self):
    inputs = tokens.shifted(tf.fill([200, 50], 5))
    dropped = drop_words(inputs, 0.25, SEED).numpy()
    assert np.all(dropped[:, 0] == tokens.START)
    rest = dropped[:, 1:]
    assert set(np.unique(rest)) == {5, tokens.UNKNOWN}
    share = np.mean(rest == tokens.UNKNOWN)
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / rest.size)

  def test_a_mask_does_not_depend_on_padding(self):
    inputs = tokens.shifted(DOCUMENTS)
    short = sequence_dropout_mask(inputs, 4, 0.5, SEED, "float32")
    long = sequence_dropout_mask(padded(inputs), 4, 0.5, SEED, "float32")
    np.testing.assert_array_equal(short, long[:, :5])

  def test_word_dropout_only_in_training(self):
    d = decoder(word_dropout=0.9)
    calm, again = d.precompute(DOCUMENTS)[0], d.precompute(DOCUMENTS, training=False, seed=SEED)[0]
    np.testing.assert_array_equal(calm, again)
    assert np.any(calm != d.precompute(DOCUMENTS, training=True, seed=SEED)[0])
