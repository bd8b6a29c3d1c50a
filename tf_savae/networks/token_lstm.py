"""The LSTM over tokens that all recurrent encoders and decoders here are made of: its weights, and one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_savae.networks.initial_weights import uniform_stream
from tf_savae.ops.lstm_cell import lstm_cell
from tf_savae.ops.recurrence import lstm
from tf_savae.ops.transposition import transpose


class TokenLSTM:
  """Part of a Keras layer, which inherits from it: an LSTM whose inputs are embeddings of tokens.

  Attributes:
    embedding: `[rows, embedding]`.
    kernel, recurrent, bias: of the gates, `[embedding, 4 hidden]`, `[hidden, 4 hidden]`, `[4 hidden]`.
  """

  hidden_dim: int

  def _weights(self, seed: int, init_scale: float) -> Callable[..., Any]:
    """A function of name and shape that adds a weight drawn from U(−init_scale, init_scale)."""
    init = uniform_stream(seed, init_scale)

    def weight(name: str, *shape: int) -> Any:
      # Not by setting the layer's `trainable` later: tapes would still watch the variable.
      return self.add_weight(shape=shape, initializer=next(init), name=name, trainable=self.trainable)

    return weight

  def _add_lstm(self, weight: Callable[..., Any], rows: int, embedding_dim: int, hidden_dim: int) -> None:
    self.embedding = weight("embedding", rows, embedding_dim)
    self.kernel = weight("kernel", embedding_dim, 4 * hidden_dim)
    self.recurrent = weight("recurrent", hidden_dim, 4 * hidden_dim)
    self.bias = weight("bias", 4 * hidden_dim)

  def _gate_inputs(self, embedded: tf.Tensor) -> tf.Tensor:
    """The embeddings' part of the gate inputs, `[batch, length, 4 hidden]`."""
    return tf.tensordot(embedded, self.cast(self.kernel), 1) + self.cast(self.bias)

  def cast(self, tensor: Any) -> tf.Tensor:
    """A variable or tensor in the dtype of the network's arithmetic."""
    return tf.cast(tensor, self.compute_dtype)


class TokenLSTMDecoder(TokenLSTM):
  """Part of a decoder: the LSTM, and a softmax layer over its states.

  Attributes:
    logit_kernel, logit_bias: `[hidden, vocab]`, `[vocab]`.
  """

  def _add_softmax(self, weight: Callable[..., Any], hidden_dim: int, vocab_size: int) -> None:
    self.logit_kernel = weight("logit_kernel", hidden_dim, vocab_size)
    self.logit_bias = weight("logit_bias", vocab_size)

  def softmax_weights(self) -> tuple[tf.Tensor, tf.Tensor]:
    """Of the softmax layer, `[hidden, vocab]` and `[vocab]`: the latter in the dtype of the likelihood."""
    return self.cast(self.logit_kernel), tf.convert_to_tensor(self.logit_bias)

  def _to_logits(self, states: tf.Tensor) -> tf.Tensor:
    """From `[…, hidden]` to `[…, vocab]`, of the variables' dtype."""
    return (
      tf.cast(tf.tensordot(states, self.cast(self.logit_kernel), 1), self.variable_dtype) + self.logit_bias
    )

  def _states(self, z: tf.Tensor | None, context: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """What the softmax reads, `[length, batch, hidden]`; z None: without z's part."""
    inputs, *mask = map(self.cast, context)
    initial, constant = self._from_latent(z, tf.shape(inputs)[0])
    states = lstm(inputs, constant, initial, self.cast(self.recurrent))
    return states * transpose(mask[0], [1, 0, 2]) if mask else states

  def _step(
    self, token: tf.Tensor, h: tf.Tensor, c: tf.Tensor, constant: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Hidden state and cell after `token` `[num]`; `constant` is z's part of the gate inputs."""
    gates = tf.matmul(tf.gather(self.cast(self.embedding), token), self.cast(self.kernel))
    gates += self.cast(self.bias) + constant + tf.matmul(h, self.cast(self.recurrent))
    return lstm_cell(gates, c)

  def _without_latent(self, num: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The initial hidden state `[num, hidden]` and z's part of the gate inputs `[num, 4 hidden]` where z has none."""
    zeros = tf.zeros([num, 4 * self.hidden_dim], self.compute_dtype)
    return zeros[:, : self.hidden_dim], zeros
