"""Networks of a handful of weights: some of the package's, and some as a user would write them."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tf_savae import networks
from tf_savae.networks.noise import dropout_mask
from tf_savae.posterior import GaussianParams

tfd = tfp.distributions

LATENT = 2
BATCH = 3
SEED = tf.constant([7, 11])


def normal(*shape: int, seed: int = 0, dtype: str = "float64") -> tf.Tensor:
  """Fixed standard normal numbers."""
  return tf.constant(np.random.default_rng(seed).normal(size=shape), dtype)


@keras.saving.register_keras_serializable(package="tests")
class PairEncoder(keras.layers.Layer):
  """A user's encoder: plain Keras, returns a tuple, knows nothing of tf_savae."""

  def __init__(self, latent_dim=LATENT, seed=0, **kwargs):
    super().__init__(**kwargs)
    self.latent_dim, self.seed = latent_dim, seed
    init = [keras.initializers.GlorotUniform(seed + i) for i in range(2)]
    self.hidden = keras.layers.Dense(4, "tanh", kernel_initializer=init[0], dtype=self.dtype_policy)
    self.heads = keras.layers.Dense(2 * latent_dim, kernel_initializer=init[1], dtype=self.dtype_policy)

  def call(self, x):
    mean, log_var = tf.split(self.heads(self.hidden(x)), 2, axis=-1)
    return mean, log_var

  def get_config(self):
    return {**super().get_config(), "latent_dim": self.latent_dim, "seed": self.seed}


@keras.saving.register_keras_serializable(package="tests")
class BernoulliDecoder(keras.layers.Layer):
  """A user's decoder: plain Keras, only `latent_dim` and `log_prob`, no `precompute`; x `[batch, size]` in {0, 1}."""

  def __init__(self, size=6, latent_dim=LATENT, seed=0, **kwargs):
    super().__init__(**kwargs)
    self.size, self.latent_dim, self.seed = size, latent_dim, seed
    if latent_dim:
      self.kernel = self.add_weight(
        shape=(latent_dim, size), initializer=keras.initializers.RandomNormal(0, 1, seed), name="kernel"
      )
    self.bias = self.add_weight(shape=(size,), initializer="zeros", name="bias")

  def log_prob(self, x, z, context):
    logits = self.bias + (tf.tanh(z) @ tf.convert_to_tensor(self.kernel) if self.latent_dim else 0.0)
    x = tf.cast(x, self.variable_dtype)
    return tf.reduce_sum(tfd.Bernoulli(logits=logits).log_prob(x), axis=-1)

  def get_config(self):
    return {**super().get_config(), "size": self.size, "latent_dim": self.latent_dim, "seed": self.seed}


class MaskedDecoder(BernoulliDecoder):
  """The same with a context: a part of the logits that depends on weights but not on z, and a dropout mask."""

  def __init__(self, **kwargs):
    super().__init__(**kwargs)
    init = keras.initializers.RandomNormal(0, 1, 5)
    self.look_left = self.add_weight(shape=(self.size, self.size), initializer=init, name="look_left")

  def precompute(self, x, training=False, seed=None):
    causal = np.triu(np.ones((self.size, self.size)), 1)
    shift = tf.cast(x, self.variable_dtype) @ (tf.convert_to_tensor(self.look_left) * causal)
    shape = [tf.shape(x)[0], self.latent_dim]
    mask = dropout_mask(shape, 0.3, seed, self.variable_dtype) if training else tf.ones(shape, shift.dtype)
    return shift, mask

  def log_prob(self, x, z, context):
    shift, mask = context
    logits = tf.tanh(tf.tanh(z) * mask @ tf.convert_to_tensor(self.kernel) + shift) * 2.0 + self.bias
    return tf.reduce_sum(tfd.Bernoulli(logits=logits).log_prob(tf.cast(x, logits.dtype)), axis=-1)


