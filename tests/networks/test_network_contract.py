"""What every encoder and decoder must do, whatever it is made of. A new network is one entry of a table."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_savae.networks as networks
from tests import tiny
from tf_savae.errors import UserError
from tf_savae.likelihoods import LogisticMixture
from tf_savae.networks import (
  BagOfWordsEncoder,
  ConvDecoder,
  DilatedConvDecoder,
  GatedPixelCNN,
  LatePixelCNN,
  LateSoftmaxDecoder,
  LSTMDecoder,
  LSTMEncoder,
  MLPDecoder,
  ResNetEncoder,
  TextLSTMDecoder,
  TextLSTMEncoder,
)
from tf_savae.posterior import GaussianParams
from tf_savae.tokens import END, PAD

SEED = (3, 4)


def binary_images(batch):
  return tf.cast(tf.random.stateless_uniform([batch, 5, 6, 1], [1, 2]) < 0.4, tf.float32)


def colour_images(batch):
  return tf.round(255 * tf.random.stateless_uniform([batch, 9, 6, 3], [1, 2])) / 255


def tokens(batch):
  return tf.random.stateless_uniform([batch, 4], [1, 2], maxval=7, dtype=tf.int32)


def documents(batch):
  """Words and END of one length after the other, padded to one length."""
  x = tf.random.stateless_uniform([batch, 6], [1, 2], END + 1, 7, tf.int32)
  last = (tf.range(batch) % 4 + 2)[:, tf.newaxis]
  return tf.where(tf.range(6) < last, x, tf.where(tf.range(6) == last, END, PAD))


@dataclasses.dataclass(frozen=True)
class Case:
  make: Callable  # **kwargs -> layer
  x: Callable  # batch -> observations
  latent_dim: int = 3
  takes_dropout: bool = True
  mixed_context: tf.DType | None = tf.bfloat16  # of a context in mixed precision; None: that and float32

  context_has_x: bool = True  # whether the network sees x itself, beside its likelihood

  @property
  def of_documents(self):
    return self.x is documents


def pixelcnn(latent_dim, **kwargs):
  return GatedPixelCNN(latent_dim, 4, (3, 5), 2, (5, 6, 1), **kwargs)


def late_pixelcnn(latent_dim, **kwargs):
  return LatePixelCNN(latent_dim, 4, (3, 5), (5, 6, 1), position_maps=2, **kwargs)


def colour_pixelcnn(latent_dim, **kwargs):
  return GatedPixelCNN(latent_dim, 4, (3, 5), 2, (9, 6, 3), likelihood=LogisticMixture(2), **kwargs)


def conv(latent_dim, **kwargs):
  return ConvDecoder(latent_dim, (9, 6, 3), LogisticMixture(2), width=4, **kwargs)


def mlp(latent_dim, **kwargs):
  return MLPDecoder(latent_dim, (5, 6, 1), "bernoulli", units=(5, 4), **kwargs)


def lstm(latent_dim, **kwargs):
  return LSTMDecoder(7, latent_dim, 4, 5, length=4, init_scale=0.8, **kwargs)


def dilated_conv(latent_dim, dropout=0.0, **kwargs):
  rates = {"dropout": dropout, "word_dropout": dropout / 2}
  return DilatedConvDecoder(
    7, latent_dim, 4, 5, dilations=(1, 2), max_length=6, init_scale=0.8, **rates, **kwargs
  )


def text_lstm(latent_dim, dropout=0.0, **kwargs):
  rates = {"dropout": dropout, "word_dropout": dropout / 2}
  return TextLSTMDecoder(7, latent_dim, 4, 5, max_length=6, init_scale=0.8, **rates, **kwargs)


def late(make, seed=0, **kwargs):
  return LateSoftmaxDecoder(make(0, seed=seed, **kwargs), 3, init_scale=0.8, seed=seed + 1)


DECODERS = {
  "pixelcnn": Case(lambda **k: pixelcnn(3, **k), binary_images),
  "pixelcnn_plain": Case(lambda **k: pixelcnn(0, **k), binary_images, latent_dim=0),
  "pixelcnn_position_maps": Case(lambda **k: pixelcnn(3, position_maps=2, **k), binary_images),
  "pixelcnn_plain_position_maps": Case(
    lambda **k: pixelcnn(0, position_maps=2, **k), binary_images, latent_dim=0
  ),
  "late_pixelcnn": Case(lambda **k: late_pixelcnn(3, **k), binary_images, mixed_context=tf.float32),
  "late_pixelcnn_plain": Case(
    lambda **k: late_pixelcnn(0, **k), binary_images, latent_dim=0, mixed_context=tf.float32
  ),
  "pixelcnn_colour": Case(lambda **k: colour_pixelcnn(3, **k), colour_images),
  "conv": Case(lambda **k: conv(3, **k), colour_images, context_has_x=False),
  "conv_plain": Case(lambda **k: conv(0, **k), colour_images, latent_dim=0, context_has_x=False),
  "mlp": Case(lambda **k: mlp(3, **k), binary_images, context_has_x=False),
  "mlp_plain": Case(lambda **k: mlp(0, **k), binary_images, latent_dim=0, context_has_x=False),
  "lstm": Case(lambda **k: lstm(3, **k), tokens),
  "lstm_state": Case(lambda **k: lstm(3, latent_to_state=True, **k), tokens),
  "lstm_logits": Case(lambda **k: lstm(3, latent_to_logits=True, **k), tokens),
  "lstm_plain": Case(lambda **k: lstm(0, **k), tokens, latent_dim=0),
  "text_lstm": Case(lambda **k: text_lstm(3, **k), documents),
  "text_lstm_plain": Case(lambda **k: text_lstm(0, **k), documents, latent_dim=0),
  "dilated_conv": Case(lambda **k: dilated_conv(3, **k), documents),
  "dilated_conv_plain": Case(lambda **k: dilated_conv(0, **k), documents, latent_dim=0),
  "late_text_lstm": Case(lambda **k: late(text_lstm, **k), documents, mixed_context=tf.float32),
  "late_text_lstm_in_chunks": Case(
    lambda **k: late(text_lstm, logit_positions=8, **k), documents, mixed_context=None
  ),
  "late_dilated_conv": Case(lambda **k: late(dilated_conv, **k), documents, mixed_context=tf.float32),
}
ENCODERS = {
  "resnet": Case(lambda **k: ResNetEncoder(3, (4, 6), **k), binary_images, takes_dropout=False),
  "lstm": Case(lambda **k: LSTMEncoder(7, 3, 4, 5, init_scale=0.8, **k), tokens, takes_dropout=False),
  "bow": Case(lambda **k: BagOfWordsEncoder(7, 3, 4, 5, init_scale=0.8, **k), documents, takes_dropout=False),
  "text_lstm": Case(
    lambda **k: TextLSTMEncoder(7, 3, 4, 5, init_scale=0.8, **k), documents, takes_dropout=False
  ),
}

every_decoder = pytest.mark.parametrize("case", DECODERS.values(), ids=DECODERS)
every_encoder = pytest.mark.parametrize("case", ENCODERS.values(), ids=ENCODERS)
decoders_with_latent = pytest.mark.parametrize(
  "case", [c for c in DECODERS.values() if c.latent_dim], ids=[n for n, c in DECODERS.items() if c.latent_dim]
)
every_network = pytest.mark.parametrize(
  "case", [*DECODERS.values(), *ENCODERS.values()], ids=[*(f"{n}_decoder" for n in DECODERS), *ENCODERS]
)


def latent(case, batch, dtype=tf.float32):
  return (
    tf.random.stateless_normal([batch, case.latent_dim], [5, 6], dtype=dtype) if case.latent_dim else None
  )


def _is_layer(part):
  return isinstance(part, type) and issubclass(part, keras.layers.Layer)


def test_every_exported_network_is_in_a_table():
  exported = {
    getattr(networks, name)
    for name in networks.__all__
    if name != "Decoder" and _is_layer(getattr(networks, name))
  }
  # Wrappers, whose x has parts, are in test_conditional.py; encoders around another one in test_normalized.py and
  # tests/posteriors.
  elsewhere = {
    networks.ConditionalDecoder,
    networks.ConditionalEncoder,
    networks.BatchNormalizedEncoder,
    networks.FullCovarianceEncoder,
  }
  assert exported == elsewhere | {type(case.make()) for case in [*DECODERS.values(), *ENCODERS.values()]}


@every_decoder
def test_log_prob_is_a_log_probability_of_each_example(case):
  decoder, x = case.make(), case.x(3)
  log_prob = decoder.log_prob(x, latent(case, 3), decoder.precompute(x))
  assert log_prob.shape == (3,)
  assert log_prob.dtype == tf.float32
  assert np.all(log_prob < 0)


@every_decoder
def test_an_examples_log_prob_does_not_depend_on_its_batch_mates(case):
  decoder, x, z = case.make(dtype="float64"), case.x(3), latent(case, 3, tf.float64)
  together = decoder.log_prob(x, z, decoder.precompute(x))
  for i in range(3):
    own_x, own_z = x[i : i + 1], None if z is None else z[i : i + 1]
    alone = decoder.log_prob(own_x, own_z, decoder.precompute(own_x))
    np.testing.assert_allclose(alone, together[i : i + 1], rtol=1e-12)


@every_decoder
def test_a_context_tensor_has_the_batch_first_or_depends_on_the_weights_alone(case):
  decoder = case.make(dropout=0.5)
  for training in (False, True):
    three, five = (decoder.precompute(case.x(n), training, SEED) for n in (3, 5))
    for a, b in zip(three, five, strict=True):
      assert (a.shape[0], b.shape[0]) == (3, 5) or np.array_equal(a, b)


@decoders_with_latent
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_second_derivatives_equal_finite_differences(case, dropout):
  """∂/∂(z, context, θ) of ⟨u, ∇_z log p⟩ against central differences of the first derivatives along u."""
  decoder, x, z = case.make(dtype="float64", dropout=dropout), case.x(2), latent(case, 2, tf.float64)
  context = decoder.precompute(x, training=True, seed=SEED)
  u = tf.random.stateless_normal(z.shape, [7, 8], dtype=tf.float64)
  weights = [v.value for v in decoder.trainable_variables]

  def first_derivatives(z):
    sources = [z, *context, *weights]
    with tf.GradientTape() as tape:
      tape.watch(sources)
      total = tf.reduce_sum(decoder.log_prob(x, z, context))
    return [tf.convert_to_tensor(g) for g in tape.gradient(total, sources, unconnected_gradients="zero")]

  with tf.GradientTape() as outer:
    sources = [z, *context, *weights]
    outer.watch(sources)
    with tf.GradientTape() as inner:
      inner.watch(z)
      total = tf.reduce_sum(decoder.log_prob(x, z, context))
    along_u = tf.reduce_sum(u * inner.gradient(total, z))
  exact = outer.gradient(along_u, sources, unconnected_gradients="zero")
  r = 1e-5
  above, below = first_derivatives(z + r * u), first_derivatives(z - r * u)
  for second, a, b in zip(exact, above, below, strict=True):
    difference = (a - b) / (2 * r)
    np.testing.assert_allclose(tf.convert_to_tensor(second), difference, rtol=1e-6, atol=1e-8)
  assert float(tf.norm(exact[0])) > 1e-3  # there is curvature to speak of


@every_decoder
def test_all_weights_receive_a_gradient(case):
  decoder, x = case.make(dtype="float64"), case.x(3)
  # Biases of 0 keep some maps of a fresh network at 0.
  for i, v in enumerate(decoder.weights):
    v.assign(0.5 * tf.random.stateless_normal(v.shape, [9, i], dtype=tf.float64))
  with tf.GradientTape() as tape:
    total = tf.reduce_sum(decoder.log_prob(x, latent(case, 3, tf.float64), decoder.precompute(x)))
  gradients = tape.gradient(total, [v.value for v in decoder.trainable_variables])
  for variable, gradient in zip(decoder.trainable_variables, gradients, strict=True):
    assert float(tf.norm(tf.convert_to_tensor(gradient))) > 1e-6, variable.path


@every_decoder
def test_precomputed_context_carries_the_observation(case):
  """log p(x | z) under another x's context is another number: nothing is computed twice unnoticed."""
  if not case.context_has_x:
    pytest.skip("its network sees z alone")
  decoder, x, z = case.make(), case.x(4), latent(case, 2)
  own = decoder.log_prob(x[:2], z, decoder.precompute(x[:2]))
  other = decoder.log_prob(x[:2], z, decoder.precompute(x[2:]))
  assert np.all(np.abs(own - other) > 1e-4)


