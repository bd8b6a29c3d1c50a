"""Encoder of documents that sees which words there are, and not their order."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_savae import precision, tokens
from tf_savae.networks.checks import check_sizes
from tf_savae.networks.initial_weights import uniform_stream
from tf_savae.posterior import GaussianParams


@keras.saving.register_keras_serializable(package="tf_savae")
class BagOfWordsEncoder(keras.layers.Layer):
  """λ_0 = enc_φ(x): two linear heads on tanh(W tanh(Σ_t e(x_t) / √T + b) + c), with embeddings e of the T tokens.

  The sum is over √T and not T, so that its spread does not depend on the length of a document.

  Source: Miao, Yu and Blunsom (2016), whose inference network reads a bag of words, too.

  Args:
    vocab_size: number of token ids, special ones included.
    latent_dim: size of z.
    embedding_dim: size of a token's embedding.
    hidden_dim: size of the hidden layer.
    init_scale: every weight starts from U(−init_scale, init_scale), biases from 0.
    seed: of the initial weights.
    **kwargs: `name`, `dtype`, … of `keras.layers.Layer`.

  Raises:
    UserError: a size that is not positive.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import BagOfWordsEncoder
    >>> encoder = BagOfWordsEncoder(vocab_size=20, latent_dim=2, embedding_dim=4, hidden_dim=8)
    >>> encoder(tf.constant([[4, 5, 2]])).mean.shape
    TensorShape([1, 2])
  """

  def __init__(
    self,
    vocab_size: int,
    latent_dim: int,
    embedding_dim: int,
    hidden_dim: int,
    init_scale: float = 0.1,
    *,
    seed: int = 0,
    **kwargs: Any,
  ):
    super().__init__(dtype=precision.default(kwargs.pop("dtype", None)), **kwargs)
    check_sizes(
      vocab_size=vocab_size, latent_dim=latent_dim, embedding_dim=embedding_dim, hidden_dim=hidden_dim
    )
    self.vocab_size, self.latent_dim = vocab_size, latent_dim
    self.embedding_dim, self.hidden_dim = embedding_dim, hidden_dim
    self.init_scale, self.seed = init_scale, seed
    init = uniform_stream(seed, init_scale)

    def linear(name, inputs, outputs):
      kernel = self.add_weight(shape=(inputs, outputs), initializer=next(init), name=f"{name}_kernel")
      return kernel, self.add_weight(shape=(outputs,), initializer="zeros", name=f"{name}_bias")

    self.embedding = self.add_weight(
      shape=(vocab_size, embedding_dim), initializer=next(init), name="embedding"
    )
    self.embedding_bias = self.add_weight(shape=(embedding_dim,), initializer="zeros", name="embedding_bias")
    self.hidden = linear("hidden", embedding_dim, hidden_dim)
    self.mean = linear("mean", hidden_dim, latent_dim)
    self.log_var = linear("log_var", hidden_dim, latent_dim)
    self.built = True

  def call(self, x: tf.Tensor, training: bool = False) -> GaussianParams:
    """Documents `[batch, length]` int32 to λ_0, each `[batch, latent]`, of the variables' dtype."""
    return self.encode_embedded(x, self.embed(x))

  def embed(self, x: tf.Tensor) -> tf.Tensor:
    """The embeddings of the tokens, `[batch, length, embedding]`."""
    return tf.gather(self._cast(self.embedding), x)

  def encode_embedded(self, x: tf.Tensor, embedded: tf.Tensor) -> GaussianParams:
    """λ_0 from the tokens' embeddings, which need not be `embed(x)`: `call` in two parts."""
    mask = self._cast(tokens.is_token(x))
    embedded *= mask[..., tf.newaxis]
    # A row without any token, which only a padded batch could have, counts as one of no length.
    length = tf.maximum(tf.reduce_sum(mask, axis=1, keepdims=True), 1)
    h = tf.tanh(tf.reduce_sum(embedded, axis=1) / tf.sqrt(length) + self._cast(self.embedding_bias))
    h = tf.tanh(self._linear(h, self.hidden))
    heads = (self._linear(h, self.mean), self._linear(h, self.log_var))
    return GaussianParams(*(tf.cast(head, self.variable_dtype) for head in heads))

  def _cast(self, tensor):
    return tf.cast(tensor, self.compute_dtype)

  def _linear(self, h, weights):
    kernel, bias = map(self._cast, weights)
    return tf.matmul(h, kernel) + bias

  def get_config(self):
    return {
      **super().get_config(),
      "vocab_size": self.vocab_size,
      "latent_dim": self.latent_dim,
      "embedding_dim": self.embedding_dim,
      "hidden_dim": self.hidden_dim,
      "init_scale": self.init_scale,
      "seed": self.seed,
    }


def encoder_for(data: Any, latent_dim: int, **options: Any) -> BagOfWordsEncoder:
  """The encoder for documents; see `tf_savae.networks.Network`."""
  return BagOfWordsEncoder(data.vocab_size, latent_dim, **options)
