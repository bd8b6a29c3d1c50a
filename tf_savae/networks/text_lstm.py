"""LSTM encoder and decoder for documents of any length (paper, section 4.2 and appendix).

Ids are those of `tf_savae.tokens`; documents are padded at the end, and padding changes no number.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_savae import tokens
from tf_savae.networks.checks import check, check_sizes
from tf_savae.networks.lstm import LSTMEncoder
from tf_savae.networks.noise import drop_words, sequence_dropout_mask
from tf_savae.networks.sequence import SequenceDecoder
from tf_savae.networks.token_lstm import TokenLSTMDecoder
from tf_savae.ops.recurrence import lstm, lstm_tangent
from tf_savae.ops.softmax import token_nll, token_nll_derivative
from tf_savae.ops.transposition import transpose


@keras.saving.register_keras_serializable(package="tf_savae")
class TextLSTMEncoder(LSTMEncoder):
  """λ_0 = enc_φ(x): two linear heads on the state of an LSTM after a document's last token, its END.

  Arguments as for `LSTMEncoder`.

  Source: paper, section 4.2.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import TextLSTMEncoder
    >>> encoder = TextLSTMEncoder(vocab_size=20, latent_dim=2, embedding_dim=4, hidden_dim=8)
    >>> encoder(tf.constant([[4, 5, 2], [6, 2, 0]])).mean.shape  # END is 2, PAD is 0
    TensorShape([2, 2])
  """

  def _last_state(self, x, inputs):
    zero = tf.zeros([tf.shape(x)[0], self.hidden_dim], self.compute_dtype)
    constant = tf.zeros([tf.shape(x)[0], 4 * self.hidden_dim], self.compute_dtype)
    states = lstm(inputs, constant, zero, self.cast(self.recurrent))
    # A row without any token, which only a padded batch could have, gives the state after its first padding.
    last = tf.maximum(tokens.lengths(x) - 1, 0)
    return tf.gather_nd(states, tf.stack([last, tf.range(tf.shape(x)[0])], axis=1))


@keras.saving.register_keras_serializable(package="tf_savae")
class TextLSTMDecoder(TokenLSTMDecoder, SequenceDecoder):
  """p_θ(x | z) = Π_t p(x_t | x_<t, z), an LSTM language model that sees z at every step.

  Its input at step t is the embedding of x_{t−1} (START at first) and z; its hidden state starts at a linear function
  of z, its cell at 0. Dropout is applied to the embeddings and to the hidden states before the softmax.

  The directional derivative ⟨ż, ∇_z log p(x | z)⟩, which the exact adjoint takes K times, is `log_prob_derivative`.

  Args:
    vocab_size: number of token ids, special ones included.
    latent_dim: size of z; 0 makes a plain language model.
    embedding_dim: size of a token's embedding.
    hidden_dim: size of the hidden state.
    dropout: rate of both dropouts.
    word_dropout: share of input tokens replaced by UNKNOWN in training (Bowman et al. 2016).
    max_length: tokens of the longest sample, its END included.
    init_scale: every parameter starts from U(−init_scale, init_scale).
    logit_positions: tokens whose logits are held at once; None: all.
    seed: of the initial weights.
    **kwargs: `name`, `dtype`, … of `keras.layers.Layer`.

  Raises:
    UserError: a size or rate that is out of range.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import TextLSTMDecoder
    >>> decoder = TextLSTMDecoder(vocab_size=20, latent_dim=2, embedding_dim=4, hidden_dim=8)
    >>> x, z = tf.constant([[4, 5, 2], [6, 2, 0]]), tf.zeros([2, 2])
    >>> decoder.log_prob(x, z, decoder.precompute(x)).shape  # nats
    TensorShape([2])
  """

  def __init__(
    self,
    vocab_size: int,
    latent_dim: int,
    embedding_dim: int,
    hidden_dim: int,
    dropout: float = 0.0,
    word_dropout: float = 0.0,
    max_length: int = 200,
    init_scale: float = 0.1,
    logit_positions: int | None = None,
    *,
    seed: int = 0,
    **kwargs,
  ):
    super().__init__(**kwargs)
    check_sizes(
      vocab_size=vocab_size, embedding_dim=embedding_dim, hidden_dim=hidden_dim, max_length=max_length
    )
    check(latent_dim >= 0, "latent_dim must not be negative", latent_dim, "give the size of z, 0 for none")
    for name, rate in {"dropout": dropout, "word_dropout": word_dropout}.items():
      check(0.0 <= rate < 1.0, f"{name} must be in [0, 1)", rate, "give a rate such as 0.5")
    self.vocab_size, self.latent_dim = vocab_size, latent_dim
    self.embedding_dim, self.hidden_dim = embedding_dim, hidden_dim
    self.dropout, self.word_dropout, self.max_length = dropout, word_dropout, max_length
    self.init_scale, self.logit_positions, self.seed = init_scale, logit_positions, seed
    weight = self._weights(seed, init_scale)
    self._add_lstm(weight, vocab_size, embedding_dim, hidden_dim)
    self._add_softmax(weight, hidden_dim, vocab_size)
    if latent_dim:
      self.latent_kernel = weight("latent_kernel", latent_dim, 4 * hidden_dim)
      self.state_kernel = weight("state_kernel", latent_dim, hidden_dim)
      self.state_bias = weight("state_bias", hidden_dim)
    self.built = True

  def precompute(
    self, x: tf.Tensor, training: bool = False, seed: tf.Tensor | None = None
  ) -> tuple[tf.Tensor, ...]:
    """The tokens' part of the gate inputs, and the dropout mask before the softmax.

    Args:
      x: documents, `[batch, length]` int32.
      training: whether to apply dropout and word dropout.
      seed: of their masks, `[2]` int32.

    Returns:
      `(inputs,)` or, with dropout in training mode, `(inputs, mask)`: `[batch, length, 4 hidden]`,
      `[batch, length, hidden]`.
    """
    inputs, masks = tokens.shifted(tf.cast(x, tf.int32)), ()
    if training and (self.dropout or self.word_dropout):
      check(seed is not None, "dropout in training mode needs a seed", seed, "pass a [2] int32 seed")
      of_words, of_embeddings, of_states = tf.unstack(tf.random.split(seed, 3))
      if self.word_dropout:
        inputs = drop_words(inputs, self.word_dropout, of_words)
    embedded = tf.gather(self.cast(self.embedding), inputs)
    if training and self.dropout:
      rate, dtype = self.dropout, self.compute_dtype
      embedded *= sequence_dropout_mask(inputs, self.embedding_dim, rate, of_embeddings, dtype)
      masks = (sequence_dropout_mask(inputs, self.hidden_dim, rate, of_states, dtype),)
    return self._gate_inputs(embedded), *masks

  def log_prob(self, x: tf.Tensor, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """log p_θ(x | z) in nats, `[batch]`: summed over words and END. See `Decoder.log_prob`."""
    states, targets = self._states(z, context), tokens.transposed(x)
    return -tokens.total(
      token_nll(states, *self.softmax_weights(), targets, self.logit_positions), targets, axis=0
    )

  def log_prob_derivative(
    self, x: tf.Tensor, z: tf.Tensor, dz: tf.Tensor, context: tuple[tf.Tensor, ...]
  ) -> tf.Tensor:
    """⟨dz, ∇_z log p_θ(x | z)⟩, `[batch]`; differentiable with respect to z, dz, context and weights."""
    inputs, *mask = map(self.cast, context)
    rows = tf.concat([self.cast(z), self.cast(dz)], 0)
    constant, d_constant = tf.split(tf.matmul(rows, self.cast(self.latent_kernel)), 2)
    initial, d_initial = tf.split(tf.matmul(rows, self.cast(self.state_kernel)), 2)
    initial += self.cast(self.state_bias)
    states, d_states = lstm_tangent(
      inputs, constant, d_constant, initial, d_initial, self.cast(self.recurrent)
    )
    if mask:
      by_time = transpose(mask[0], [1, 0, 2])
      states, d_states = states * by_time, d_states * by_time
    targets = tokens.transposed(x)
    nll = token_nll_derivative(states, d_states, *self.softmax_weights(), targets, self.logit_positions)
    return -tokens.total(nll, targets, axis=0)

  def logits(self, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """Logits of all tokens, `[batch, length, vocab]`, of the variables' dtype; `context` is of `precompute`."""
    return self._to_logits(self.states(z, context))

  def states(self, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """What the softmax reads, `[batch, length, hidden]`; `context` is of `precompute`."""
    return transpose(self._states(z, context), [1, 0, 2])

  def _from_latent(self, z, num):
    """The initial hidden state `[num, hidden]` and z's part of the gate inputs `[num, 4 hidden]`."""
    if not self.latent_dim:
      return self._without_latent(num)
    z = self.cast(z)
    initial = tf.matmul(z, self.cast(self.state_kernel)) + self.cast(self.state_bias)
    return initial, tf.matmul(z, self.cast(self.latent_kernel))

  def call(self, x: tf.Tensor, z: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
    """Logits of p(x_t | x_<t, z), `[batch, length, vocab]`; without dropout."""
    return self.logits(z, self.precompute(x))

  def start(self, z: tf.Tensor | None, num: int | tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Hidden state, cell and z's part of the gate inputs. See `SequenceDecoder.start`."""
    initial, constant = self._from_latent(z, num)
    return initial, tf.zeros_like(initial), constant

  def next(self, token: tf.Tensor, state: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """See `SequenceDecoder.next`."""
    h, c, constant = state
    h, c = self._step(token, h, c, constant)
    return self._to_logits(h), (h, c, constant)

  def get_config(self):
    return {
      **super().get_config(),
      "vocab_size": self.vocab_size,
      "latent_dim": self.latent_dim,
      "embedding_dim": self.embedding_dim,
      "hidden_dim": self.hidden_dim,
      "dropout": self.dropout,
      "word_dropout": self.word_dropout,
      "max_length": self.max_length,
      "init_scale": self.init_scale,
      "logit_positions": self.logit_positions,
      "seed": self.seed,
    }


def encoder_for(data: Any, latent_dim: int, **options: Any) -> TextLSTMEncoder:
  """The encoder for documents; see `tf_savae.networks.Network`."""
  return TextLSTMEncoder(data.vocab_size, latent_dim, **options)


def decoder_for(data: Any, latent_dim: int, *, logit_positions: int, **options: Any) -> TextLSTMDecoder:
  """The decoder for documents; see `tf_savae.networks.Network`. No `logit_positions`, 0, are all."""
  options |= {"max_length": data.max_length, "logit_positions": logit_positions or None}
  return TextLSTMDecoder(data.vocab_size, latent_dim, **options)
