"""Decoder of text with dilated causal convolutions; the dilations decide how many previous words it sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_savae import tokens
from tf_savae.networks.checks import check, latent_rows
from tf_savae.networks.initial_weights import glorot_stream, uniform_stream
from tf_savae.networks.noise import drop_words, sequence_dropout_mask
from tf_savae.networks.sequence import SequenceDecoder
from tf_savae.ops.softmax import token_nll, token_nll_derivative

# The stacks of the paper by name; with kernels of 3 they see 15, 63 and 125 tokens.
DILATIONS = {"small": (1, 2, 4), "medium": (1, 2, 4, 8, 16), "large": (1, 2, 4, 8, 16) * 2}


@keras.saving.register_keras_serializable(package="tf_savae")
class DilatedConvDecoder(SequenceDecoder):
  """p_θ(x | z) = Π_t p(x_t | x_<t, z), a stack of residual blocks of dilated causal convolutions.

  The input at position t is the embedding of x_{t−1} (of START at the first) beside z, taken to the external channels
  by a linear layer. A block adds to its input h the result of

      ReLU → 1×1 to the internal channels → ReLU → dilated convolution → ReLU → 1×1 to the external channels

  and a softmax follows the last block. A position sees the `receptive_field` tokens before it, and nothing else of
  the document but through z. Training replaces words of the input by UNKNOWN (word dropout); dropout is applied to
  the embeddings and to the last states before the softmax.

  Source: Yang, Hu, Salakhutdinov, Berg-Kirkpatrick, *Improved Variational Autoencoders for Text Modeling using Dilated
  Convolutions*, 2017, for dilations, residual blocks with a bottleneck, and z beside every embedding. The ReLU at the
  entry of a block, as in ByteNet, and none on the sum are our own choices. There is no batch normalisation, because an
  example's bound would then depend on the rest of its batch. Convolutions start from Glorot's initialisation with
  biases of 0, whatever `init_scale` is. Ten blocks of U(−0.1, 0.1) with 512 internal and 1024 external channels would
  multiply the size of their input by 2000.

  Args:
    vocab_size: number of token ids, special ones included.
    latent_dim: size of z; 0 makes a plain language model.
    embedding_dim: size of a token's embedding.
    channels: internal channels, those of the dilated convolutions.
    external_channels: channels between the blocks; None: twice the internal ones.
    kernel_size: taps of the dilated convolutions.
    dilations: "small", "medium" or "large", or the dilation of each block.
    dropout: rate of both dropouts.
    word_dropout: rate at which words of the input are replaced by UNKNOWN in training.
    max_length: tokens of the longest sample, its END included.
    init_scale: embeddings and softmax start from U(−init_scale, init_scale).
    logit_positions: tokens whose logits are held at once; None: all.
    seed: of the initial weights.
    **kwargs: `name`, `dtype`, … of `keras.layers.Layer`.

  Raises:
    UserError: a size, a rate or a dilation that is out of range.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import DilatedConvDecoder
    >>> decoder = DilatedConvDecoder(vocab_size=20, latent_dim=2, embedding_dim=4, channels=4, dilations=(1, 2))
    >>> x, z = tf.constant([[4, 5, 2], [6, 2, 0]]), tf.zeros([2, 2])
    >>> decoder.log_prob(x, z, decoder.precompute(x)).shape  # nats
    TensorShape([2])
    >>> decoder.receptive_field
    7
  """

  def __init__(
    self,
    vocab_size: int,
    latent_dim: int,
    embedding_dim: int,
    channels: int,
    external_channels: int | None = None,
    kernel_size: int = 3,
    dilations: str | Sequence[int] = "small",
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
    external_channels = 2 * channels if external_channels is None else external_channels
    sizes = {
      "embedding_dim": embedding_dim,
      "channels": channels,
      "external_channels": external_channels,
      "kernel_size": kernel_size,
      "max_length": max_length,
    }
    for name, size in sizes.items():
      check(size >= 1, f"{name} must be at least 1", size, "give a positive size")
    special = len(tokens.SPECIAL)
    check(
      vocab_size > special, "vocab_size counts the special tokens", vocab_size, f"give more than {special}"
    )
    check(latent_dim >= 0, "latent_dim must not be negative", latent_dim, "give the size of z, 0 for none")
    for name, rate in {"dropout": dropout, "word_dropout": word_dropout}.items():
      check(0.0 <= rate < 1.0, f"{name} must be in [0, 1)", rate, "give a rate such as 0.5")
    if isinstance(dilations, str):
      known = dilations in DILATIONS
      check(known, "unknown dilations", dilations, f"give {', '.join(DILATIONS)} or a number for each block")
      dilations = DILATIONS[dilations]
    check(
      len(dilations) > 0 and all(d >= 1 for d in dilations),
      "dilations must be positive numbers",
      tuple(dilations),
      "give one for each block, such as (1, 2, 4)",
    )
    self.vocab_size, self.latent_dim, self.embedding_dim = vocab_size, latent_dim, embedding_dim
    self.channels, self.external_channels, self.kernel_size = channels, external_channels, kernel_size
    self.dilations = tuple(dilations)
    self.dropout, self.word_dropout, self.max_length = dropout, word_dropout, max_length
    self.init_scale, self.logit_positions, self.seed = init_scale, logit_positions, seed
    self._make_weights()
    self.built = True

  def _make_weights(self) -> None:
    uniform, glorot = uniform_stream(self.seed, self.init_scale), glorot_stream(self.seed)
    inner, outer = self.channels, self.external_channels

    def weight(name, *shape, init=glorot):
      return self.add_weight(shape=shape, initializer=next(init), name=name)

    def bias(name, size):
      return self.add_weight(shape=(size,), initializer="zeros", name=name)

    self.embedding = weight("embedding", self.vocab_size, self.embedding_dim, init=uniform)
    self.logit_kernel = weight("logit_kernel", outer, self.vocab_size, init=uniform)
    self.logit_bias = weight("logit_bias", self.vocab_size, init=uniform)
    self.kernel = weight("kernel", self.embedding_dim, outer)
    self.bias = bias("bias", outer)
    if self.latent_dim:
      self.latent_kernel = weight("latent_kernel", self.latent_dim, outer)
    self.narrow, self.narrow_bias = [], []
    self.dilated, self.dilated_bias = [], []
    self.widen, self.widen_bias = [], []
    for i in range(len(self.dilations)):
      self.narrow.append(weight(f"narrow_{i}", outer, inner))
      self.narrow_bias.append(bias(f"narrow_bias_{i}", inner))
      # The last tap is the position itself.
      self.dilated.append(weight(f"dilated_{i}", self.kernel_size, inner, inner))
      self.dilated_bias.append(bias(f"dilated_bias_{i}", inner))
      self.widen.append(weight(f"widen_{i}", inner, outer))
      self.widen_bias.append(bias(f"widen_bias_{i}", outer))

  @property
  def receptive_field(self) -> int:
    """How many of the tokens before a position its distribution depends on, START included."""
    return 1 + (self.kernel_size - 1) * sum(self.dilations)

  def precompute(
    self, x: tf.Tensor, training: bool = False, seed: tf.Tensor | None = None
  ) -> tuple[tf.Tensor, ...]:
    """The words' part of the first layer, and the dropout mask before the softmax.

    Args:
      x: documents, `[batch, length]` int32.
      training: whether to apply word dropout and dropout.
      seed: of the masks, `[2]` int32.

    Returns:
      `(words,)` or, with dropout in training mode, `(words, mask)`, each `[batch, length, external channels]`.

    Raises:
      UserError: x of another rank, or masks to draw and no seed.
    """
    inputs, mask, masks = tokens.shifted(_documents(x)), None, ()
    if training and (self.dropout or self.word_dropout):
      check(seed is not None, "dropout in training mode needs a seed", seed, "pass a [2] int32 seed")
      of_words, of_embeddings, of_states = tf.unstack(tf.random.split(seed, 3))
      if self.word_dropout:
        inputs = drop_words(inputs, self.word_dropout, of_words)
      if self.dropout:
        rate, dtype = self.dropout, self.compute_dtype
        mask = sequence_dropout_mask(inputs, self.embedding_dim, rate, of_embeddings, dtype)
        masks = (sequence_dropout_mask(inputs, self.external_channels, rate, of_states, dtype),)
    return self._words(inputs, mask), *masks

  def log_prob(self, x: tf.Tensor, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """log p_θ(x | z) in nats, `[batch]`: summed over words and END. See `Decoder.log_prob`."""
    states, targets = self.states(z, context), _documents(x)
    return -tokens.total(
      token_nll(states, *self.softmax_weights(), targets, self.logit_positions), targets, axis=1
    )

  def log_prob_derivative(
    self, x: tf.Tensor, z: tf.Tensor, dz: tf.Tensor, context: tuple[tf.Tensor, ...]
  ) -> tf.Tensor:
    """⟨dz, ∇_z log p_θ(x | z)⟩, `[batch]`: the states and their derivative along dz go forward side by side.

    As fast as nested tapes with 10 % less memory; 15 % faster where `logit_positions` is set.
    """
    words = self._first_layer(z, context)
    along = tf.matmul(self.cast(dz), self.cast(self.latent_kernel))[:, tf.newaxis]
    states, d_states = self._states(words, context, tf.broadcast_to(along, tf.shape(words)))
    targets = _documents(x)
    nll = token_nll_derivative(states, d_states, *self.softmax_weights(), targets, self.logit_positions)
    return -tokens.total(nll, targets, axis=1)

  def logits(self, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """Logits of all positions, `[batch, length, vocab]`, of the variables' dtype.

    Args:
      z: `[batch, latent]`; None for a plain language model.
      context: what `precompute` returned; it holds the tokens.
    """
    return self._to_logits(self.states(z, context))

  def states(self, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """What the softmax reads, `[batch, length, external channels]`; `context` is of `precompute`."""
    (states,) = self._states(self._first_layer(z, context), context)
    return states

  def call(self, x: tf.Tensor, z: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
    """Logits of p(x_t | x_<t, z), `[batch, length, vocab]`; without dropout."""
    return self.logits(z, self.precompute(x))

  def start(self, z: tf.Tensor | None, num: int | tf.Tensor) -> tuple[tf.Tensor, ...]:
    """z's part of the first layer `[num, external channels]`, and what each block's taps still need of the past.

    The latter is `[num, (kernel_size - 1) · dilation, channels]` for each block; zeros, as before a document. See
    `SequenceDecoder.start`.
    """
    z, num = latent_rows(z, num, self.latent_dim, self.variable_dtype)
    reach = [(self.kernel_size - 1) * dilation for dilation in self.dilations]
    past = [tf.zeros([num, length, self.channels], self.compute_dtype) for length in reach]
    if not self.latent_dim:
      return tuple(past)
    return tf.matmul(self.cast(z), self.cast(self.latent_kernel)), *past

  def next(self, token: tf.Tensor, state: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """Each layer at one position, `[num, vocab]`, and the new state. See `SequenceDecoder.next`."""
    from_latent, past = (state[:1], state[1:]) if self.latent_dim else ((), state)
    h = self._words(token)
    for part in from_latent:
      h += part
    moved = []
    for i, dilation in enumerate(self.dilations):
      inner = _linear([tf.nn.relu(h)], self.cast(self.narrow[i]), self.cast(self.narrow_bias[i]))[0]
      window = tf.concat([past[i], tf.nn.relu(inner)[:, tf.newaxis]], axis=1)
      moved.append(window[:, 1:])
      h += self._after_taps(i, [tf.concat(tf.unstack(window[:, ::dilation], axis=1), axis=-1)])[0]
    return self._to_logits(h), (*from_latent, *moved)

  def _words(self, inputs, mask=None):
    """The embeddings' part of the first layer, `[…, external channels]`."""
    embedded = tf.gather(self.cast(self.embedding), inputs)
    if mask is not None:
      embedded *= mask
    return _linear([embedded], self.cast(self.kernel), self.cast(self.bias))[0]

  def _first_layer(self, z, context):
    words = self.cast(context[0])
    if not self.latent_dim:
      return words
    return words + tf.matmul(self.cast(z), self.cast(self.latent_kernel))[:, tf.newaxis]

  def _states(self, h, context, tangent=None):
    """The last states from the first layer's, and with a tangent their derivative along it, as a list.

    All layers but ReLU and the biases are linear: the tangent goes through the same ones.
    """
    streams = [h] if tangent is None else [h, tangent]
    for i, dilation in enumerate(self.dilations):
      inner = _linear(_relu(streams), self.cast(self.narrow[i]), self.cast(self.narrow_bias[i]))
      taps = [_taps(stream, self.kernel_size, dilation) for stream in _relu(inner)]
      streams = [a + b for a, b in zip(streams, self._after_taps(i, taps), strict=True)]
    mask = context[1:]
    return [stream * self.cast(mask[0]) for stream in streams] if mask else streams

  def _after_taps(self, i, taps):
    """Block i from the taps of its dilated convolution, `[…, kernel_size · channels]`, to what it adds."""
    kernel = tf.reshape(self.cast(self.dilated[i]), [-1, self.channels])
    inner = _relu(_linear(taps, kernel, self.cast(self.dilated_bias[i])))
    return _linear(inner, self.cast(self.widen[i]), self.cast(self.widen_bias[i]))

  def softmax_weights(self) -> tuple[tf.Tensor, tf.Tensor]:
    """Of the softmax layer, `[channels, vocab]` and `[vocab]`: the latter in the dtype of the likelihood."""
    return self.cast(self.logit_kernel), tf.convert_to_tensor(self.logit_bias)

  def _to_logits(self, states):
    kernel, bias = self.softmax_weights()
    return tf.cast(_linear([states], kernel)[0], bias.dtype) + bias

  def get_config(self):
    return {
      **super().get_config(),
      "vocab_size": self.vocab_size,
      "latent_dim": self.latent_dim,
      "embedding_dim": self.embedding_dim,
      "channels": self.channels,
      "external_channels": self.external_channels,
      "kernel_size": self.kernel_size,
      "dilations": list(self.dilations),
      "dropout": self.dropout,
      "word_dropout": self.word_dropout,
      "max_length": self.max_length,
      "init_scale": self.init_scale,
      "logit_positions": self.logit_positions,
      "seed": self.seed,
    }


