"""The oracle is the model its docstring says, and the data are drawn from it by seed."""

import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_savae import data
from tf_savae.data import oracle as oracle_lib
from tf_savae.data.oracle import LATENT, Oracle
from tf_savae.errors import UserError
from tf_savae.seeds import Purpose, stateless_seed

SMALL = {"num_examples": 30, "vocab_size": 7, "length": 3, "hidden": 6, "embedding": 4}


def load(seed=0, **options):
  return data.load("synthetic", data_dir="unused", seed=seed, **(SMALL | options))


def all_sequences(oracle):
  """Every possible sequence `[vocab_size ** length, length]`."""
  return np.array(list(itertools.product(range(oracle.vocab_size), repeat=oracle.length)), np.int32)


def log_prob_of_all(oracle, z):
  x = all_sequences(oracle)
  return oracle.log_prob(x, np.broadcast_to(np.float32(z), [len(x), 2])).numpy()


def test_probabilities_of_all_sequences_sum_to_one():
  assert np.exp(log_prob_of_all(load().oracle, [0.3, -1.0])).sum() == pytest.approx(1, abs=1e-5)


def test_the_oracle_is_a_keras_lstm_over_tokens_and_z():
  oracle = load().oracle
  lstm = keras.layers.LSTM(6, return_sequences=True)
  lstm.build((None, 3, 6))
  lstm.set_weights([oracle.kernel, oracle.recurrent_kernel, oracle.bias])
  x = np.array([[2, 0, 5], [6, 6, 1]])
  z = np.array([[0.5, -2.0], [1.5, 0.1]], np.float32)
  previous = np.concatenate([np.full((2, 1), oracle.vocab_size), x[:, :-1]], axis=1)  # the start symbol first
  inputs = np.concatenate([oracle.embedding[previous], np.repeat(z[:, np.newaxis], 3, axis=1)], axis=-1)
  logits = lstm(inputs).numpy() @ oracle.output.T
  chosen = np.take_along_axis(tf.nn.log_softmax(logits).numpy(), x[..., np.newaxis], axis=-1)
  np.testing.assert_allclose(oracle.log_prob(x, z), chosen.sum(axis=(1, 2)), rtol=1e-5)


def test_the_other_oracle_sees_z_in_its_output_layer_only():
  oracle = load(oracle="output_layer").oracle
  lstm = keras.layers.LSTM(6, return_sequences=True)
  lstm.build((None, 3, 4))
  lstm.set_weights([oracle.kernel, oracle.recurrent_kernel, oracle.bias])
  x = np.array([[2, 0, 5], [6, 6, 1]])
  z = np.array([[0.5, -2.0], [1.5, 0.1]], np.float32)
  previous = np.concatenate([np.full((2, 1), oracle.vocab_size), x[:, :-1]], axis=1)
  logits = lstm(oracle.embedding[previous]).numpy() @ oracle.output.T + oracle.output_bias
  logits += (z @ oracle.latent_output.T)[:, np.newaxis]
  chosen = np.take_along_axis(tf.nn.log_softmax(logits).numpy(), x[..., np.newaxis], axis=-1)
  np.testing.assert_allclose(oracle.log_prob(x, z), chosen.sum(axis=(1, 2)), rtol=1e-5)
  assert np.exp(log_prob_of_all(oracle, [0.3, -1.0])).sum() == pytest.approx(1, abs=1e-5)
  assert 4 < np.abs(oracle.latent_output).max() <= 5 and np.abs(oracle.output).max() <= 1


@pytest.mark.parametrize("reading", ["lstm_input", "output_layer"])
def test_a_saved_oracle_is_read_back_to_the_last_bit(reading, tmp_path):
  oracle = load(oracle=reading).oracle
  oracle.save(tmp_path / "oracle.npz")
  loaded = Oracle.load(tmp_path / "oracle.npz")
  assert loaded.equals(oracle) and loaded.reading == reading
  assert not loaded.equals(load(oracle=reading, data_seed=1).oracle)
  assert [path.name for path in tmp_path.iterdir()] == ["oracle.npz"]


@pytest.mark.parametrize(
  "content", [None, b"", b"PK", b"no oracle"], ids=["missing", "empty", "cut", "other"]
)
def test_a_file_that_is_no_oracle_is_refused_in_one_line(content, tmp_path):
  if content is not None:
    (tmp_path / "oracle.npz").write_bytes(content)
  with pytest.raises(UserError, match="holds no oracle") as error:
    Oracle.load(tmp_path / "oracle.npz")
  assert "\n" not in str(error.value)


def test_an_unknown_oracle_is_refused():
  with pytest.raises(UserError, match="oracle must be one of lstm_input, output_layer"):
    load(oracle="somewhere")


def test_samples_have_the_frequencies_of_the_model():
  # 64 sequences. A sample given its z is a draw from p(x | z): averaged over the z that were drawn, each
  # sequence occurs as often as the model says.
  oracle = load(vocab_size=4, output_scale=3.0).oracle
  n = 4000
  tokens, z = oracle.sample(n, stateless_seed(5, 0, Purpose.ORACLE))
  sequences = all_sequences(oracle)
  expected = np.zeros(len(sequences))
  variance = np.zeros(len(sequences))
  for i, sequence in enumerate(sequences):
    p = np.exp(oracle.log_prob(np.broadcast_to(sequence, [n, 3]), z).numpy())
    expected[i], variance[i] = p.sum(), (p * (1 - p)).sum()
  counts = np.bincount(tokens @ [16, 4, 1], minlength=64)
  np.testing.assert_array_less(np.abs(counts - expected), 5 * np.sqrt(variance) + 3)
  assert expected.max() > 3 * n / 64  # far from uniform, so that this can fail


