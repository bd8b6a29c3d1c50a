"""Generation from a decoder so small that all its documents can be listed."""

import gc
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny import normal
from tf_savae.errors import UserError
from tf_savae.networks import decoding
from tf_savae.networks.sequence import SequenceDecoder
from tf_savae.tokens import END, PAD, START, UNKNOWN

VOCAB, LENGTH, LATENT = 6, 4, 2
WORDS = [token for token in range(VOCAB) if token not in (PAD, START, END)]
Z = normal(3, LATENT, seed=8)
SEED = tf.constant([3, 4])


class TinyRNN(SequenceDecoder):
  """h_0 = z A (or 0), h_t = tanh(h_{t-1} U + E[x_{t-1}]), logits = 3 h_t V; the state is h_t."""

  def __init__(self, latent_dim=LATENT, scale=1.5, max_length=LENGTH, dtype="float64"):
    super().__init__(dtype=dtype)
    self.latent_dim, self.vocab_size, self.max_length = latent_dim, VOCAB, max_length
    shapes = [(max(latent_dim, 1), 4), (4, 4), (VOCAB, 4), (4, VOCAB)]
    rng = np.random.default_rng(1)
    self.matrices = [
      self.add_weight(shape=s, initializer=lambda s, dtype: tf.constant(scale * rng.normal(size=s), dtype))
      for s in shapes
    ]

  def start(self, z, num):
    from_latent = self.matrices[0]
    return tf.zeros([num, 4], self.variable_dtype) if z is None else tf.matmul(z, from_latent)

  def next(self, token, state):
    _, recurrent, embedding, out = self.matrices
    h = tf.tanh(tf.matmul(state, recurrent) + tf.gather(tf.convert_to_tensor(embedding), token))
    return tf.matmul(h, out), h

  def precompute(self, x, training=False, seed=None):
    return ()

  def log_prob(self, x, z, context):
    raise NotImplementedError  # the tests' own follows


def log_probs(decoder, z, document) -> list[np.ndarray]:
  """log p(· | words before, z) at every token of one document, each `[vocab]`, in NumPy."""
  from_latent, recurrent, embedding, out = (m.numpy() for m in decoder.matrices)
  h = np.zeros(4) if z is None else z @ from_latent
  rows = []
  for token in [START, *document[:-1]]:
    h = np.tanh(h @ recurrent + embedding[token])
    logits = h @ out
    rows.append(logits - np.log(np.sum(np.exp(logits))))
  return rows


def log_prob(decoder, z, document) -> float:
  rows = log_probs(decoder, z, document)
  return sum(row[token] for row, token in zip(rows, document, strict=True))


def every_document(length=LENGTH):
  """All documents of at most `length` tokens: words and one END."""
  return [(*words, END) for n in range(length) for words in itertools.product(WORDS, repeat=n)]


def documents(tokens) -> list[tuple[int, ...]]:
  """Rows without their padding, after checking that it is padding and follows an END."""
  rows = []
  for row in np.asarray(tokens).reshape(-1, tokens.shape[-1]).tolist():
    end = row.index(END)
    assert set(row[:end]) <= set(WORDS) and set(row[end + 1 :]) <= {PAD}
    rows.append(tuple(row[: end + 1]))
  return rows


def allowed(row) -> np.ndarray:
  """Probabilities without PAD and START."""
  p = np.exp(row)
  p[[PAD, START]] = 0
  return p / p.sum()


def test_greedy_takes_the_most_probable_token_and_ends_at_the_length_limit():
  decoder = TinyRNN(scale=1.0)
  found = documents(decoding.generate(decoder, normal(30, LATENT, seed=8)))
  for z, document in zip(normal(30, LATENT, seed=8).numpy(), found, strict=True):
    best = [int(np.argmax(allowed(row))) for row in log_probs(decoder, z, document)]
    if len(document) == LENGTH:
      best[-1] = END
    assert document == tuple(best)
  assert {len(document) for document in found} > {LENGTH}  # some end there, and others before


@pytest.mark.parametrize("temperature, top_p", [(1.0, 1.0), (0.5, 1.0), (1.0, 0.7), (2.0, 0.6)])
def test_sample_frequencies_are_those_of_the_tempered_nucleus(temperature, top_p):
  decoder, count = TinyRNN(scale=0.8), 20_000
  z = tf.repeat(Z[:1], count, axis=0)
  drawn = documents(decoding.generate(decoder, z, seed=SEED, temperature=temperature, top_p=top_p))

  def probability(document):
    total = 1.0
    for t, row in enumerate(log_probs(decoder, Z[0].numpy(), document)):
      p = allowed(row / temperature)
      nucleus, mass = [], 0.0
      for token in np.argsort(-p):
        if mass < top_p:
          nucleus.append(token)
          mass += p[token]
      if t < LENGTH - 1:
        total *= p[document[t]] / mass if document[t] in nucleus else 0.0
    return total

  possible = every_document()
  expected = np.array([probability(document) for document in possible])
  assert expected.sum() == pytest.approx(1.0)
  observed = np.array([drawn.count(document) for document in possible]) / count
  assert np.all(observed[expected == 0] == 0)
  error = np.sqrt(np.maximum(expected * (1 - expected), 1e-5) / count)
  assert np.max(np.abs(observed - expected) / error) < 4.5


