"""LSTM encoder and decoder for short token sequences of one fixed length."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import tqdm

from tf_savae import precision, tokens
from tf_savae.networks.checks import check, check_sizes, latent_rows
from tf_savae.networks.decoder import Decoder
from tf_savae.networks.noise import dropout_mask, gumbel
from tf_savae.networks.token_lstm import TokenLSTM, TokenLSTMDecoder
from tf_savae.observations import Support, token_ids
from tf_savae.ops.recurrence import lstm, lstm_tangent
from tf_savae.ops.softmax import token_nll, token_nll_derivative
from tf_savae.ops.transposition import transpose
from tf_savae.posterior import GaussianParams


def _tokens(x: tf.Tensor) -> tf.Tensor:
  x = tf.cast(x, tf.int32)
  check(
    x.shape.rank == 2 and x.shape[1] is not None,
    "token sequences must be [batch, length] of a static length",
    tuple(x.shape) if x.shape.rank is not None else None,
    "set the shape of the input",
  )
  return x


@keras.saving.register_keras_serializable(package="tf_savae")
class LSTMEncoder(TokenLSTM, keras.layers.Layer):
  """λ_0 = enc_φ(x): two linear heads on the last hidden state of an LSTM.

  Source: paper, section 4.1.

  Args:
    vocab_size: number of token ids.
    latent_dim: size of z.
    embedding_dim: size of a token's embedding.
    hidden_dim: size of the hidden state.
    init_scale: every parameter starts from U(−init_scale, init_scale).
    seed: of the initial weights.
    **kwargs: `name`, `dtype`, … of `keras.layers.Layer`.

  Raises:
    UserError: a size that is not positive.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import LSTMEncoder
    >>> encoder = LSTMEncoder(vocab_size=20, latent_dim=2, embedding_dim=4, hidden_dim=8)
    >>> encoder(tf.constant([[4, 5, 6], [7, 8, 9]])).mean.shape
    TensorShape([2, 2])
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
    **kwargs,
  ):
    super().__init__(dtype=precision.default(kwargs.pop("dtype", None)), **kwargs)
    check_sizes(
      vocab_size=vocab_size, latent_dim=latent_dim, embedding_dim=embedding_dim, hidden_dim=hidden_dim
    )
    self.vocab_size, self.latent_dim = vocab_size, latent_dim
    self.embedding_dim, self.hidden_dim = embedding_dim, hidden_dim
    self.init_scale, self.seed = init_scale, seed
    weight = self._weights(seed, init_scale)
    self._add_lstm(weight, vocab_size, embedding_dim, hidden_dim)
    self.mean_kernel = weight("mean_kernel", hidden_dim, latent_dim)
    self.mean_bias = weight("mean_bias", latent_dim)
    self.log_var_kernel = weight("log_var_kernel", hidden_dim, latent_dim)
    self.log_var_bias = weight("log_var_bias", latent_dim)
    self.built = True

  def call(self, x: tf.Tensor, training: bool = False) -> GaussianParams:
    """Tokens `[batch, length]` to λ_0, each `[batch, latent]`, of the variables' dtype."""
    return self.encode_embedded(x, self.embed(x))

  def embed(self, x: tf.Tensor) -> tf.Tensor:
    """The embeddings of the tokens, `[batch, length, embedding]`."""
    return tf.gather(self.cast(self.embedding), x)

  def encode_embedded(self, x: tf.Tensor, embedded: tf.Tensor) -> GaussianParams:
    """λ_0 from the tokens' embeddings, which need not be `embed(x)`: `call` in two parts."""
    h = self._last_state(x, self._gate_inputs(embedded))
    mean = tf.matmul(h, self.cast(self.mean_kernel)) + self.cast(self.mean_bias)
    log_var = tf.matmul(h, self.cast(self.log_var_kernel)) + self.cast(self.log_var_bias)
    return GaussianParams(tf.cast(mean, self.variable_dtype), tf.cast(log_var, self.variable_dtype))

  def _last_state(self, x, inputs):
    """The hidden state after the last token, `[batch, hidden]`, from the gates' inputs."""
    h = tf.zeros([tf.shape(_tokens(x))[0], self.hidden_dim], self.compute_dtype)
    return lstm(inputs, tf.zeros_like(inputs[:, 0]), h, self.cast(self.recurrent))[-1]

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


