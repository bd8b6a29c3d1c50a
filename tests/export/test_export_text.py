"""A model of text is served on sentences: what a client writes is read as training reads it."""

import numpy as np
import pytest
import tensorflow as tf
from exports import MAX_WORDS, SEED, WORDS, K, make_run

from tf_savae import tokens
from tf_savae.data.vocabulary import Vocabulary
from tf_savae.inference import Inference
from tf_savae.networks import decoding
from tf_savae.posterior import GaussianParams
from tf_savae.runs.restore import load_model
from tf_savae.serving import c_loader, signatures
from tf_savae.serving.sentences import Tokenizer
from tf_savae.serving.serving_batch import SharedNoise
from tf_savae.svi.noise import Independent

NAMES = ("encode", "encode_refined", "elbo", "reconstruct")
VOCABULARY = Vocabulary((*tokens.SPECIAL, *WORDS))

SENTENCES = ("the cat sat on a mat", "the dog", "a mat and a dog sat on the café", "", "a zebra sat")

NASTY = (
  *("", " ", "the", "  the   cat ", "the\tcat\nsat\r\non", "the\x0bcat\x0csat"),
  *("<pad>", "<s> the </s> cat", "_UNK UNK <unk>", "</s>", "<pad> <pad> the", "zebra the zebra"),
  *("The THE", "café", "cafe\u0301", "the\u00a0cat\u2003sat\u3000on", "the\x1ccat\x85sat", "the\u200bcat"),
  *("the,cat", "0", "日本 the", "\ufeffthe cat", "the\0cat", "#", "the cat\u2028mat\u1680dog"),
)


def strings(sentences):
  return np.array([s if isinstance(s, bytes) else s.encode() for s in sentences], object)


def ids(sentences, length=None):
  """Documents as the data set makes them, `[batch, length]`."""
  rows = [[*VOCABULARY.encode(s.split()), tokens.END] for s in sentences]
  length = length or max(map(len, rows))
  return np.array([row + [tokens.PAD] * (length - len(row)) for row in rows], np.int32)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
  path = tmp_path_factory.mktemp("words") / "vocabulary.txt"
  VOCABULARY.save(path)
  return Tokenizer(VOCABULARY, path, MAX_WORDS + 1)


# Reading and writing.


def test_sentences_are_read_as_in_training(tokenizer):
  np.testing.assert_array_equal(tokenizer.encode(tf.constant(strings(NASTY))), ids(NASTY))


def test_what_is_no_utf_8_is_an_unknown_word(tokenizer):
  [row] = tokenizer.encode(tf.constant([b"the \xff\xfe cat"])).numpy()
  assert row.tolist() == [*VOCABULARY.encode(["the", "?", "cat"]), tokens.END]


def test_documents_are_written_as_the_vocabulary_writes_them(tokenizer):
  rng = np.random.default_rng(0)
  documents = rng.integers(0, len(VOCABULARY), [50, 9]).astype(np.int32)
  written = [row.decode() for row in tokenizer.decode(tf.constant(documents)).numpy()]
  assert written == [VOCABULARY.decode(row) for row in documents]
  assert "" in written


def test_a_sentence_may_have_so_many_words_and_no_more(tokenizer):
  longest = " ".join(["the"] * MAX_WORDS)
  assert tokenizer.encode(tf.constant([longest])).shape == (1, MAX_WORDS + 1)
  with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)at most 12 words; received.*13"):
    tokenizer.encode(tf.constant(["the", longest + " cat"]))


@pytest.mark.parametrize(
  "row",
  [
    [0, 0],  # no END
    [4, 5],
    [2, 4],  # after END
    [4, 0, 2],  # PAD between
    [1, 4, 2],  # START
    [4, 14, 2],  # beyond the vocabulary
    [-1, 2],
    [2, 2],
    [4] * (MAX_WORDS + 1) + [2],
  ],
)
def test_ids_that_are_no_document_are_refused(row, tokenizer):
  with pytest.raises(tf.errors.InvalidArgumentError, match="x must have rows of ids below 14"):
    tokenizer.checked(tf.constant([row], tf.int32))


