"""A decoder of text that z enters late: the network over the words does not see z and is done once for all z."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_savae import tokens
from tf_savae.networks import dilated_conv, text_lstm
from tf_savae.networks.checks import check, latent_rows
from tf_savae.networks.initial_weights import uniform_stream
from tf_savae.networks.sequence import SequenceDecoder
from tf_savae.ops.late_softmax import (
  log_partition,
  log_partition_derivative,
  sum_over_chunks,
  word_weights,
)


@keras.saving.register_keras_serializable(package="tf_savae")
class LateSoftmaxDecoder(SequenceDecoder):
  """p_θ(x | z) = Π_t softmax(l_t(x_<t) + z · W_z), where a language model without z gives the logits l_t.

  E = exp(l_t − max l_t), `[batch, length, vocab]`, is made once per batch. Then log p(x | z) and its derivative along
  dz cost one product of E with a vector for each z, and their gradients one more. Many z of one x share a product:
  `takes_many_z`.

  E takes 4 bytes per word and position: 0.5 GB for 20,000 words, batch 32 and 200 tokens, and so does its gradient in
  training. `logit_positions` bounds that: E is then made anew for some positions at a time, whenever it is needed.

  The logits and all that follows are in the variables' precision, also where the language model's states are not.

  Source: paper, section 4.1, whose decoder may be read to see z in its output layer.

  Args:
    language_model: a decoder of text without latent: a `TextLSTMDecoder` or `DilatedConvDecoder`, or another with
      `states(z, context)` and `softmax_weights()`. Dropout, word dropout and `logit_positions` are its own.
    latent_dim: size of z.
    latent_l2: weight of Σ W_z², a Keras regulariser, in nats per example; 0: none.
    init_scale: W_z starts from U(−init_scale, init_scale).
    seed: of the initial W_z.
    **kwargs: `name`, `dtype`, … of `keras.layers.Layer`.

  Raises:
    UserError: a size that is out of range, or a language model that has a latent.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import LateSoftmaxDecoder, TextLSTMDecoder
    >>> language_model = TextLSTMDecoder(vocab_size=20, latent_dim=0, embedding_dim=4, hidden_dim=8)
    >>> decoder = LateSoftmaxDecoder(language_model, latent_dim=2)
    >>> x, z = tf.constant([[4, 5, 2], [6, 2, 0]]), tf.zeros([2, 2])
    >>> decoder.log_prob(x, z, decoder.precompute(x)).shape  # nats
    TensorShape([2])
  """

  takes_many_z = True

  def __init__(
    self,
    language_model: SequenceDecoder,
    latent_dim: int,
    latent_l2: float = 0.0,
    init_scale: float = 0.1,
    *,
    seed: int = 0,
    **kwargs: Any,
  ):
    kwargs.setdefault("dtype", language_model.dtype_policy)
    super().__init__(**kwargs)
    check(latent_dim >= 1, "latent_dim must be positive", latent_dim, "without z take the language model")
    check(latent_l2 >= 0, "latent_l2 must not be negative", latent_l2, "give 0 for none")
    has = language_model.latent_dim
    check(has == 0, "the language model must not have a latent", has, "make it with latent_dim=0")
    self.language_model, self.latent_dim, self.latent_l2 = language_model, latent_dim, latent_l2
    self.init_scale, self.seed = init_scale, seed
    self.vocab_size, self.max_length = language_model.vocab_size, language_model.max_length
    self.latent_kernel = self.add_weight(
      shape=(latent_dim, self.vocab_size),
      initializer=next(uniform_stream(seed, init_scale)),
      regularizer=keras.regularizers.L2(latent_l2) if latent_l2 else None,
      name="latent_kernel",
    )
    self.built = True

  def precompute(
    self, x: tf.Tensor, training: bool = False, seed: tf.Tensor | None = None
  ) -> tuple[tf.Tensor, ...]:
    """All that z does not touch.

    Args:
      x: documents, `[batch, length]` int32.
      training: whether to apply dropout and word dropout.
      seed: of their masks, `[2]` int32.

    Returns:
      E, `[batch, length, vocab]`; the sum of the tokens' own log E, `[batch]`; and that of their rows of W_z,
      `[batch, latent]`. With `logit_positions` not the first two, but the states `[batch, length, hidden]`.
    """
    x = tf.cast(x, tf.int32)
    model = self.language_model
    states = model.states(None, model.precompute(x, training, seed))
    rows = tf.gather(tf.transpose(tf.convert_to_tensor(self.latent_kernel)), x)
    of_tokens = tf.reduce_sum(self._mask(x)[..., tf.newaxis] * rows, axis=1)
    if model.logit_positions is None:
      return *word_weights(states, *model.softmax_weights(), x), of_tokens
    return states, of_tokens

  def log_prob(self, x: tf.Tensor, z: tf.Tensor, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """log p_θ(x | z) in nats, `[batch]`, or `[batch, n]` for z `[batch, n, latent]`. See `Decoder.log_prob`."""

    def of_words(weights, own, mask, b):
      return own[:, tf.newaxis] - log_partition(weights, b, mask)

    return self._over_positions(of_words, x, z, [self._shared(z)], context)

  def log_prob_derivative(
    self, x: tf.Tensor, z: tf.Tensor, dz: tf.Tensor, context: tuple[tf.Tensor, ...]
  ) -> tf.Tensor:
    """⟨dz, ∇_z log p_θ(x | z)⟩, `[batch]`, or `[batch, n]` for z and dz `[batch, n, latent]`."""

    def of_words(weights, own, mask, db, b):
      del own
      return -log_partition_derivative(weights, b, db, mask)

    return self._over_positions(of_words, x, dz, [self._shared(dz), self._shared(z)], context)

  def _over_positions(self, function, x, z, shared, context):
    """`function(E, Σ own log E, mask, *shared)` over all positions, plus the tokens' rows of W_z times z."""
    x = tf.cast(x, tf.int32)
    model = self.language_model
    if model.logit_positions is None:
      weights, own, of_tokens = context[:3]
      total = function(weights, own, self._mask(x), *shared)
    else:
      states, of_tokens = context[:2]

      def of_chunk(states, x, kernel, bias, *shared):
        return function(*word_weights(states, kernel, bias, x), self._mask(x), *shared)

      size = tf.maximum(model.logit_positions // tf.shape(x)[0], 1)
      total = sum_over_chunks(of_chunk, self.cast(states), x, [*model.softmax_weights(), *shared], size)
    own = tf.reduce_sum(of_tokens[:, tf.newaxis] * _as_many(z, total.dtype), axis=-1)
    return total + own if z.shape.rank == 3 else (total + own)[:, 0]

  def _shared(self, z):
    """z's part of the logits, `[batch, n, vocab]`."""
    z = _as_many(z, self.variable_dtype)
    part = tf.matmul(tf.reshape(z, [-1, self.latent_dim]), tf.convert_to_tensor(self.latent_kernel))
    return tf.reshape(part, [-1, tf.shape(z)[1], self.vocab_size])

  def _mask(self, x):
    return tf.cast(tokens.is_token(x), self.variable_dtype)

  def logits(self, z: tf.Tensor, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """Logits of all tokens, `[batch, length, vocab]`, up to a constant per position; `context` is of `precompute`."""
    first = context[0]
    if self.language_model.logit_positions is None:
      # As a logit, log 0 would be no number to calculate with.
      words = tf.math.log(tf.maximum(first, first.dtype.as_numpy_dtype(1e-37)))
    else:
      kernel, bias = self.language_model.softmax_weights()
      words = tf.cast(tf.tensordot(self.cast(first), kernel, 1), bias.dtype) + bias
    return words + self._shared(z)

  def call(self, x: tf.Tensor, z: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
    """Logits of p(x_t | x_<t, z), `[batch, length, vocab]`, up to a constant per position; without dropout."""
    return self.logits(z, self.precompute(x))

  def start(self, z: tf.Tensor | None, num: int | tf.Tensor) -> tuple[Any, ...]:
    """z, and the state of the language model. See `SequenceDecoder.start`."""
    z, num = latent_rows(z, num, self.latent_dim, self.variable_dtype)
    return z, self.language_model.start(None, num)

  def next(self, token: tf.Tensor, state: tuple[Any, ...]) -> tuple[tf.Tensor, tuple[Any, ...]]:
    """See `SequenceDecoder.next`."""
    z, of_words = state
    logits, of_words = self.language_model.next(token, of_words)
    return logits + self._shared(z)[:, 0], (z, of_words)

  def get_config(self):
    return {
      **super().get_config(),
      "language_model": keras.saving.serialize_keras_object(self.language_model),
      "latent_dim": self.latent_dim,
      "latent_l2": self.latent_l2,
      "init_scale": self.init_scale,
      "seed": self.seed,
    }

  @classmethod
  def from_config(cls, config):
    model = keras.saving.deserialize_keras_object(config["language_model"])
    return cls(**{**config, "language_model": model})


def _as_many(z, dtype):
  """z as `[batch, n, latent]`."""
  z = tf.cast(z, dtype)
  return z if z.shape.rank == 3 else z[:, tf.newaxis]


def lstm_for(data: Any, latent_dim: int, **options: Any) -> SequenceDecoder:
  """The LSTM decoder for documents; see `tf_savae.networks.Network`."""
  return _decoder_for(text_lstm.decoder_for, data, latent_dim, **options)


def dilated_conv_for(data: Any, latent_dim: int, **options: Any) -> SequenceDecoder:
  """The decoder of dilated convolutions for documents; see `tf_savae.networks.Network`."""
  return _decoder_for(dilated_conv.for_data, data, latent_dim, **options)


def _decoder_for(make, data, latent_dim, *, latent_to, latent_l2, init_scale, seed, **options):
  """What `make` gives, with z where `latent_to` says: "state" is its own way, "softmax" the class above."""
  options |= {"init_scale": init_scale, "seed": seed}
  if latent_to == "state" or not latent_dim:
    return make(data, latent_dim, **options)
  # Another seed, or W_z would begin with the numbers of the embeddings.
  return LateSoftmaxDecoder(make(data, 0, **options), latent_dim, latent_l2, init_scale, seed=seed + 1)