@keras.saving.register_keras_serializable(package="tests")
class GaussianDecoder(keras.layers.Layer):
  """Conjugate: x | z ~ N(W z + c, s² I), so that p(x) = N(c, W Wᵀ + s² I) and the posterior are known."""

  def __init__(self, size=3, latent_dim=LATENT, scale=0.8, **kwargs):
    super().__init__(**kwargs)
    self.size, self.latent_dim, self.scale = size, latent_dim, scale
    init = keras.initializers.RandomNormal(0, 1, 3)
    self.kernel = self.add_weight(shape=(latent_dim, size), initializer=init, name="kernel")
    self.bias = self.add_weight(shape=(size,), initializer=init, name="bias")

  def _mean(self, z):
    return z @ tf.convert_to_tensor(self.kernel) + self.bias

  def log_prob(self, x, z, context):
    return tfd.MultivariateNormalDiag(self._mean(z), self.scale * tf.ones_like(x)).log_prob(x)

  def exact_log_prob(self, x) -> np.ndarray:
    """log p(x), `[batch]`."""
    kernel = self.kernel.numpy()
    covariance = kernel.T @ kernel + self.scale**2 * np.eye(self.size)
    return tfd.MultivariateNormalTriL(self.bias.numpy(), np.linalg.cholesky(covariance)).log_prob(x).numpy()


class GaussianDecoderWithDerivative(GaussianDecoder):
  """The same, and it offers ⟨dz, ∇_z log p(x | z)⟩ to the adjoint."""

  asked = 0

  def log_prob_derivative(self, x, z, dz, context):
    self.asked += 1
    along = dz @ tf.convert_to_tensor(self.kernel)
    return tf.reduce_sum((x - self._mean(z)) * along, axis=-1) / self.scale**2


def images(batch: int = BATCH, dtype: str = "float64") -> tf.Tensor:
  """Binary images `[batch, 8, 8, 1]`."""
  return tf.cast(normal(batch, 8, 8, 1, seed=1) > 0, dtype)


def bits(batch: int = BATCH, size: int = 6, dtype: str = "float64") -> tf.Tensor:
  """Binary vectors `[batch, size]`."""
  return tf.cast(normal(batch, size, seed=2) > 0, dtype)


def tokens(batch: int = BATCH) -> tf.Tensor:
  """Token sequences `[batch, 4]` of a vocabulary of 5."""
  return tf.constant(np.random.default_rng(3).integers(5, size=(batch, 4)), tf.int32)


def documents() -> tf.Tensor:
  """Documents `[3, 5]` of a vocabulary of 8: words, END, PAD."""
  return tf.constant([[4, 7, 5, 3, 2], [6, 6, 2, 0, 0], [5, 4, 7, 2, 0]], tf.int32)


def image_networks(dtype: str = "float64", dropout: float = 0.3):
  """Residual encoder and PixelCNN for 8×8 images, and such images."""
  encoder = networks.ResNetEncoder(LATENT, (3, 4), dtype=dtype)
  # The second layer is wide enough to be computed by spectra.
  decoder = networks.GatedPixelCNN(LATENT, 8, (3, 5), 2, (8, 8, 1), dropout, dtype=dtype)
  return encoder, decoder, images(dtype=dtype)


def late_image_networks(dtype: str = "float64", dropout: float = 0.3):
  """The same with a PixelCNN that z enters late."""
  encoder = networks.ResNetEncoder(LATENT, (3, 4), dtype=dtype)
  options = {"position_maps": 2, "dtype": dtype}
  decoder = networks.LatePixelCNN(LATENT, 4, (3, 5), (8, 8, 1), dropout, **options)
  return encoder, decoder, images(dtype=dtype)


def position_image_networks(dtype: str = "float64", dropout: float = 0.3):
  """Residual encoder and a PixelCNN with position maps."""
  encoder = networks.ResNetEncoder(LATENT, (3,), dtype=dtype)
  decoder = networks.GatedPixelCNN(LATENT, 4, (3, 3), 2, (8, 8, 1), dropout, position_maps=2, dtype=dtype)
  return encoder, decoder, images(dtype=dtype)


def lstm_networks(dtype: str = "float64", dropout: float = 0.3):
  """LSTM encoder and decoder, and token sequences."""
  encoder = networks.LSTMEncoder(5, LATENT, 3, 4, init_scale=0.8, dtype=dtype)
  decoder = networks.LSTMDecoder(
    5, LATENT, 3, 4, dropout, length=4, latent_to_state=True, init_scale=0.8, dtype=dtype
  )
  return encoder, decoder, tokens()