def test_a_tiny_nucleus_and_a_temperature_near_zero_are_greedy():
  decoder = TinyRNN()
  greedy = decoding.generate(decoder, Z)
  for setting in ({"top_p": 1e-6}, {"temperature": 1e-30}):
    np.testing.assert_array_equal(decoding.generate(decoder, Z, seed=SEED, **setting), greedy)


def test_a_rows_draw_does_not_depend_on_the_other_rows_nor_on_later_tokens():
  decoder = TinyRNN(scale=0.5, max_length=12)
  z = normal(6, LATENT)
  all_rows = documents(decoding.generate(decoder, z, seed=SEED))
  assert documents(decoding.generate(decoder, z[:2], seed=SEED)) == all_rows[:2]
  others = tf.concat([z[:2], normal(4, LATENT, seed=5)], axis=0)
  assert documents(decoding.generate(decoder, others, seed=SEED))[:2] == all_rows[:2]
  shorter = documents(decoding.generate(decoder, z, seed=SEED, max_length=5))
  assert [row[:4] for row in shorter] == [row[:4] for row in all_rows]
  assert documents(decoding.generate(decoder, z, seed=[3, 5])) != all_rows
  assert len(set(documents(decoding.generate(decoder, z[:1] + tf.zeros([6, 1], z.dtype), seed=SEED)))) > 1


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_beams_enough_for_all_documents_find_them_in_order(length_penalty):
  decoder, possible = TinyRNN(scale=0.6), every_document()
  tokens, found = decoding.beam_search(decoder, Z, len(possible) + 2, length_penalty)
  for row, z in enumerate(Z.numpy()):
    exact = {document: log_prob(decoder, z, document) for document in possible}
    rank = sorted(possible, key=lambda d: -exact[d] / ((5 + len(d)) / 6) ** length_penalty)
    assert documents(tokens[row, : len(possible)]) == rank
    np.testing.assert_allclose(found[row, : len(possible)], [exact[d] for d in rank], rtol=1e-12)
  assert np.all(np.isneginf(found[:, len(possible) :]))
  assert np.all(tokens[:, len(possible) :] == PAD)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_few_beams_are_the_best_continuations_at_every_step(length_penalty):
  decoder, beams = TinyRNN(scale=0.6, max_length=6), 3
  tokens, found = decoding.beam_search(decoder, Z, beams, length_penalty)
  for row, z in enumerate(Z.numpy()):
    kept = [((), 0.0)]
    for t in range(6):
      longer = []
      for words, total in kept:
        if words[-1:] == (END,):
          longer.append((words, total))
          continue
        step = log_probs(decoder, z, (*words, END))[-1]
        longer += [((*words, token), total + step[token]) for token in ([END] if t == 5 else [*WORDS, END])]
      kept = sorted(longer, key=lambda d: -d[1] / ((5 + len(d[0])) / 6) ** length_penalty)[:beams]
    assert documents(tokens[row]) == [words for words, _ in kept]
    np.testing.assert_allclose(found[row], [total for _, total in kept], rtol=1e-12)


def test_one_beam_is_greedy():
  decoder, z = TinyRNN(scale=0.8, max_length=8), normal(20, LATENT, seed=2)
  tokens, found = decoding.beam_search(decoder, z, 1, length_penalty=0.7)
  greedy = documents(decoding.generate(decoder, z))
  assert documents(tokens[:, 0]) == greedy
  exact = [log_prob(decoder, row, document) for row, document in zip(z.numpy(), greedy, strict=True)]
  np.testing.assert_allclose(found[:, 0], exact, rtol=1e-12)


def test_the_unknown_word_can_be_forbidden():
  decoder, z = TinyRNN(scale=0.6), normal(20, LATENT, seed=2)
  for how in ({}, {"seed": SEED}, {"seed": SEED, "top_p": 0.5}):
    assert np.any(decoding.generate(decoder, z, **how) == UNKNOWN)
    assert not np.any(decoding.generate(decoder, z, **how, allow_unknown=False) == UNKNOWN)
  known = [d for d in every_document() if UNKNOWN not in d]
  tokens, found = decoding.beam_search(decoder, Z[:1], len(known), allow_unknown=False)
  assert sorted(documents(tokens)) == sorted(known)
  np.testing.assert_allclose(found[0, 0], log_prob(decoder, Z[0].numpy(), documents(tokens)[0]), rtol=1e-12)


