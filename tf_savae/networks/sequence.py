"""What every decoder of text offers besides `Decoder`: one token at a time, for all that generates."""

from __future__ import annotations

import abc
from typing import Any

import tensorflow as tf

from tf_savae import tokens
from tf_savae.networks import decoding
from tf_savae.networks.decoder import Decoder
from tf_savae.observations import Support, token_ids


class SequenceDecoder(Decoder):
  """p_θ(x | z) = Π_t p(x_t | x_<t, z) over documents of any length; ids as in `tf_savae.tokens`.

  Attributes:
    vocab_size: number of token ids, special ones included.
    max_length: tokens of the longest sample, its END included.
  """

  vocab_size: int
  max_length: int

  @property
  def support(self) -> Support:
    """Ids of the vocabulary."""
    return token_ids(self.vocab_size)

  def num_terms(self, x: tf.Tensor) -> tf.Tensor:
    """Number of terms of log p(x | z), `[batch]`: words and END."""
    return tokens.lengths(tf.cast(x, tf.int32))

  @abc.abstractmethod
  def start(self, z: tf.Tensor | None, num: int | tf.Tensor) -> Any:
    """The state before the first token: all that `next` needs to know of z and of the tokens so far.

    Args:
      z: `[num, latent]`; None where latent_dim is 0.
      num: number of documents.

    Returns:
      A nest of tensors, each with `num` as its first dimension and of a shape that `next` does not change.
    """

  @abc.abstractmethod
  def next(self, token: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
    """The distribution of the token after `token`.

    Args:
      token: the token before, `[num]` int32; START at first.
      state: as `start` or the last call gave it.

    Returns:
      Logits `[num, vocab]` of the variables' dtype, and the new state.
    """

  def sample(
    self, z: tf.Tensor | None, seed: tf.Tensor, num: int | tf.Tensor | None = None, progress: bool = False
  ) -> tf.Tensor:
    """Ancestral samples x ~ p_θ(x | z), `[batch, length]` int32, PAD after END. See `Decoder.sample`.

    PAD and START are never drawn. `progress` shows nothing: the loop over tokens runs inside one graph.
    """
    return decoding.generate(self, z, num, seed)

  def decode(self, z: tf.Tensor | None) -> tf.Tensor:
    """Token probabilities `[batch, length, vocab]` when every token before is the most probable one."""
    return decoding.greedy_probabilities(self, z)
