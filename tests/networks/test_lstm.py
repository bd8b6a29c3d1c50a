"""The LSTM decoder factorises p(x | z) over tokens; its cell is the usual LSTM's."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.networks import LSTMDecoder, LSTMEncoder


def make(latent_dim=2, vocab_size=3, length=3, **kwargs):
  return LSTMDecoder(vocab_size, latent_dim, 4, 5, length=length, init_scale=1.5, dtype="float64", **kwargs)


def all_sequences(vocab_size, length):
  return np.array(list(itertools.product(range(vocab_size), repeat=length)), "int32")


@pytest.mark.parametrize(
  "options", [{"latent_dim": 0}, {"latent_dim": 2}, {"latent_dim": 2, "latent_to_state": True}], ids=str
)
def test_probabilities_of_all_sequences_sum_to_one(options):
  decoder = make(**options)
  x = all_sequences(3, 3)
  z = np.tile([[0.3, -1.2]], (len(x), 1)) if options["latent_dim"] else None
  log_prob = decoder.log_prob(x, z, decoder.precompute(x))
  np.testing.assert_allclose(tf.reduce_sum(tf.exp(log_prob)), 1.0, rtol=1e-12)
  assert np.ptp(log_prob) > 1.0


def test_a_token_moves_the_later_logits_only():
  decoder = make(length=5)
  x = np.zeros((1, 5), "int32")
  z = np.ones((1, 2))
  logits = decoder(x, z)
  for t in range(5):
    changed = x.copy()
    changed[0, t] = 1
    moved = np.any(decoder(changed, z) != logits, axis=-1)[0]
    np.testing.assert_array_equal(moved, np.arange(5) > t)


@pytest.mark.parametrize("latent_to_state", [False, True])
def test_latent_enters_at_every_step(latent_to_state):
  """With all recurrent weights 0, step t can see z at step t only, or at the start."""
  decoder = make(length=4, latent_to_state=latent_to_state)
  x = np.zeros((2, 4), "int32")
  decoder.recurrent.assign(tf.zeros_like(decoder.recurrent))
  logits = decoder(x, np.array([[0.0, 0.0], [1.0, -1.0]])).numpy()
  assert np.all(np.any(logits[0] != logits[1], axis=-1))


def test_latent_to_state_starts_the_hidden_state_at_a_linear_function_of_z():
  decoder, z = make(latent_to_state=True), np.array([[0.3, -1.2]])
  h, _ = decoder._from_latent(z, 1)
  np.testing.assert_allclose(h, z @ decoder.state_kernel.numpy() + decoder.state_bias.numpy(), rtol=1e-12)
  np.testing.assert_array_equal(make()._from_latent(z, 1)[0], np.zeros((1, 5)))


def test_sample_frequencies_are_the_models_probabilities():
  decoder = make()
  count = 20_000
  z = np.tile([[0.4, -0.9]], (count, 1))
  drawn = decoder.sample(z, (1, 2)).numpy()
  x = all_sequences(3, 3)
  p = np.exp(decoder.log_prob(x, z[: len(x)], decoder.precompute(x)))
  frequencies = np.bincount(drawn @ [9, 3, 1], minlength=27) / count
  assert np.all(np.abs(frequencies - p) < 5 * np.sqrt(p * (1 - p) / count) + 1 / count)


def test_decode_is_the_probability_along_the_greedy_path():
  decoder = make(vocab_size=7, length=5)
  z = np.random.default_rng(0).normal(size=(4, 2))
  probabilities = decoder.decode(z)
  assert probabilities.shape == (4, 5, 7)
  greedy = np.argmax(probabilities, axis=-1).astype("int32")
  np.testing.assert_allclose(probabilities, tf.nn.softmax(decoder(greedy, z)), rtol=1e-10)


def test_dropout_applies_to_embeddings_and_before_the_softmax():
  decoder = make(dropout=0.5)
  x = np.zeros((50, 3), "int32")
  inputs, mask = decoder.precompute(x, training=True, seed=(1, 2))
  assert set(np.unique(mask)) == {0.0, 2.0}
  # Each example is the same sentence: only masked embeddings can tell them apart.
  assert len(np.unique(inputs, axis=0)) > 1
  assert len(np.unique(decoder.precompute(x)[0], axis=0)) == 1


def test_progress_bar_shows_tokens(capsys):
  make().sample(np.zeros((2, 2)), (1, 2), progress=True)
  assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize("jit_compile", [None, True], ids=["graph", "xla"])
def test_decoding_within_a_function(jit_compile):
  decoder = make()
  z = np.random.default_rng(0).normal(size=(3, 2))
  probabilities = tf.function(decoder.decode, jit_compile=jit_compile)(tf.constant(z))
  np.testing.assert_allclose(probabilities, decoder.decode(z), rtol=1e-10)


def test_sampling_within_a_function():
  decoder = make()
  z = np.random.default_rng(0).normal(size=(3, 2))
  samples = tf.function(lambda z: decoder.sample(z, (1, 2)))(tf.constant(z))
  np.testing.assert_array_equal(samples, decoder.sample(z, (1, 2)))


def test_parameters_start_uniform_in_the_given_range():
  for layer in (LSTMDecoder(50, 2, 20, 30), LSTMEncoder(50, 2, 20, 30)):
    values = np.concatenate([w.numpy().ravel() for w in layer.weights])
    assert np.max(np.abs(values)) <= 0.1
    np.testing.assert_allclose(np.std(values), 0.1 / np.sqrt(3), rtol=0.02)


@pytest.mark.parametrize(
  "wrong",
  [
    {"vocab_size": 0},
    {"latent_dim": -1},
    {"embedding_dim": 0},
    {"hidden_dim": -5},
    {"length": 0},
    {"dropout": 1.0},
    {"latent_to_state": True, "latent_to_logits": True},
  ],
  ids=str,
)
def test_impossible_sizes_are_refused_in_one_line(wrong):
  with pytest.raises(UserError, match="received") as error:
    LSTMDecoder(**{**{"vocab_size": 5, "latent_dim": 2, "embedding_dim": 3, "hidden_dim": 4}, **wrong})
  assert "\n" not in str(error.value)


def test_sequences_of_unknown_length_are_refused():
  with pytest.raises(UserError, match="static length"):
    tf.function(make().precompute, autograph=False).get_concrete_function(
      tf.TensorSpec([None, None], tf.int32)
    )