def test_decode_is_the_distribution_at_every_token_of_the_greedy_document():
  decoder = TinyRNN(scale=1.0)
  z = normal(8, LATENT, seed=8)
  tokens, probabilities = decoding.generate(decoder, z).numpy(), decoder.decode(z).numpy()
  assert probabilities.shape == (*tokens.shape, VOCAB)
  for row, document in enumerate(documents(tokens)):
    n = len(document)
    exact = np.exp(log_probs(decoder, z[row].numpy(), document))
    np.testing.assert_allclose(probabilities[row, :n], exact, rtol=1e-12)
    np.testing.assert_array_equal(
      probabilities[row, n:], np.tile(np.eye(VOCAB)[PAD], (tokens.shape[1] - n, 1))
    )


def test_sample_draws_from_the_model_with_and_without_latent():
  decoder, plain = TinyRNN(), TinyRNN(latent_dim=0)
  np.testing.assert_array_equal(decoder.sample(Z, SEED), decoding.generate(decoder, Z, seed=SEED))
  assert len(documents(plain.sample(None, SEED, num=5))) == 5
  assert plain.decode(None).shape[0] == 1
  tokens, found = decoding.beam_search(plain, None, 2)
  exact = [log_prob(plain, None, document) for document in documents(tokens)]
  np.testing.assert_allclose(found[0], exact, rtol=1e-12)


def test_a_function_of_unknown_batch_size_gives_the_same():
  decoder = TinyRNN(dtype="float32")
  z = tf.cast(Z, "float32")

  @tf.function(input_signature=[tf.TensorSpec([None, LATENT], tf.float32)], autograph=False)
  def all_of_them(z):
    drawn = decoding.generate(decoder, z, seed=SEED, top_p=0.9)
    return decoding.generate(decoder, z), drawn, *decoding.beam_search(decoder, z, 2)

  for size in (1, 3):
    greedy, drawn, tokens, found = all_of_them(z[:size])
    np.testing.assert_array_equal(greedy, decoding.generate(decoder, z[:size]))
    np.testing.assert_array_equal(drawn, decoding.generate(decoder, z[:size], seed=SEED, top_p=0.9))
    eager_tokens, eager_found = decoding.beam_search(decoder, z[:size], 2)
    np.testing.assert_array_equal(tokens, eager_tokens)
    np.testing.assert_allclose(found, eager_found, rtol=1e-6)


def test_the_loop_ends_with_the_longest_document():
  decoder = TinyRNN(max_length=50)
  tokens = decoding.generate(decoder, normal(20, LATENT, seed=8), seed=SEED)
  assert tokens.shape[1] == max(len(document) for document in documents(tokens)) < 50
  beams, _ = decoding.beam_search(decoder, Z, 2)
  assert beams.shape[2] == max(len(document) for document in documents(beams)) < 50


@pytest.mark.parametrize(
  "setting, words",
  [
    ({"temperature": 0.0}, "temperature must be above 0, received 0.0"),
    ({"temperature": float("nan")}, "temperature"),
    ({"top_p": 0.0}, "top_p must be above 0 and at most 1"),
    ({"top_p": 1.1}, "received 1.1"),
    ({"max_length": 0}, "max_length"),
    ({"num_beams": 0}, "num_beams must be a whole number, 1 or more, received 0"),
    ({"num_beams": 2, "length_penalty": -1.0}, "length_penalty"),
  ],
)
def test_a_setting_out_of_its_range_is_refused_in_one_line(setting, words):
  function = decoding.beam_search if "num_beams" in setting else decoding.generate
  with pytest.raises(UserError, match=words) as error:
    function(TinyRNN(), Z, **setting)
  assert "\n" not in str(error.value)


def test_each_decoder_is_traced_once_and_freed(caplog):
  """TensorFlow warns of retracing where one function serves many decoders, and must not keep them in memory."""
  before = len(decoding._GRAPHS)
  decoders = [TinyRNN() for _ in range(7)]
  for decoder in decoders:
    for _ in range(2):
      decoding.generate(decoder, Z)
  assert "retracing" not in caplog.text
  counts = [g.experimental_get_tracing_count() for d in decoders for g in decoding._GRAPHS[d].values()]
  assert counts == [1] * len(decoders)
  decoders.clear()
  del decoder
  gc.collect()
  assert len(decoding._GRAPHS) <= before