@every_decoder
def test_dropout_is_a_function_of_its_seed(case):
  decoder, x, z = case.make(dropout=0.5), case.x(3), latent(case, 3)

  def log_prob(training, seed):
    context = decoder.precompute(x, training=training, seed=seed)
    first, second = (decoder.log_prob(x, z, context) for _ in range(2))
    np.testing.assert_array_equal(first, second)  # replayed
    return first.numpy()

  np.testing.assert_array_equal(log_prob(True, SEED), log_prob(True, SEED))
  assert np.all(log_prob(True, SEED) != log_prob(True, (3, 5)))
  np.testing.assert_array_equal(log_prob(False, SEED), log_prob(False, None))
  assert np.all(log_prob(True, SEED) != log_prob(False, None))


@every_decoder
def test_dropout_without_a_seed_is_refused(case):
  decoder = case.make(dropout=0.5)
  with pytest.raises(UserError, match="seed"):
    decoder.precompute(case.x(2), training=True)


@every_decoder
def test_graph_with_unknown_batch_size_agrees_with_eager(case):
  decoder, x, z = case.make(dropout=0.5), case.x(3), latent(case, 3)

  def run(x, z):
    with tf.GradientTape() as tape:
      if z is not None:
        tape.watch(z)
      context = decoder.precompute(x, training=True, seed=tf.constant(SEED))
      log_prob = decoder.log_prob(x, z, context)
    return log_prob, tape.gradient(log_prob, z if z is not None else decoder.trainable_variables[0].value)

  specs = [tf.TensorSpec([None, *x.shape[1:]], x.dtype)]
  specs += [tf.TensorSpec([None, case.latent_dim])] if case.latent_dim else [None]
  traced = tf.function(run).get_concrete_function(*specs)
  inputs = [x] if z is None else [x, z]
  for ours, eager in zip(traced(*inputs), run(x, z), strict=True):
    np.testing.assert_allclose(tf.convert_to_tensor(ours), tf.convert_to_tensor(eager), rtol=1e-4, atol=1e-5)