def text_lstm_networks(dtype: str = "float64", dropout: float = 0.3):
  """LSTM encoder and decoder of documents, which drop words, too, and documents."""
  encoder = networks.TextLSTMEncoder(8, LATENT, 3, 4, init_scale=0.8, dtype=dtype)
  decoder = networks.TextLSTMDecoder(
    8, LATENT, 3, 4, dropout, word_dropout=dropout, init_scale=0.8, dtype=dtype
  )
  return encoder, decoder, documents()


def late_text_lstm_networks(dtype: str = "float64", dropout: float = 0.3, logit_positions: int | None = None):
  """Bag of words and an LSTM decoder that z enters in the softmax, and documents."""
  encoder = networks.BagOfWordsEncoder(8, LATENT, 3, 4, init_scale=0.8, dtype=dtype)
  options = {"word_dropout": dropout, "init_scale": 0.8, "logit_positions": logit_positions, "dtype": dtype}
  model = networks.TextLSTMDecoder(8, 0, 3, 4, dropout, **options)
  return encoder, networks.LateSoftmaxDecoder(model, LATENT, init_scale=0.8, seed=1), documents()


def late_text_lstm_networks_in_chunks(dtype: str = "float64", dropout: float = 0.3):
  """The same with the logits of two positions of each document at a time."""
  return late_text_lstm_networks(dtype, dropout, logit_positions=2 * BATCH)


def late_dilated_conv_networks(dtype: str = "float64", dropout: float = 0.3):
  """Bag of words and dilated convolutions that z enters in the softmax, and documents."""
  encoder = networks.BagOfWordsEncoder(8, LATENT, 3, 4, init_scale=0.8, dtype=dtype)
  options = {"word_dropout": dropout, "init_scale": 0.8, "dtype": dtype}
  model = networks.DilatedConvDecoder(8, 0, 3, 4, 5, 3, (1, 2), dropout, **options)
  return encoder, networks.LateSoftmaxDecoder(model, LATENT, init_scale=0.8, seed=1), documents()


def dilated_conv_networks(dtype: str = "float64", dropout: float = 0.3):
  """LSTM encoder and dilated convolutions, which drop words, too, and documents."""
  encoder = networks.TextLSTMEncoder(8, LATENT, 3, 4, init_scale=0.8, dtype=dtype)
  decoder = networks.DilatedConvDecoder(
    8, LATENT, 3, 4, 5, 3, (1, 2), dropout, word_dropout=dropout, init_scale=0.8, dtype=dtype
  )
  return encoder, decoder, documents()


def dense_networks(dtype: str = "float64", dropout: float = 0.3):
  """A user's plain encoder, a decoder with context and mask, and bits."""
  del dropout
  return PairEncoder(dtype=dtype), MaskedDecoder(dtype=dtype), bits(dtype=dtype)


def encode(encoder, x, training: bool = True) -> GaussianParams:
  return GaussianParams(*encoder(x, training=training))


def relative_error(value, reference, floor: float = 0.0) -> float:
  """max |value − reference| / max(max |reference|, floor)."""
  value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
  return float(np.max(np.abs(value - reference)) / max(np.max(np.abs(reference)), floor, 1e-300))


def check_log_prob_derivative(decoder, x, z, dz, context):
  """`log_prob_derivative` is what nested tapes give: in value, and in gradients for z, dz, context and all weights."""
  sources = [z, dz, *context, *(v.value for v in decoder.trainable_variables)]
  along = tf.constant([0.7, -1.3], tf.float64)

  def nested():
    with tf.GradientTape() as tape:
      tape.watch(z)
      log_prob = decoder.log_prob(x, z, context)
    return tf.reduce_sum(dz * tape.gradient(log_prob, z), axis=-1)

  def value_and_gradients(function):
    with tf.GradientTape() as tape:
      tape.watch(sources)
      value = function()
      total = tf.reduce_sum(along * value)
    gradients = tape.gradient(total, sources, unconnected_gradients="zero")
    return [value, *map(tf.convert_to_tensor, gradients)]

  ours = value_and_gradients(lambda: decoder.log_prob_derivative(x, z, dz, context))
  assert ours[0].shape == (2,)
  for a, b in zip(ours, value_and_gradients(nested), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
