"""Negative log-likelihood of tokens under a softmax over the vocabulary, and its directional derivative.

The softmax is most of a text model's arithmetic, so its derivatives are written out. TensorFlow's own cross entropy
always computes its gradient, too, in passes over all logits that take longer than the products around them.

Take logits l, p = softmax(l), a target y and a tangent l̇. The loss of a token is log Σ exp(l) − l_y, and its gradient
is p − 1_y. The derivative along l̇ is ⟨p − 1_y, l̇⟩. The gradients of that are p (l̇ − ⟨p, l̇⟩) with respect to l, and
p − 1_y with respect to l̇.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_savae.ops.owned_gradients import custom_gradient


def token_nll(
  states: tf.Tensor,
  kernel: tf.Tensor,
  bias: tf.Tensor,
  targets: tf.Tensor,
  positions: int | None = None,
) -> tf.Tensor:
  """−log p(target | state) of every token in nats; twice differentiable.

  Args:
    states: input of the softmax layer, `[..., hidden]`.
    kernel: weights of the softmax layer, `[hidden, vocab]`.
    bias: `[vocab]`, with the dtype in which the likelihood is computed.
    targets: token ids, `[...]` int32.
    positions: number of tokens whose logits are held at once; None: all. Fewer than all cost one more product for the
      gradient.

  Returns:
    `[...]`, with the dtype of `bias`.
  """
  rows, flat = _rows(states), tf.reshape(targets, [-1])

  @custom_gradient
  def nll(rows, kernel, bias):
    def forward(rows, targets):
      logits = _logits(rows, kernel, bias)
      return (tf.reduce_logsumexp(logits, axis=-1) - tf.gather(logits, targets, batch_dims=1),)

    def gradient(upstream):
      if positions is None:
        return _gradient_that_keeps(rows, kernel, bias, flat, upstream)

      def backward(rows, targets, upstream):
        weighted = upstream[:, tf.newaxis] * tf.nn.softmax(_logits(rows, kernel, bias))
        return _products(rows, kernel, _minus_one_hot(weighted, targets, upstream))

      return _in_chunks(backward, (rows, flat, upstream), positions, [rows], [kernel, bias])

    return _in_chunks(forward, (rows, flat), positions, [bias[:1]])[0], gradient

  return tf.reshape(nll(rows, kernel, bias), tf.shape(targets))


def token_nll_derivative(
  states: tf.Tensor,
  d_states: tf.Tensor,
  kernel: tf.Tensor,
  bias: tf.Tensor,
  targets: tf.Tensor,
  positions: int | None = None,
) -> tf.Tensor:
  """The derivative of `token_nll` along `d_states`, `[...]`, differentiable with respect to every float argument.

  Args:
    states, kernel, bias, targets, positions: as for `token_nll`.
    d_states: direction, `[..., hidden]`.
  """
  flat = tf.reshape(targets, [-1])

  @custom_gradient
  def derivative(rows, d_rows, kernel, bias):
    def forward(rows, d_rows, targets):
      logits, d_logits = _pair_of_logits(rows, d_rows, kernel, bias)
      mean = tf.reduce_sum(tf.nn.softmax(logits) * d_logits, axis=-1)
      return (mean - tf.gather(d_logits, targets, batch_dims=1),)

    def gradient(upstream):
      def backward(rows, d_rows, targets, upstream):
        logits, d_logits = _pair_of_logits(rows, d_rows, kernel, bias)
        p = tf.nn.softmax(logits)
        mean = tf.reduce_sum(p * d_logits, axis=-1, keepdims=True)
        weighted = upstream[:, tf.newaxis] * p
        by_logits = weighted * (d_logits - mean)
        by_d_logits = _minus_one_hot(weighted, targets, upstream)
        both, by_kernel, _ = _products(
          tf.concat([rows, d_rows], 0), kernel, tf.concat([by_logits, by_d_logits], 0)
        )
        return *tf.split(both, 2), by_kernel, tf.reduce_sum(by_logits, axis=0)

      return _in_chunks(backward, (rows, d_rows, flat, upstream), positions, [rows, d_rows], [kernel, bias])

    return _in_chunks(forward, (rows, d_rows, flat), positions, [bias[:1]])[0], gradient

  return tf.reshape(derivative(_rows(states), _rows(d_states), kernel, bias), tf.shape(targets))


def _gradient_that_keeps(rows, kernel, bias, targets, upstream):
  """The gradients of rows, kernel and bias; for its own gradient, that of the rows keeps p only."""
  # The same product as for the loss, so TensorFlow computes it once for both.
  p = tf.nn.softmax(_logits(rows, kernel, bias))

  def by_logits():
    return _minus_one_hot(upstream[:, tf.newaxis] * p, targets, upstream)

  @custom_gradient
  def of_rows(upstream, rows, kernel, bias):
    def gradient(direction):
      d_logits = tf.cast(tf.matmul(direction, kernel), bias.dtype)
      mean = tf.reduce_sum(p * d_logits, axis=-1, keepdims=True)
      by_upstream = mean[:, 0] - tf.gather(d_logits, targets, batch_dims=1)
      by_rows, by_kernel, by_bias = _products(rows, kernel, upstream[:, tf.newaxis] * p * (d_logits - mean))
      by_kernel += tf.matmul(direction, tf.cast(by_logits(), rows.dtype), transpose_a=True)
      return by_upstream, by_rows, by_kernel, by_bias

    return tf.matmul(tf.cast(by_logits(), rows.dtype), kernel, transpose_b=True), gradient

  _, by_kernel, by_bias = _products(rows, kernel, by_logits())
  return of_rows(upstream, rows, kernel, bias), by_kernel, by_bias


def _rows(states):
  return tf.reshape(states, [-1, states.shape[-1]])


def _logits(rows, kernel, bias):
  return tf.cast(tf.matmul(rows, kernel), bias.dtype) + bias


def _pair_of_logits(rows, d_rows, kernel, bias):
  logits, d_logits = tf.split(tf.cast(tf.matmul(tf.concat([rows, d_rows], 0), kernel), bias.dtype), 2)
  return logits + bias, d_logits


def _minus_one_hot(values, targets, upstream):
  """`values` `[rows, vocab]` minus `upstream` `[rows]` at each row's target."""
  index = tf.stack([tf.range(tf.shape(targets)[0]), targets], axis=1)
  return tf.tensor_scatter_nd_sub(values, index, upstream)


