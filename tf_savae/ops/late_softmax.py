"""A softmax over the vocabulary whose logits are a part l_t of each position and a part b that all positions share.

With E_tv = exp(l_tv − max_v l_tv), the log partition function of position t is log Σ_v E_tv exp(b_v), up to the
constant that E leaves out. So where many b meet one l, E is made once, and each b costs one product with it. Its
gradient and a directional derivative cost one product more, and second derivatives another.

With b shifted to a maximum of 0, Z_t = Σ_v E_tv exp(b_v) lies in (0, vocabulary size]. It is small where the words that
l and b favour differ. Below 1e-19 in float32 (44 nats apart) it counts as that constant, so that no number overflows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_savae import tokens
from tf_savae.ops.owned_gradients import custom_gradient


def word_weights(
  states: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, targets: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """What l contributes, of l_t = states_t · kernel + bias.

  Args:
    states: what the softmax layer reads, `[batch, length, hidden]`.
    kernel: its weights, `[hidden, vocab]`.
    bias: `[vocab]`, of the dtype in which the likelihood is computed.
    targets: token ids, `[batch, length]` int32.

  Returns:
    E `[batch, length, vocab]`; Σ_t (l_t,target − max_v l_tv) over tokens, without padding, `[batch]`.
  """
  length, vocab = tf.shape(states)[1], bias.shape[0]
  rows = tf.reshape(states, [-1, states.shape[-1]])
  logits = tf.cast(tf.matmul(rows, kernel), bias.dtype) + bias
  # A constant: whatever is subtracted here cancels in the likelihood.
  largest = tf.stop_gradient(tf.reduce_max(logits, axis=-1, keepdims=True))
  logits = tf.reshape(logits - largest, [-1, length, vocab])
  return tf.exp(logits), tokens.total(tf.gather(logits, targets, batch_dims=2), targets, axis=1)


def log_partition(weights: tf.Tensor, shared: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
  """Σ_t mask_t log Σ_v E_tv exp(b_v), `[batch, n]`, nats; differentiable any number of times.

  Args:
    weights: E, `[batch, length, vocab]`.
    shared: b, `[batch, n, vocab]`.
    mask: `[batch, length]`, of the dtype of E.
  """
  largest = tf.stop_gradient(tf.reduce_max(shared, axis=-1, keepdims=True))
  partition = tf.matmul(tf.exp(shared - largest), weights, transpose_b=True)
  mask = mask[:, tf.newaxis]
  return tf.reduce_sum(mask * (tf.math.log(_positive(partition)) + largest), axis=-1)


def log_partition_derivative(
  weights: tf.Tensor, shared: tf.Tensor, d_shared: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
  """The derivative of `log_partition` along `d_shared` `[batch, n, vocab]`: Σ_t mask_t Ż_t / Z_t, `[batch, n]`."""
  largest = tf.stop_gradient(tf.reduce_max(shared, axis=-1, keepdims=True))
  factors = tf.exp(shared - largest)
  both = tf.matmul(tf.concat([factors, factors * d_shared], axis=1), weights, transpose_b=True)
  partition, d_partition = tf.split(both, 2, axis=1)
  return tf.reduce_sum(mask[:, tf.newaxis] * d_partition / _positive(partition), axis=-1)


def _positive(partition):
  # Second derivatives divide by the square of it.
  return tf.maximum(
    partition, tf.constant(1e-150 if partition.dtype == tf.float64 else 1e-19, partition.dtype)
  )


def sum_over_chunks(
  function: Callable[..., tf.Tensor],
  states: tf.Tensor,
  targets: tf.Tensor,
  shared: Sequence[tf.Tensor],
  size: tf.Tensor | int,
) -> tf.Tensor:
  """Σ over chunks of `size` positions of `function(states, targets, *shared)`, `[batch, n]`.

  In memory are the intermediate results of one chunk: a gradient computes them anew. Second derivatives are right, too,
  but keep those of all chunks.

  Args:
    function: gives `[batch, n]`, and 0 for padding.
    states: `[batch, length, hidden]`.
    targets: `[batch, length]` int32, without gradient.
    shared: further arguments, differentiated; the last has the shape `[batch, n, …]`.
    size: positions of a chunk, 1 or more.
  """
  length = tf.shape(states)[1]
  count = (length + size - 1) // size
  after = count * size - length
  targets = tf.pad(targets, [[0, 0], [0, after]], constant_values=tokens.PAD)

  def chunk_of(x, i):
    return tf.slice(x, [0, i * size, *[0] * (x.shape.rank - 2)], [-1, size, *x.shape[2:]])

  @custom_gradient
  def total(states, *shared):
    def gradient(upstream):
      def body(i, chunks, sums):
        chunk = chunk_of(states, i)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
          tape.watch([chunk, *shared])
          value = function(chunk, chunk_of(targets, i), *shared)
        sources = [chunk, *shared]
        found = tape.gradient(value, sources, output_gradients=upstream, unconnected_gradients="zero")
        sums = [tf.ensure_shape(s + g, s.shape) for s, g in zip(sums, found[1:], strict=True)]
        return i + 1, chunks.write(i, found[0]), sums

      chunks = tf.TensorArray(states.dtype, count, element_shape=[states.shape[0], None, states.shape[2]])
      _, chunks, sums = tf.while_loop(
        lambda i, *_: i < count,
        body,
        (tf.constant(0), chunks, [tf.zeros_like(t) for t in shared]),
        parallel_iterations=1,
      )
      by_states = tf.transpose(chunks.stack(), [1, 0, 2, 3])
      return tf.reshape(by_states, tf.shape(states)), *sums

    nothing = tf.zeros_like(shared[-1][..., 0])
    _, value = tf.while_loop(
      lambda i, _: i < count,
      lambda i, so_far: (
        i + 1,
        tf.ensure_shape(so_far + function(chunk_of(states, i), chunk_of(targets, i), *shared), nothing.shape),
      ),
      (tf.constant(0), nothing),
      parallel_iterations=1,
    )
    return value, gradient

  return total(tf.pad(states, [[0, 0], [0, after], [0, 0]]), *shared)
