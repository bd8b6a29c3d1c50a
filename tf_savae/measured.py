"""What a step adds to a model's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_savae import replicas
from tf_savae.example_weights import ExampleWeights
from tf_savae.inference import Inferred
from tf_savae.metrics import Mean, MeanVector


class Measured:
  """The means of a batch, by the name of their metric; of the whole batch, also where replicas share it.

  Args:
    inferred: the results of inference.
    weights: of the examples.
    of_batch: scalars of the whole batch, such as its loss.
    num_steps: K of the step losses that are to be recorded; those of another number of steps are not.
  """

  def __init__(
    self, inferred: Inferred, weights: ExampleWeights, of_batch: Mapping[str, tf.Tensor], num_steps: int
  ):
    final, initial = inferred.final, inferred.initial
    values = {"bound": final.neg_elbo, "nll": final.nll, "kl": final.kl}
    if initial is not None:
      values |= {"bound_initial": initial.neg_elbo, "kl_initial": initial.kl}
    self.size = tf.cast(tf.shape(final.nll)[0], tf.float32)
    self._weight, losses = weights.total(self.size), inferred.step_losses
    self._values = {name: weights.mean(value) for name, value in values.items()}
    self._of_batch = of_batch
    self._steps: tuple[tf.Tensor, tf.Tensor] | None = None
    if losses is not None and losses.shape[0] == num_steps:
      self._steps = MeanVector.sums(losses, weights.weights)
    if replicas.share() is not None:
      self._reduce()

  def _reduce(self) -> None:
    """Makes means and sums of this replica's rows those of all rows."""
    sums = [tf.cast(value, tf.float32) * self._weight for value in self._values.values()]
    steps = [] if self._steps is None else list(self._steps)
    self.size, self._weight, *rest = replicas.totals_of_scalars([self.size, self._weight, *sums, *steps])
    means = [tf.math.divide_no_nan(total, self._weight) for total in rest[: len(sums)]]
    self._values = dict(zip(self._values, means, strict=True))
    if self._steps is not None:
      self._steps = rest[-2], rest[-1]

  def record(self, means: Mapping[str, Mean], step_losses: MeanVector | None) -> None:
    """Adds the batch to metrics, in the graph."""
    for name, value in self._values.items():
      means[name].update_state(value, sample_weight=self._weight)
    for name, value in self._of_batch.items():
      means[name].update_state(value, sample_weight=self.size)
    if step_losses is not None and self._steps is not None:
      step_losses.add(*self._steps)


def sum_of_floats(x: Any) -> tf.Tensor:
  """The sum of all numbers of x over all replicas, which is finite where they are."""
  parts = [part for part in map(tf.convert_to_tensor, tf.nest.flatten(x)) if part.dtype.is_floating]
  return replicas.total(sum((tf.reduce_sum(tf.cast(part, tf.float32)) for part in parts), tf.constant(0.0)))