@keras.saving.register_keras_serializable(package="tf_savae")
class LSTMDecoder(TokenLSTMDecoder, Decoder):
  """p_θ(x | z) = Π_t p(x_t | x_<t, z), an LSTM language model that sees z at every step.

  Its input at step t is z and the embedding of x_{t−1}, which is a learned start embedding at the first step. Its
  hidden state starts at 0 or at a linear function of z. Instead of in the input, z may be seen in the output layer.
  Dropout is applied to the embeddings and to the hidden states before the softmax.

  Source: paper, section 4.1; Bowman et al. (2016).

  Args:
    vocab_size: number of token ids.
    latent_dim: size of z; 0 makes a plain language model.
    embedding_dim: size of a token's embedding.
    hidden_dim: size of the hidden state.
    dropout: rate of both dropouts.
    length: number of tokens of a sample.
    latent_to_state: starts the hidden state at a linear function of z, not at 0.
    latent_to_logits: adds a linear function of z to the logits of every step, and nothing to the LSTM's input.
    init_scale: every parameter starts from U(−init_scale, init_scale).
    seed: of the initial weights.
    **kwargs: `name`, `dtype`, … of `keras.layers.Layer`; with `trainable=False` the weights are constants.

  Raises:
    UserError: a size that is out of range.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import LSTMDecoder
    >>> decoder = LSTMDecoder(vocab_size=20, latent_dim=2, embedding_dim=4, hidden_dim=8, length=3)
    >>> x, z = tf.constant([[4, 5, 6], [7, 8, 9]]), tf.zeros([2, 2])
    >>> decoder.log_prob(x, z, decoder.precompute(x)).shape  # nats
    TensorShape([2])
    >>> decoder.sample(z, seed=[0, 1]).shape
    TensorShape([2, 3])
  """

  def __init__(
    self,
    vocab_size: int,
    latent_dim: int,
    embedding_dim: int,
    hidden_dim: int,
    dropout: float = 0.0,
    length: int = 5,
    latent_to_state: bool = False,
    latent_to_logits: bool = False,
    init_scale: float = 0.1,
    *,
    seed: int = 0,
    **kwargs,
  ):
    super().__init__(**kwargs)
    check_sizes(vocab_size=vocab_size, embedding_dim=embedding_dim, hidden_dim=hidden_dim, length=length)
    check(latent_dim >= 0, "latent_dim must not be negative", latent_dim, "give the size of z, 0 for none")
    check(0.0 <= dropout < 1.0, "dropout must be in [0, 1)", dropout, "give a rate such as 0.5")
    self.vocab_size, self.latent_dim = vocab_size, latent_dim
    self.embedding_dim, self.hidden_dim = embedding_dim, hidden_dim
    self.dropout, self.length = dropout, length
    check(
      not (latent_to_state and latent_to_logits),
      "z is seen by the LSTM or in the output layer",
      {"latent_to_state": latent_to_state, "latent_to_logits": latent_to_logits},
      "give one of them",
    )
    self.latent_to_state, self.latent_to_logits = latent_to_state, latent_to_logits
    self.init_scale, self.seed = init_scale, seed
    weight = self._weights(seed, init_scale)
    # One row more than there are tokens: the start embedding.
    self._add_lstm(weight, vocab_size + 1, embedding_dim, hidden_dim)
    self._add_softmax(weight, hidden_dim, vocab_size)
    if latent_dim:
      seen_by = vocab_size if latent_to_logits else 4 * hidden_dim
      self.latent_kernel = weight("latent_kernel", latent_dim, seen_by)
      if latent_to_state:
        self.state_kernel = weight("state_kernel", latent_dim, hidden_dim)
        self.state_bias = weight("state_bias", hidden_dim)
    self.built = True

  @property
  def support(self) -> Support:
    """Ids of the vocabulary."""
    return token_ids(self.vocab_size)

  def precompute(
    self, x: tf.Tensor, training: bool = False, seed: tf.Tensor | None = None
  ) -> tuple[tf.Tensor, ...]:
    """The part of the network that z does not reach.

    Args:
      x: tokens, `[batch, length]` int32.
      training: whether to apply dropout.
      seed: of the dropout masks, `[2]` int32.

    Returns:
      `(inputs,)` or, with dropout in training mode, `(inputs, mask)`: the tokens' part of the gate inputs
      `[batch, length, 4 hidden]`, and the mask before the softmax `[batch, length, hidden]`. Where z is seen in the
      output layer alone, `(logits,)`, those without z's part, `[batch, length, vocab]`.
    """
    x = _tokens(x)
    start = tf.fill([tf.shape(x)[0], 1], self.vocab_size)
    embedded = tf.gather(self.cast(self.embedding), tf.concat([start, x[:, :-1]], axis=1))
    masks = ()
    if training and self.dropout:
      check(seed is not None, f"dropout {self.dropout} in training mode needs a seed", seed, "pass [2] int32")
      shape = [tf.shape(x)[0], x.shape[1]]
      seeds = [tf.random.experimental.stateless_fold_in(seed, i) for i in range(2)]
      embedded *= dropout_mask([*shape, self.embedding_dim], self.dropout, seeds[0], self.compute_dtype)
      masks = (dropout_mask([*shape, self.hidden_dim], self.dropout, seeds[1], self.compute_dtype),)
    inputs = self._gate_inputs(embedded)
    if self._logits_see_latent:
      return (self.cast(self._all_logits(self._states(None, (inputs, *masks)))),)
    return inputs, *masks

  @property
  def _logits_see_latent(self) -> bool:
    return bool(self.latent_dim) and self.latent_to_logits

  def log_prob(self, x: tf.Tensor, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """log p_θ(x | z) in nats, `[batch]`: summed over tokens. See `Decoder.log_prob`."""
    if not self._logits_see_latent:
      nll = token_nll(self._states(z, context), *self.softmax_weights(), tokens.transposed(_tokens(x)))
      return -tf.reduce_sum(nll, axis=0)
    logits = self.logits(z, context)
    # Not the fused cross entropy, which always makes its gradient, too, nor TFP's Categorical, which copies all
    # logits where the batch size is unknown.
    of_targets = tf.reduce_sum(self._one_hot(x) * logits, axis=-1)
    return tf.reduce_sum(of_targets - tf.reduce_logsumexp(logits, axis=-1), axis=1)

  def log_prob_derivative(
    self, x: tf.Tensor, z: tf.Tensor, dz: tf.Tensor, context: tuple[tf.Tensor, ...]
  ) -> tf.Tensor:
    """⟨dz, ∇_z log p_θ(x | z)⟩ = Σ_t ⟨1_{x_t} − p_t, l̇_t⟩ with the logits' derivative l̇, `[batch]`.

    Differentiable with respect to z, dz, context and weights.
    """
    if not self._logits_see_latent:
      states, d_states = self._states_along(z, dz, context)
      nll = token_nll_derivative(states, d_states, *self.softmax_weights(), tokens.transposed(_tokens(x)))
      return -tf.reduce_sum(nll, axis=0)
    slope = self._one_hot(x) - tf.nn.softmax(self.logits(z, context))
    return tf.reduce_sum(slope * self._latent_part(dz), axis=[1, 2])

  def logits(self, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """Logits of all tokens, `[batch, length, vocab]`, of the variables' dtype.

    Args:
      z: `[batch, latent]`; None for a plain language model.
      context: what `precompute` returned; it holds the tokens.
    """
    if self._logits_see_latent:
      return tf.cast(context[0], self.variable_dtype) + self._latent_part(z)
    return self._all_logits(self._states(z, context))

  def _states_along(self, z, dz, context):
    """`_states`, and their derivative along dz."""
    inputs, *mask = map(self.cast, context)
    num = tf.shape(inputs)[0]
    initial, constant = self._from_latent(z, num)
    d_initial, d_constant = self._from_latent(dz, num, tangent=True)
    states, d_states = lstm_tangent(
      inputs, constant, d_constant, initial, d_initial, self.cast(self.recurrent)
    )
    if not mask:
      return states, d_states
    by_time = transpose(mask[0], [1, 0, 2])
    return states * by_time, d_states * by_time

  def _from_latent(self, z, num, tangent=False):
    """The initial hidden state `[num, hidden]` and z's part of the gate inputs `[num, 4 hidden]`.

    With `tangent`, their derivatives along z.
    """
    initial, constant = self._without_latent(num)
    if z is None:
      return initial, constant
    z = self.cast(z)
    if self.latent_to_state:
      initial = tf.matmul(z, self.cast(self.state_kernel))
      if not tangent:
        initial += self.cast(self.state_bias)
    return initial, tf.matmul(z, self.cast(self.latent_kernel))

  def _latent_part(self, z):
    """z's part of the logits, `[batch, 1, vocab]`."""
    part = tf.matmul(self.cast(z), self.cast(self.latent_kernel))
    return tf.cast(part, self.variable_dtype)[:, tf.newaxis]

  def _one_hot(self, x):
    return tf.one_hot(_tokens(x), self.vocab_size, dtype=self.variable_dtype)

  def _all_logits(self, states):
    """From `[length, batch, hidden]` to `[batch, length, vocab]`."""
    return self._to_logits(transpose(states, [1, 0, 2]))

  def call(self, x: tf.Tensor, z: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
    """Logits of p(x_t | x_<t, z), `[batch, length, vocab]`; without dropout."""
    return self.logits(z, self.precompute(x))

  def sample(
    self, z: tf.Tensor | None, seed: tf.Tensor, num: int | None = None, progress: bool = False
  ) -> tf.Tensor:
    """Ancestral samples x ~ p_θ(x | z), `[batch, length]` int32. See `Decoder.sample`."""
    return self._draw(z, num, tf.convert_to_tensor(seed, tf.int32), progress)[0]

  def decode(self, z: tf.Tensor | None) -> tf.Tensor:
    """Token probabilities `[batch, length, vocab]` when every token before is its most probable value."""
    return tf.nn.softmax(self._draw(z, 1, None, False)[1])

  def _draw(self, z, num, seed, progress):
    """Tokens `[batch, length]`, and the logits they were drawn from `[batch, length, vocab]`."""
    z, num = latent_rows(z, num, self.latent_dim, self.variable_dtype)
    h, constant = self._from_latent(None if self._logits_see_latent else z, num)
    c, token = tf.zeros_like(h), tf.fill([num], self.vocab_size)
    drawn, all_logits = [], []
    for t in tqdm.trange(self.length, desc="sampling", unit="token", disable=not progress):
      h, c = self._step(token, h, c, constant)
      logits = self._to_logits(h)
      if self._logits_see_latent:
        logits += self._latent_part(z)[:, 0]
      scores = logits
      if seed is not None:
        scores += gumbel(tf.shape(logits), tf.random.experimental.stateless_fold_in(seed, t), logits.dtype)
      token = tf.argmax(scores, axis=-1, output_type=tf.int32)
      drawn.append(token)
      all_logits.append(logits)
    return tf.stack(drawn, axis=1), tf.stack(all_logits, axis=1)

  def get_config(self):
    return {
      **super().get_config(),
      "vocab_size": self.vocab_size,
      "latent_dim": self.latent_dim,
      "embedding_dim": self.embedding_dim,
      "hidden_dim": self.hidden_dim,
      "dropout": self.dropout,
      "length": self.length,
      "latent_to_state": self.latent_to_state,
      "latent_to_logits": self.latent_to_logits,
      "init_scale": self.init_scale,
      "seed": self.seed,
    }


def encoder_for(data: Any, latent_dim: int, **options: Any) -> LSTMEncoder:
  """The encoder for token sequences; see `tf_savae.networks.Network`."""
  return LSTMEncoder(data.vocab_size, latent_dim, **options)