def _products(rows, kernel, by_logits):
  """The gradients of rows, kernel and bias from the gradient with respect to the logits."""
  by_bias = tf.reduce_sum(by_logits, axis=0)
  by_logits = tf.cast(by_logits, rows.dtype)
  by_rows = tf.matmul(by_logits, kernel, transpose_b=True)
  return by_rows, tf.matmul(rows, by_logits, transpose_a=True), by_bias


def _in_chunks(
  function: Callable[..., tuple[tf.Tensor, ...]],
  rows: Sequence[tf.Tensor],
  positions: int | None,
  rows_like: Sequence[tf.Tensor],
  sums_like: Sequence[tf.Tensor] = (),
) -> tuple[tf.Tensor, ...]:
  """`function(*rows)`, `positions` rows at a time.

  Args:
    function: returns one tensor with as many rows for each of `rows_like`, and one sum over rows for each of
      `sums_like`.
    rows: arguments of `function`, all with the same number of rows.
    positions: rows at a time; None: all at once, without a loop.
    rows_like, sums_like: tensors with the dtypes and shapes (apart from the number of rows) of its results.
  """
  if positions is None:
    return function(*rows)
  total = tf.shape(rows[0])[0]
  count = (total + positions - 1) // positions
  arrays = [
    tf.TensorArray(t.dtype, count, element_shape=[None, *t.shape[1:]], infer_shape=False) for t in rows_like
  ]

  def body(i, arrays, sums):
    first = i * positions
    size = tf.minimum(positions, total - first)
    results = function(*(tf.slice(t, [first, *[0] * (t.shape.rank - 1)], [size, *t.shape[1:]]) for t in rows))
    parts, added = results[: len(arrays)], results[len(arrays) :]
    arrays = [a.write(i, part) for a, part in zip(arrays, parts, strict=True)]
    return i + 1, arrays, [s + a for s, a in zip(sums, added, strict=True)]

  _, arrays, sums = tf.while_loop(
    lambda i, *_: i < count,
    body,
    (tf.constant(0), arrays, [tf.zeros_like(t) for t in sums_like]),
    parallel_iterations=1,
  )
  return *(a.concat() for a in arrays), *sums