@decoders_with_latent
def test_xla_agrees_with_eager(case):
  decoder, x, z = case.make(dropout=0.5), case.x(3), latent(case, 3)
  # XLA draws other masks; so both get the same one, beside the rest of a context of their own.
  mask = decoder.precompute(x, training=True, seed=SEED)[-1]

  def run(x, z):
    with tf.GradientTape() as tape:
      tape.watch(z)
      log_prob = decoder.log_prob(x, z, (*decoder.precompute(x), mask))
    return log_prob, tape.gradient(log_prob, z)

  compiled = tf.function(run, jit_compile=True)
  for ours, eager in zip(compiled(x, z), run(x, z), strict=True):
    np.testing.assert_allclose(ours, eager, rtol=1e-4, atol=1e-5)


@decoders_with_latent
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_directional_derivative_is_that_of_nested_tapes(case, dropout):
  """Value and gradients of `log_prob_derivative`, where a decoder offers it."""
  decoder, x, z = case.make(dtype="float64", dropout=dropout), case.x(2), latent(case, 2, tf.float64)
  if not hasattr(decoder, "log_prob_derivative"):
    pytest.skip("no derivative of its own")
  context = decoder.precompute(x, training=True, seed=SEED)
  dz = tf.random.stateless_normal(z.shape, [7, 8], dtype=tf.float64)
  tiny.check_log_prob_derivative(decoder, x, z, dz, context)


