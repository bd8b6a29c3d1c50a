"""The dilated causal convolutions: what a position sees, one token at a time, masks, and the tangent by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tf_savae.errors import UserError
from tf_savae.networks.dilated_conv import DilatedConvDecoder
from tf_savae.tokens import END, PAD, START, UNKNOWN

SEED = (3, 4)
VOCAB = 9


def make(latent_dim=2, dilations=(1, 2), dtype="float64", **kwargs):
  decoder = DilatedConvDecoder(VOCAB, latent_dim, 4, 5, 6, dilations=dilations, dtype=dtype, **kwargs)
  for i, v in enumerate(decoder.weights):  # biases other than 0, and no two paths alike
    v.assign(0.6 * tf.random.stateless_normal(v.shape, [9, i], dtype=v.dtype))
  return decoder


def documents(batch=2, length=11):
  return np.random.default_rng(0).integers(END, VOCAB, (batch, length)).astype("int32")


def latent(batch=2, seed=1):
  return np.random.default_rng(seed).normal(size=(batch, 2))


def test_logits_equal_those_of_keras_layers():
  decoder, x, z = make(), documents(), latent()
  inputs = np.concatenate([np.full([2, 1], START), x[:, :-1]], axis=1)
  everywhere = np.broadcast_to(z[:, None], [2, 11, 2])
  h = np.concatenate([decoder.embedding.numpy()[inputs], everywhere], axis=-1) @ np.concatenate(
    [decoder.kernel, decoder.latent_kernel]
  )
  h += decoder.bias

  def convolve(h, kernel, bias, dilation):
    kernel = kernel.numpy().reshape([-1, *kernel.shape[-2:]])
    layer = keras.layers.Conv1D(
      kernel.shape[-1], len(kernel), padding="causal", dilation_rate=dilation, dtype="float64"
    )
    layer.build(h.shape)
    layer.set_weights([kernel, bias.numpy()])
    return layer(np.maximum(h, 0))

  for i, dilation in enumerate((1, 2)):
    inner = convolve(h, decoder.narrow[i], decoder.narrow_bias[i], 1)
    inner = convolve(inner, decoder.dilated[i], decoder.dilated_bias[i], dilation)
    h += convolve(inner, decoder.widen[i], decoder.widen_bias[i], 1)
  expected = h @ decoder.logit_kernel.numpy() + decoder.logit_bias.numpy()
  np.testing.assert_allclose(decoder(x, z), expected, rtol=1e-10)


def test_log_prob_is_the_sum_over_words_and_end():
  decoder, z = make(), latent()
  x = np.array([[5, 6, UNKNOWN, END, PAD], [7, END, PAD, PAD, PAD]], "int32")
  log_p = tf.nn.log_softmax(decoder(x, z)).numpy()
  expected = [sum(log_p[i, t, x[i, t]] for t in range(n)) for i, n in enumerate((4, 2))]
  np.testing.assert_allclose(decoder.log_prob(x, z, decoder.precompute(x)), expected, rtol=1e-12)


@pytest.mark.parametrize(("kernel_size", "dilations"), [(3, (1, 2)), (2, (1, 3, 1)), (3, (2,)), (1, (1, 1))])
def test_a_token_moves_exactly_the_logits_of_its_receptive_field(kernel_size, dilations):
  """x_t moves the logits at t + d, 1 ≤ d ≤ field, where d − 1 is a sum of taps · dilations; so never those up to t."""
  decoder = make(kernel_size=kernel_size, dilations=dilations)
  for v in decoder.weights:
    v.assign(abs(v.value))  # no path ends at a ReLU
  reach = {0}
  for dilation in dilations:
    reach = {r + tap * dilation for r in reach for tap in range(kernel_size)}
  assert decoder.receptive_field == 1 + max(reach)
  x, z = documents(1), latent(1)
  logits = decoder(x, z).numpy()
  for t in range(x.shape[1]):
    changed = x.copy()
    changed[0, t] = 7 if x[0, t] != 7 else 8
    moved = np.any(decoder(changed, z).numpy() != logits, axis=-1)[0]
    np.testing.assert_array_equal(moved, [s - t - 1 in reach for s in range(x.shape[1])])


def test_the_named_stacks_see_as_far_as_the_papers():
  fields = {name: make(dilations=name).receptive_field for name in ("small", "medium", "large")}
  assert fields == {"small": 15, "medium": 63, "large": 125}


@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_no_number(training):
  decoder, x, z = make(dropout=0.3, word_dropout=0.3), documents(), latent()
  padded = np.pad(x, [(0, 0), (0, 5)], constant_values=PAD)

  def numbers(x):
    with tf.GradientTape() as tape:
      latents = tf.constant(z)
      tape.watch(latents)
      log_prob = decoder.log_prob(x, latents, decoder.precompute(x, training, SEED))
    weights = [v.value for v in decoder.trainable_variables]
    return [log_prob, *map(tf.convert_to_tensor, tape.gradient(log_prob, [latents, *weights]))]

  for a, b in zip(numbers(padded), numbers(x), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"latent_dim": 0}, {"kernel_size": 2}, {"kernel_size": 1}], ids=str)
def test_one_token_at_a_time_gives_the_logits_of_the_full_pass(options):
  decoder, x = make(dilations=(1, 3, 2), **options), documents()
  z = latent() if decoder.latent_dim else None
  expected = decoder(x, z)
  state = decoder.start(z, 2)
  shapes = [t.shape for t in tf.nest.flatten(state)]
  assert all(shape[0] == 2 for shape in shapes)
  token = np.full(2, START)
  for t in range(x.shape[1]):
    logits, state = decoder.next(token, state)
    np.testing.assert_allclose(logits, expected[:, t], rtol=1e-10)
    assert [s.shape for s in tf.nest.flatten(state)] == shapes
    token = x[:, t]


def test_word_dropout_replaces_words_of_the_input_by_unknown_but_never_start():
  decoder, x, z = make(word_dropout=1 - 1e-9), documents(), latent()
  unknown = decoder.precompute(np.full_like(x, UNKNOWN))
  np.testing.assert_array_equal(decoder.precompute(x, True, SEED)[0], unknown[0])
  expected = decoder.log_prob(x, z, unknown)  # what is predicted stays
  np.testing.assert_array_equal(decoder.log_prob(x, z, decoder.precompute(x, True, SEED)), expected)
  assert np.all(decoder.log_prob(x, z, decoder.precompute(x)) != expected)


def test_word_dropout_happens_at_its_rate():
  decoder, x = make(word_dropout=0.25), np.full([40, 50], 5, "int32")
  kept = decoder.precompute(x)[0]
  dropped = np.any(decoder.precompute(x, True, SEED)[0] != kept, axis=-1)
  assert not np.any(dropped[:, 0])
  assert abs(np.mean(dropped[:, 1:]) - 0.25) < 0.03
  with pytest.raises(UserError, match="seed"):
    decoder.precompute(x, training=True)


@pytest.mark.parametrize("logit_positions", [None, 8])
def test_hand_written_derivative_equals_nested_tapes(logit_positions):
  """In value, and in its gradients with respect to z, the direction, the context and all weights."""
  decoder = make(dropout=0.3, word_dropout=0.3, logit_positions=logit_positions)
  z, dz = tf.constant(latent()), tf.constant(latent(seed=2))
  x = documents()
  x[1, 6:] = END, *[PAD] * 4
  context = decoder.precompute(x, True, SEED)
  tiny.check_log_prob_derivative(decoder, x, z, dz, context)


def test_one_graph_serves_every_length():
  decoder = make(dilations=(2,), dropout=0.3, dtype="float32")
  traces = []

  @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, 2])])
  def log_prob(x, z):
    traces.append(x)
    return decoder.log_prob(x, z, decoder.precompute(x, True, tf.constant(SEED)))

  for batch, length in ((2, 11), (3, 1), (1, 2)):
    x, z = documents(batch, length), latent(batch).astype("float32")
    expected = decoder.log_prob(x, z, decoder.precompute(x, True, SEED))
    np.testing.assert_allclose(log_prob(x, z), expected, rtol=1e-5)
  assert len(traces) == 1


@pytest.mark.parametrize(
  "wrong",
  [
    {"dilations": "huge"},
    {"dilations": ()},
    {"dilations": (1, 0)},
    {"dropout": 1.0},
    {"word_dropout": -0.1},
    {"kernel_size": 0},
    {"external_channels": 0},
    {"latent_dim": -1},
    {"vocab_size": 4},
  ],
  ids=str,
)
def test_settings_out_of_range_are_refused(wrong):
  with pytest.raises(UserError) as error:
    DilatedConvDecoder(**{"vocab_size": 9, "latent_dim": 2, "embedding_dim": 3, "channels": 4, **wrong})
  (name,) = wrong
  assert name in str(error.value)
  assert "\n" not in str(error.value)


def test_x_that_is_no_batch_of_documents_is_refused():
  with pytest.raises(UserError, match=r"\(3,\)"):
    make().precompute(np.zeros(3, "int32"))