def test_padding_beyond_the_longest_document_is_cut_off(tokenizer):
  x = ids(SENTENCES, length=30)
  np.testing.assert_array_equal(tokenizer.checked(tf.constant(x)), ids(SENTENCES))


# What is served.


def test_signatures_take_sentences_and_their_twins_take_ids(exported_text):
  twins = {f"{name}_ids" for name in NAMES}
  assert exported_text.interfaces.keys() == {"serving_default", "sample", *NAMES, *twins}
  for name, interface in exported_text.interfaces.items():
    expected = "z" if name == "sample" else "x" if name in twins else "sentence"
    assert interface.inputs.keys() == {expected}
  assert exported_text.interfaces["elbo"].outputs.keys() == {"elbo", "nll", "kl", "tokens", "unknown"}


def test_the_vocabulary_is_an_asset(exported_text):
  found = list(exported_text.path.rglob("vocabulary.txt"))
  assert found == [exported_text.path / "assets" / "vocabulary.txt"]
  assert Vocabulary.load(found[0]) == VOCABULARY


def test_encode_is_that_of_the_keras_model(served_text, exported_text):
  mean, log_var = exported_text.model.encode(tf.constant(ids(SENTENCES, length=16)))
  for name, value in (("serving_default", strings(SENTENCES)), ("encode_ids", ids(SENTENCES, length=24))):
    answer = served_text(name, value)
    np.testing.assert_allclose(answer["mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(answer["log_var"], log_var, rtol=1e-5, atol=1e-6)


def test_refined_posterior_is_that_of_the_model_under_noise_shared_by_rows(served_text, exported_text):
  model, x = exported_text.model, tf.constant(ids(SENTENCES, length=16))
  noise = SharedNoise.draw(SEED, K, model.latent_dim, Independent())
  batch = Inference(model.encoder, model.decoder, x, model.step_sizes.settings(K))
  batch.__dict__["noise"] = tf.tile(np.concatenate([noise.steps[:, 0], noise.bound]), [1, len(x), 1])
  start = batch.encode()
  params, _, _ = batch.refine(start, adjoint="exact")
  answer = served_text("encode_refined", strings(SENTENCES))
  np.testing.assert_allclose(answer["mean"], params.mean, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(answer["log_var"], params.log_var, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(answer["elbo_refined"], -batch.bound(params).neg_elbo, rtol=1e-5)
  np.testing.assert_allclose(answer["elbo_initial"], -batch.bound(start).neg_elbo, rtol=1e-5)
  assert np.abs(params.mean - start.mean).max() > 1e-3


def test_elbo_comes_with_the_tokens_that_perplexity_is_a_mean_over(served_text):
  answer = served_text("elbo", strings(SENTENCES))
  np.testing.assert_allclose(answer["elbo"], -answer["nll"] - answer["kl"], rtol=1e-6)
  assert answer["tokens"].tolist() == [len(s.split()) + 1 for s in SENTENCES]
  unknown = [VOCABULARY.encode(s.split()).count(tokens.UNKNOWN) for s in SENTENCES]
  assert answer["unknown"].tolist() == unknown and any(unknown)
  np.testing.assert_allclose(
    answer["elbo"], served_text("encode_refined", strings(SENTENCES))["elbo_refined"], rtol=1e-6
  )


def greedy(model, z):
  return [VOCABULARY.decode(row).encode() for row in decoding.generate(model.decoder, z).numpy()]


def test_sample_and_reconstruct_write_the_likeliest_words(served_text, exported_text):
  model = exported_text.model
  z = (3 * np.random.default_rng(0).normal(size=[6, 3])).astype(np.float32)
  written = served_text("sample", z)["sentence"].tolist()
  assert written == greedy(model, tf.constant(z))
  assert len(set(written)) > 1
  mean = served_text("encode_refined", strings(SENTENCES))["mean"]
  again = served_text("reconstruct", strings(SENTENCES))["sentence"].tolist()
  assert again == greedy(model, tf.constant(mean))


@pytest.mark.parametrize("name", ["encode", "encode_refined", "elbo"])
def test_a_row_s_answer_depends_on_neither_batch_mates_nor_padding(name, served_text):
  sentences = strings(SENTENCES)
  together = served_text(name, sentences)
  order = np.array([3, 0, 4, 1, 2])
  for key, value in served_text(name, sentences[order]).items():
    np.testing.assert_allclose(value, together[key][order], rtol=1e-6, atol=1e-6)
  long = strings(["a dog " * (MAX_WORDS // 2)])
  for i in range(len(sentences)):
    for others in ([], long):  # padded to its own length, and to the longest
      alone = served_text(name, np.concatenate([sentences[i : i + 1], others]))
      for key, value in alone.items():
        np.testing.assert_allclose(value[0], together[key][i], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["encode_refined", "elbo_ids", "reconstruct", "sample"])
def test_an_empty_batch_has_an_empty_answer(name, served_text):
  empty = {"elbo_ids": np.zeros([0, 0], np.int32), "sample": np.zeros([0, 3], np.float32)}
  answer = served_text(name, empty.get(name, strings([])))
  assert all(len(value) == 0 for value in answer.values())


@pytest.mark.parametrize(
  ("signature", "value", "message"),
  [
    ("encode", strings(["the " * 10_000]), "sentence must have at most 12 words; received.*10000"),
    ("encode_refined_ids", np.full([1, 10_000], 4, np.int32), "x must have rows of ids below 14"),
    ("encode", np.zeros([2, 3], np.float32), "to be string but float"),
    ("sample", np.zeros([2, 4], np.float32), "z must have the shape"),
  ],
)
def test_a_bad_request_gets_a_clear_error_and_the_next_one_its_answer(signature, value, message, served_text):
  with pytest.raises(c_loader.SessionError, match=message) as caught:
    served_text(signature, value)
  assert caught.value.code == 3  # INVALID_ARGUMENT
  assert served_text("encode", strings(["the cat"]))["mean"].shape == (1, 3)


@pytest.mark.parametrize(
  "network", [{"decoder": "dilated_conv"}, {"latent_to": "softmax", "encoder": "bow"}], ids=str
)
def test_other_networks_are_served_as_the_papers_lstms_are(tmp_path, network):
  found = load_model(make_run(tmp_path / "run", "vae_svi", "text", **network))
  made = signatures.signatures(found, signatures.Options((2,)))
  x = tf.constant(ids(SENTENCES))
  answer = made["encode_refined"].traced(tf.constant(strings(SENTENCES)))
  noise = SharedNoise.draw(0, 2, found.model.latent_dim, Independent())
  batch = found.model.inference(x)
  bound = batch.objective.bound(
    GaussianParams(answer["mean"], answer["log_var"]), noise.bound[0], x, batch.context
  )
  np.testing.assert_allclose(answer["elbo_refined"], -bound.neg_elbo, rtol=1e-5)
  assert (answer["elbo_refined"] > answer["elbo_initial"]).numpy().all()


def test_a_model_without_latent_is_served_as_a_density_and_a_sampler(tmp_path):
  found = load_model(make_run(tmp_path / "run", "autoreg", "text"))
  made = signatures.signatures(found, signatures.Options((0,)))
  assert made.keys() == {"serving_default", "elbo", "elbo_ids", "sample"}
  expected = found.model.elbo(tf.constant(ids(SENTENCES)))
  np.testing.assert_allclose(
    made["elbo"].traced(tf.constant(strings(SENTENCES)))["elbo"], expected, rtol=1e-6
  )
  three = made["sample"].traced(tf.constant([5, 6, 5]))["sentence"].numpy().tolist()
  assert three[0] == three[2] != three[1]
  assert made["sample"].traced(tf.constant([6]))["sentence"].numpy().tolist() == three[1:2]
  known = {*WORDS, tokens.SPECIAL[tokens.UNKNOWN]}
  assert {word for sentence in three for word in sentence.decode().split()} <= known