@every_decoder
def test_mixed_precision_keeps_log_prob_in_float32(case):
  mixed, full = case.make(dtype="mixed_bfloat16"), case.make()
  x, z = case.x(3), latent(case, 3)
  assert {v.dtype for v in mixed.weights} == {"float32"}
  dtypes = {tf.bfloat16, tf.float32} if case.mixed_context is None else {case.mixed_context}
  assert {t.dtype for t in mixed.precompute(x)} == (dtypes if case.context_has_x else set())
  ours = mixed.log_prob(x, z, mixed.precompute(x))
  assert ours.dtype == tf.float32
  np.testing.assert_allclose(ours, full.log_prob(x, z, full.precompute(x)), rtol=0.02)
  assert np.all(ours != full.log_prob(x, z, full.precompute(x)))  # it did compute in bfloat16


@every_encoder
def test_encoder_gives_gaussian_parameters_of_the_variables_dtype(case):
  x = case.x(3)
  for dtype, expected in (("float32", tf.float32), ("float64", tf.float64), ("mixed_bfloat16", tf.float32)):
    params = case.make(dtype=dtype)(x, training=True)
    assert isinstance(params, GaussianParams)
    for part in params:
      assert part.shape == (3, 3)
      assert part.dtype == expected
      assert np.all(np.isfinite(part))


