"""The decoder that z enters in the softmax alone, against its definition by plain logits."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tf_savae import tokens
from tf_savae.errors import UserError
from tf_savae.networks import LateSoftmaxDecoder, TextLSTMDecoder, decoding


@pytest.fixture(params=[None, 4], ids=["whole", "chunks"])
def decoder(request):
  return tiny.late_text_lstm_networks(logit_positions=request.param)[1]


def plain_log_prob(decoder, x, z):
  """Σ_t log softmax(l_t + z W_z) at the target, with all logits in memory."""
  model = decoder.language_model
  logits = model.logits(None, model.precompute(x)) + tf.matmul(z, decoder.latent_kernel.value)[:, tf.newaxis]
  of_targets = tf.gather(tf.nn.log_softmax(logits), x, batch_dims=2)
  return tokens.total(of_targets, x, axis=1)


def test_log_prob_is_the_definition(decoder):
  x, z = tiny.documents(), tiny.normal(tiny.BATCH, tiny.LATENT)
  np.testing.assert_allclose(
    decoder.log_prob(x, z, decoder.precompute(x)), plain_log_prob(decoder, x, z), rtol=1e-9
  )


def test_second_derivatives_are_those_of_the_definition(decoder):
  """⟨dz, ∇_z log p⟩ and its gradients for z and every weight, which pass through the context."""
  x, z = tiny.documents(), tiny.normal(tiny.BATCH, tiny.LATENT)
  dz = tiny.normal(tiny.BATCH, tiny.LATENT, seed=1)
  sources = [z, *(v.value for v in decoder.trainable_variables)]

  def gradients(derivative):
    with tf.GradientTape() as tape:
      tape.watch(z)
      total = tf.reduce_sum(derivative())
    return [total, *map(tf.convert_to_tensor, tape.gradient(total, sources, unconnected_gradients="zero"))]

  def by_tape(log_prob):
    with tf.GradientTape() as tape:
      tape.watch(z)
      total = tf.reduce_sum(log_prob())
    return dz * tape.gradient(total, z)

  expected = gradients(lambda: by_tape(lambda: plain_log_prob(decoder, x, z)))
  own = gradients(lambda: decoder.log_prob_derivative(x, z, dz, decoder.precompute(x)))
  nested = gradients(lambda: by_tape(lambda: decoder.log_prob(x, z, decoder.precompute(x))))
  for reference, *ours in zip(expected, own, nested, strict=True):
    for value in ours:
      np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-12)


def test_many_z_equal_one_after_the_other(decoder):
  x = tiny.documents()
  z, dz = (tiny.normal(tiny.BATCH, 5, tiny.LATENT, seed=seed) for seed in (2, 3))
  context = decoder.precompute(x)
  together = decoder.log_prob(x, z, context), decoder.log_prob_derivative(x, z, dz, context)
  for n in range(5):
    np.testing.assert_allclose(together[0][:, n], decoder.log_prob(x, z[:, n], context), rtol=1e-12)
    alone = decoder.log_prob_derivative(x, z[:, n], dz[:, n], context)
    np.testing.assert_allclose(together[1][:, n], alone, rtol=1e-9)


def test_float32_is_the_definition_where_logits_are_large():
  decoder = tiny.late_text_lstm_networks("float32")[1]
  x, z = tiny.documents(), 15.0 * tiny.normal(tiny.BATCH, tiny.LATENT, dtype="float32")
  np.testing.assert_allclose(
    decoder.log_prob(x, z, decoder.precompute(x)), plain_log_prob(decoder, x, z), rtol=1e-5
  )


def test_numbers_stay_finite_where_words_and_z_disagree_by_hundreds_of_nats():
  decoder = tiny.late_text_lstm_networks("float32")[1]
  x, z = tiny.documents(), tf.Variable(1e3 * tiny.normal(tiny.BATCH, tiny.LATENT, dtype="float32"))
  with tf.GradientTape() as tape:
    value = decoder.log_prob_derivative(x, z, tf.ones_like(z), decoder.precompute(x))
  assert np.all(np.isfinite(value)) and np.all(np.isfinite(tape.gradient(value, z)))


def test_one_token_after_the_other_gives_the_logits(decoder):
  x, z = tiny.documents(), tiny.normal(tiny.BATCH, tiny.LATENT)
  expected = tf.nn.log_softmax(decoder(x, z))
  state, token = decoder.start(z, tiny.BATCH), tf.fill([tiny.BATCH], tokens.START)
  for t in range(x.shape[1]):
    logits, state = decoder.next(token, state)
    np.testing.assert_allclose(tf.nn.log_softmax(logits), expected[:, t], rtol=1e-9)
    token = x[:, t]


def test_beams_have_the_probability_that_the_decoder_gives_them_and_one_beam_is_greedy():
  decoder, z = tiny.late_text_lstm_networks()[1], tiny.normal(tiny.BATCH, tiny.LATENT)
  decoder.max_length = 5
  documents, scores = decoding.beam_search(decoder, z, 3)
  for rank in range(3):
    x = documents[:, rank]
    np.testing.assert_allclose(scores[:, rank], decoder.log_prob(x, z, decoder.precompute(x)), rtol=1e-9)
  greedy = decoding.generate(decoder, z)
  np.testing.assert_array_equal(greedy, decoding.beam_search(decoder, z, 1)[0][:, 0])


def test_the_l2_is_a_regulariser_of_the_weights_of_z():
  model = TextLSTMDecoder(8, 0, 3, 4)
  decoder = LateSoftmaxDecoder(model, 2, latent_l2=0.5)
  (loss,) = decoder.losses
  np.testing.assert_allclose(loss, 0.5 * np.sum(np.square(decoder.latent_kernel)), rtol=1e-6)
  again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(decoder))
  assert len(again.losses) == 1 and not LateSoftmaxDecoder(TextLSTMDecoder(8, 0, 3, 4), 2).losses


@pytest.mark.parametrize(
  ("model_latent", "options", "said"),
  [
    (2, {"latent_dim": 2}, "latent_dim=0"),
    (0, {"latent_dim": 0}, "0"),
    (0, {"latent_dim": 2, "latent_l2": -1}, "-1"),
  ],
)
def test_refusals(model_latent, options, said):
  with pytest.raises(UserError, match=said):
    LateSoftmaxDecoder(TextLSTMDecoder(8, model_latent, 3, 4), **options)
