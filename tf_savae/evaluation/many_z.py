"""log p(x | z) at several z per observation, for any decoder."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tf_savae.inference import Inference
from tf_savae.objective import precompute
from tf_savae.seeds import Purpose


class ManyZ:
  """z `[batch, n, latent]` → log p_θ(x | z) `[batch, n]`, nats, differentiable in z.

  A decoder with `takes_many_z` shares what it computed of x. For any other decoder each observation is repeated n
  times, so that memory grows with n.

  Args:
    batch: the observations, with their decoder and its context.
    num: n.
  """

  def __init__(self, batch: Inference, num: int):
    self._decoder, self._num = batch.decoder, num
    self._shares = bool(getattr(batch.decoder, "takes_many_z", False))
    self._x, self._context = batch.x, batch.context
    if num > 1 and not self._shares:
      self._x = tf.nest.map_structure(lambda part: tf.repeat(part, num, axis=0), batch.x)
      self._context = precompute(batch.decoder, self._x, False, batch.seed(Purpose.DROPOUT))

  def __call__(self, z: tf.Tensor) -> tf.Tensor:
    if self._shares:
      return self._log_prob(z)
    rows = tf.reshape(z, [-1, z.shape[-1]])
    return tf.reshape(self._log_prob(rows), [-1, self._num])

  def _log_prob(self, z: tf.Tensor) -> Any:
    return self._decoder.log_prob(self._x, z, self._context)
