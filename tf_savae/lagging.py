"""Lagging inference networks: the encoder is trained aggressively while it learns more about x (He et al. 2019).

While training is aggressive, updates of φ alone are followed by one of θ alone. The updates of φ go on until their loss
stops falling, as judged by windows of 15, or up to a limit. After each validation the mutual information of x and z is
compared with that of the validation before. Once it has fallen, every update trains both θ and φ, until the end.

All state is in variables of the model, so a resumed run goes on exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.posterior import GaussianParams

_WINDOW = 15  # updates of φ whose mean losses are compared, as in the authors' program

Pairs = Sequence[tuple[tf.Tensor, keras.Variable]]


class Lagging(keras.layers.Layer):
  """Which of θ and φ an update trains, and until when.

  An optimiser counts its updates, and Adam corrects its means by that count. θ and φ therefore have counts of their
  own, as with an optimiser for each.

  Args:
    limit: the most updates of φ before one of θ, 1 or more; the authors take 100.

  Attributes:
    aggressive: whether θ still waits for φ, a bool.
  """

  def __init__(self, limit: int, **kwargs: Any):
    super().__init__(**kwargs)
    self.limit = limit

    def state(name: str, value: float, dtype: str) -> keras.Variable:
      initial = keras.initializers.Constant(value)
      return self.add_weight(name=name, shape=(), dtype=dtype, initializer=initial, trainable=False)

    self.aggressive = state("aggressive", 1, "bool")
    self.decoder_is_next = state("decoder_is_next", 0, "bool")
    self.inner_updates = state("inner_updates", 0, "int64")
    self.window_loss = state("window_loss", 0.0, "float32")
    self.window_terms = state("window_terms", 0.0, "float32")
    self.last_loss = state("last_loss", math.inf, "float32")
    self.last_information = state("last_information", 0.0, "float32")
    self.updates = {name: state(f"{name}_updates", 0, "int64") for name in ("decoder", "encoder")}
    self.built = True

  def apply(self, optimizer: keras.optimizers.Optimizer, pairs: Pairs, theta: set[int]) -> None:
    """Applies the gradients of those that this update trains, in the graph.

    Args:
      optimizer: built for all variables.
      pairs: (gradient, variable) of all.
      theta: ids of the decoder's variables; all others are of φ.
    """
    waits, next_ = self.aggressive.value, self.decoder_is_next.value
    wanted = {"decoder": ~waits | next_, "encoder": ~waits | ~next_}
    total = tf.identity(optimizer.iterations.value)
    for name, count in self.updates.items():
      group = [pair for pair in pairs if (id(pair[1]) in theta) == (name == "decoder")]
      if group:
        _only_if(wanted[name], lambda group=group, count=count: _apply(optimizer, group, count))
    optimizer.iterations.assign(total + 1)

  def after_update(self, loss: tf.Tensor, terms: tf.Tensor) -> None:
    """Decides in the graph what the next update trains.

    Args:
      loss: the sum over the batch.
      terms: how many terms it has, such as tokens, by which windows are compared.
    """
    first, window = self.decoder_is_next.value, self.inner_updates.value + 1
    total, number = self.window_loss.value + loss, self.window_terms.value + terms
    is_end = window % _WINDOW == 0
    mean = total / number
    has_converged = (is_end & (mean > self.last_loss.value)) | (window >= self.limit)
    zero, none = tf.zeros_like(total), tf.zeros_like(window)

    def new(after_decoder: Any, otherwise: Any) -> tf.Tensor:
      return tf.where(first | ~self.aggressive.value, after_decoder, otherwise)

    values = (
      (self.inner_updates, new(none, window)),
      (self.window_loss, new(zero, tf.where(is_end, zero, total))),
      (self.window_terms, new(zero, tf.where(is_end, zero, number))),
      (self.last_loss, new(zero + math.inf, tf.where(is_end, mean, self.last_loss.value))),
      (self.decoder_is_next, new(tf.constant(False), has_converged)),
    )
    for variable, value in values:
      variable.assign(value)

  def after_validation(self, information: float) -> None:
    """Ends aggressive training if the mutual information, in nats, is less than at the validation before."""
    if information < float(self.last_information.numpy()):
      self.aggressive.assign(False)
    self.last_information.assign(information)


class Validations(keras.callbacks.Callback):
  """Tells a model's `Lagging` the mutual information of each validation.

  Raises:
    UserError: `fit` has no validation data.
  """

  def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
    name = f"val_{INFORMATION}"
    if name not in (logs or {}):
      raise UserError(
        "lagging_updates needs validation data, by which it sees when to stop; received none; give fit"
        " validation_data, or set lagging_updates=0"
      )
    self.model.lagging.after_validation(float(logs[name]))  # type: ignore[index] # it has the name


#: Name of the metric.
INFORMATION = "mutual_information"


def mutual_information(params: GaussianParams, noise: tf.Tensor) -> tf.Tensor:
  """I_q(x; z) in nats, a scalar, where the aggregate posterior is that of the batch.

  E_x[E_q log q(z | x)], in closed form, minus the mean of log q(z) at one draw per example. It is at most log batch.

  Args:
    params: λ_0, each `[batch, latent]`.
    noise: ε, `[batch, latent]`.

  Source: He et al. (2019), section 3.2 and their program; Hoffman and Johnson (2016).
  """
  each = params.distribution()
  z = params.sample(noise)[:, tf.newaxis]
  log_density = each.log_prob(z)  # [draws, components]
  size = tf.cast(tf.shape(log_density)[1], log_density.dtype)
  aggregate = tf.reduce_logsumexp(log_density, axis=1) - tf.math.log(size)
  return -tf.reduce_mean(each.entropy()) - tf.reduce_mean(aggregate)


def num_terms(decoder: Any, x: Any, size: tf.Tensor) -> tf.Tensor:
  """Terms of a batch's log p(x | z), a scalar: `decoder.num_terms(x)` `[batch]`, or one per example."""
  if not hasattr(decoder, "num_terms"):
    return tf.cast(size, tf.float32)
  return tf.reduce_sum(tf.cast(decoder.num_terms(x), tf.float32))


def _apply(optimizer: keras.optimizers.Optimizer, pairs: Pairs, count: keras.Variable) -> None:
  optimizer.iterations.assign(count.value)
  optimizer.apply_gradients(pairs)
  count.assign(count.value + 1)


def _only_if(condition: tf.Tensor, work: Callable[[], Any]) -> None:
  def done():
    work()
    return tf.constant(0)

  tf.cond(condition, done, lambda: tf.constant(0))