def test_samples_depend_on_z():
  oracle = load(output_scale=3.0).oracle
  assert np.abs(log_prob_of_all(oracle, [2, 2]) - log_prob_of_all(oracle, [-2, -2])).max() > 1


def test_latents_are_standard_normal():
  z = np.concatenate([load(num_examples=2000).latents[split] for split in data.SPLITS])
  assert z.shape == (6000, 2)
  np.testing.assert_allclose(z.mean(axis=0), 0, atol=0.06)
  np.testing.assert_allclose(np.cov(z.T), np.eye(2), atol=0.08)


def test_weights_are_uniform_in_their_ranges():
  oracle = load(vocab_size=500, output_scale=1.45).oracle
  for name in ("embedding", "kernel", "recurrent_kernel", "bias"):
    w = getattr(oracle, name)
    assert 0.8 < np.abs(w).max() <= 1
    assert abs(w.mean()) < 5 / np.sqrt(3 * w.size)
  assert 1.44 < np.abs(oracle.output).max() <= 1.45


def test_everything_follows_from_the_data_seed_and_only_the_order_from_the_training_seed():
  a, b, c = load(seed=1), load(seed=2), load(seed=1, data_seed=1)
  for split in data.SPLITS:
    np.testing.assert_array_equal(a.examples(split, 30), b.examples(split, 30))
    np.testing.assert_array_equal(a.latents[split], b.latents[split])
  assert not np.array_equal(a.oracle.output, c.oracle.output)
  assert not np.array_equal(a.examples("test", 30), c.examples("test", 30))
  first = [next(iter(d.train_batches(30, 0, 1))).numpy() for d in (a, b)]
  assert not np.array_equal(*first)
  np.testing.assert_array_equal(*[np.sort(x, axis=0) for x in first])


def test_splits_are_different_draws():
  dataset = load()
  assert not np.array_equal(dataset.examples("train", 30), dataset.examples("valid", 30))
  assert not np.array_equal(dataset.examples("valid", 30), dataset.examples("test", 30))


def test_it_is_a_data_set_of_tokens():
  dataset = load()
  assert (dataset.kind, dataset.name, dataset.is_stand_in) == ("tokens", "synthetic", False)
  assert (dataset.vocab_size, dataset.length) == (7, 3)
  assert "oracle" in dataset.source and "data seed 0" in dataset.source
  batches = list(dataset.train_batches(8, 0, dataset.steps_per_epoch(8)))
  assert [len(x) for x in batches] == [8, 8, 8, 6]
  assert batches[0].dtype == tf.int32
  x = np.concatenate([x.numpy() for x in dataset.eval_batches("test", 8)])
  np.testing.assert_array_equal(x, dataset.examples("test", 10**6))
  assert x.min() >= 0 and x.max() < 7
  np.testing.assert_array_equal(
    dataset.train_batches(8, 5, 1).get_single_element(), list(dataset.train_batches(8, 0, 6))[5]
  )


@pytest.mark.parametrize("option", ["num_examples", "vocab_size", "length", "hidden", "output_scale"])
@pytest.mark.parametrize("value", [0, -3])
def test_sizes_that_are_not_positive_are_refused(option, value):
  with pytest.raises(UserError, match=f"{option} must be positive. Received: {value}"):
    load(**{option: value})


def test_the_full_size_oracle_has_about_the_paper_s_entropy():
  # −log p(x | z) at the true z: below the true negative log-likelihood (19.6 to 22.4 nats measured by a grid
  # over z) by the information that x carries about z.
  dataset = data.load("synthetic", data_dir="unused", seed=0, num_examples=500)
  assert (dataset.vocab_size, dataset.length) == (1000, 5)
  conditional = (
    -dataset.oracle.log_prob(dataset.examples("test", 500), dataset.latents["test"]).numpy().mean()
  )
  assert 15 < conditional < 22
  assert LATENT == 2


def test_more_can_be_drawn_for_training_than_for_the_rest():
  more, usual = load(train_examples=7000), load()
  assert [more.num_examples(split) for split in data.SPLITS] == [7000, 30, 30]
  assert "30 sequences per split, 7000 for training, 3 tokens of 7" in more.source
  np.testing.assert_array_equal(more.examples("test", 30), usual.examples("test", 30))


def test_sequences_drawn_a_few_at_a_time_are_those_drawn_at_once(monkeypatch):
  drawn, seed = load().oracle, stateless_seed(3, 0, Purpose.ORACLE)
  at_once = drawn.sample(40, seed)
  monkeypatch.setattr(oracle_lib, "_AT_ONCE", 7)
  for ours, theirs in zip(drawn.sample(40, seed), at_once, strict=True):
    np.testing.assert_array_equal(ours, theirs)


def test_data_do_not_depend_on_the_number_of_threads(tmp_path):
  program = """
import sys
import numpy as np
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
from tf_savae import data
drawn = data.load("synthetic", data_dir="data", seed=0, oracle="output_layer")
np.save(sys.argv[2], drawn.examples("test", drawn.num_examples("test")))
"""
  drawn = []
  for threads in (1, 3):
    file = tmp_path / f"{threads}.npy"
    subprocess.run([sys.executable, "-c", program, str(threads), str(file)], check=True)
    drawn.append(np.load(file))
  assert drawn[0].shape == (5000, 5)
  np.testing.assert_array_equal(*drawn)
