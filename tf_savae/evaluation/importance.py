"""Importance-sampled log p(x) with what tells whether it converged: effective sample size, growth with the draws."""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

from tf_savae import replicas
from tf_savae.evaluation.many_z import ManyZ
from tf_savae.inference import Inference
from tf_savae.posterior import Params
from tf_savae.seeds import Purpose

_BLOCKS = 10
_AT_ONCE = 10  # z per call, where a decoder takes many


class Importance(NamedTuple):
  """The estimate of each example, `[batch]`.

  Attributes:
    log_likelihood: log (1/S) Σ_s p(x, z_s) / q(z_s), nats; in expectation a lower bound of log p(x).
    effective_size: (Σ w)² / Σ w², from 1 to S. Near 1, one draw decides, and the estimate is far too low.
    growth: mean nats gained over the estimate from a tenth of the draws. It falls to 0 as the estimate converges.
  """

  log_likelihood: tf.Tensor
  effective_size: tf.Tensor
  growth: tf.Tensor


def estimate(batch: Inference, params: Params, num_samples: int) -> Importance:
  """Importance sampling with q_λ as the proposal (Burda et al. 2016).

  Args:
    batch: an evaluation batch, `model.inference(x)`.
    params: λ of the proposal, `[batch, latent]`.
    num_samples: S. It is rounded up, so that ten blocks of draws have equal sizes; fewer than ten are not.
  """
  blocks = min(_BLOCKS, num_samples)
  size = _AT_ONCE if getattr(batch.decoder, "takes_many_z", False) else 1
  calls = -(-num_samples // (blocks * size))
  log_prob, seed = ManyZ(batch, size), batch.seed(Purpose.IMPORTANCE)
  rows, latent = tf.unstack(tf.shape(params.mean))

  def log_weights(call):
    """`[batch, size]`."""
    draw_seed = tf.random.experimental.stateless_fold_in(seed, call)
    noise = replicas.draw_rows(
      lambda shape: tf.random.stateless_normal(shape, draw_seed, dtype=params.mean.dtype),
      [rows, size, latent],
    )
    z, of_z = batch.family.draw(params, tf.transpose(noise, [1, 0, 2]))
    return log_prob(tf.transpose(z, [1, 0, 2])) + tf.transpose(of_z)

  def block(index):
    """Log of Σ w and of Σ w² of a block, `[batch, 2]`."""

    def add(call, total):
      weights = log_weights(index * calls + call)
      sums = tf.stack([tf.reduce_logsumexp(c * weights, axis=1) for c in (1.0, 2.0)], axis=1)
      return call + 1, tf.ensure_shape(tf.reduce_logsumexp([total, sums], axis=0), nothing.shape)

    nothing = tf.fill([rows, 2], tf.constant(-math.inf, params.mean.dtype))
    nothing.set_shape([params.mean.shape[0], 2])
    return tf.while_loop(lambda call, _: call < calls, add, (tf.constant(0), nothing), parallel_iterations=1)[
      1
    ]

  sums = tf.map_fn(block, tf.range(blocks), fn_output_signature=params.mean.dtype, parallel_iterations=1)
  of_blocks = sums[:, :, 0] - math.log(calls * size)
  total = tf.reduce_logsumexp(sums, axis=0)  # [batch, 2]
  log_likelihood = total[:, 0] - math.log(blocks * calls * size)
  return Importance(
    log_likelihood,
    effective_size=tf.exp(2 * total[:, 0] - total[:, 1]),
    growth=log_likelihood - tf.reduce_mean(of_blocks, axis=0),
  )