def _documents(x: tf.Tensor) -> tf.Tensor:
  x = tf.cast(x, tf.int32)
  shape = tuple(x.shape) if x.shape.rank is not None else None
  check(x.shape.rank == 2, "documents must be token ids [batch, length]", shape, "pad them to one length")
  return x


def _taps(x: tf.Tensor, kernel_size: int, dilation: int) -> tf.Tensor:
  """The inputs that a causal convolution multiplies at each position, side by side: `[batch, length, k · channels]`.

  One matrix product of them is the convolution. TensorFlow's own is no faster forward and has slower second
  derivatives on CPU: by 10 % as conv1d and twice as slow as conv2d. tf.slice, because the gradient kernel of x[a:b]
  is slow.
  """
  length, channels = tf.shape(x)[1], x.shape[2]
  padded = tf.pad(x, [[0, 0], [(kernel_size - 1) * dilation, 0], [0, 0]])
  return tf.concat(
    [tf.slice(padded, [0, j * dilation, 0], [-1, length, channels]) for j in range(kernel_size)], axis=-1
  )


def _linear(streams: list[tf.Tensor], kernel: tf.Tensor, bias: tf.Tensor | None = None) -> list[tf.Tensor]:
  """The first stream times the kernel, plus the bias; its tangent times the kernel."""
  leading = tf.shape(streams[0])[:-1]
  size_in, size_out = kernel.shape

  def times(stream):
    return tf.matmul(tf.reshape(stream, [-1, size_in]), kernel)

  first, *tangent = [times(stream) for stream in streams]
  if bias is not None:
    first = tf.nn.bias_add(first, bias)
  shape = tf.concat([leading, [size_out]], axis=0)
  return [tf.reshape(stream, shape) for stream in (first, *tangent)]


def _relu(streams: list[tf.Tensor]) -> list[tf.Tensor]:
  """ReLU of the first stream, and its derivative there times the tangent."""
  first, *tangent = streams
  # Constant where it has a derivative at all; without stop_gradient, zeros would be added up for it.
  fixed = tf.stop_gradient(first)
  return [tf.nn.relu(first), *(tf.raw_ops.ReluGrad(gradients=t, features=fixed) for t in tangent)]


def for_data(
  data: Any, latent_dim: int, *, conv_channels: int, logit_positions: int, **options: Any
) -> DilatedConvDecoder:
  """The decoder for documents; see `tf_savae.networks.Network`. No `logit_positions`, 0, are all."""
  options |= {"max_length": data.max_length, "logit_positions": logit_positions or None}
  return DilatedConvDecoder(data.vocab_size, latent_dim, channels=conv_channels, **options)