@every_encoder
def test_encoder_in_a_graph_with_unknown_batch_size(case):
  encoder, x = case.make(), case.x(3)
  eager = encoder(x)
  traced = tf.function(
    lambda x: tuple(encoder(x)), input_signature=[tf.TensorSpec([None, *x.shape[1:]], x.dtype)]
  )
  compiled = tf.function(lambda x: tuple(encoder(x)), jit_compile=True)
  for function in (traced, compiled):
    for ours, expected in zip(function(x), eager, strict=True):
      np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@every_network
def test_initial_weights_are_a_function_of_the_seed(case):
  def weights(**kwargs):
    layer = case.make(**kwargs)
    if case in ENCODERS.values():
      layer.build(case.x(1).shape)
    return [w.numpy() for w in layer.weights]

  for a, b in zip(weights(seed=1), weights(seed=1), strict=True):
    np.testing.assert_array_equal(a, b)
  kernels = [(a, b) for a, b in zip(weights(seed=1), weights(seed=2), strict=True) if a.ndim > 1]
  assert kernels
  assert all(np.any(a != b) for a, b in kernels)
  # Weights of one shape within one network differ from each other too.
  drawn = [a.tobytes() for a, _ in kernels]
  assert len(set(drawn)) == len(drawn)


@every_network
def test_saved_and_loaded_layer_computes_the_same(case, tmp_path):
  kwargs = {"dropout": 0.25} if case.takes_dropout else {}
  layer, x = case.make(seed=5, **kwargs), case.x(3)
  inputs = [keras.Input(x.shape[1:], dtype=x.dtype.name)]
  feeds = [x]
  if case in DECODERS.values() and case.latent_dim:
    inputs.append(keras.Input((case.latent_dim,)))
    feeds.append(latent(case, 3))
  model = keras.Model(inputs, tf.nest.flatten(layer(*inputs)))
  for i, w in enumerate(layer.weights):
    w.assign_add(0.1 * np.abs(np.random.default_rng(i).normal(size=w.shape)))
  before = model(feeds)
  model.save(tmp_path / "network.keras")
  loaded = keras.saving.load_model(tmp_path / "network.keras")
  for a, b in zip(loaded(feeds), before, strict=True):
    np.testing.assert_array_equal(a, b)
  config = layer.get_config()
  assert type(layer).from_config(config).get_config() == config


def assert_are_documents(x, max_length):
  """Each row is words, one END and PAD."""
  assert x.shape[1] <= max_length
  for row in x:
    (end,) = np.flatnonzero(row == END)
    assert np.all(row[:end] > END) and np.all(row[end + 1 :] == PAD)


@every_decoder
def test_samples_are_observations_and_a_function_of_the_seed(case):
  decoder, z = case.make(), latent(case, 4)

  def draw(seed, **kwargs):
    return decoder.sample(z, seed, num=None if case.latent_dim else 4, **kwargs).numpy()

  x = draw((1, 2))
  example = case.x(4)
  if case.of_documents:
    assert_are_documents(x, decoder.max_length)
    assert len(x) == 4
  else:
    assert x.shape == example.shape
  assert x.dtype == example.dtype.as_numpy_dtype
  np.testing.assert_array_equal(x, draw((1, 2)))
  np.testing.assert_array_equal(x, draw((1, 2), progress=True))
  assert not np.array_equal(x, draw((1, 3)))
  assert np.all(np.isfinite(decoder.log_prob(x, z, decoder.precompute(x))))


@every_decoder
def test_decode_gives_probabilities_and_is_deterministic(case):
  decoder, z = case.make(), latent(case, 4)
  probabilities = decoder.decode(z)
  np.testing.assert_array_equal(probabilities, decoder.decode(z))
  assert probabilities.shape[0] == (4 if case.latent_dim else 1)
  if case.of_documents:  # some tokens cannot come, others must: PAD after END
    np.testing.assert_allclose(tf.reduce_sum(probabilities, axis=-1), 1, rtol=1e-5)
    assert np.all((probabilities >= 0) & (probabilities <= 1))
  else:
    assert np.all((probabilities > 0) & (probabilities < 1))


@every_decoder
def test_sampling_with_the_wrong_latent_is_refused(case):
  decoder = case.make()
  wrong = (
    [(None, 2), (tf.zeros([3]), None), (tf.zeros([3, 9]), None)]
    if case.latent_dim
    else [
      (tf.zeros([3, 2]), 3),
      (None, None),
    ]
  )
  for z, num in wrong:
    with pytest.raises(UserError) as error:
      decoder.sample(z, SEED, num=num)
    assert "\n" not in str(error.value)
