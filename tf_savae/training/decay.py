"""Decay of the learning rate when validation bounds stop improving."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tf_savae.runs.checkpoints import TrainingProgress


@dataclasses.dataclass(frozen=True)
class LearningRateDecay:
  """The rule of decay; its state is in `TrainingProgress`, so that a resumed run continues with it.

  Attributes:
    factor: factor on the learning rate.
    patience: number of epochs without a better validation bound before the rate decays; 0: never.
    first_epoch: the first epoch, counted from 1, that counts.
    every: whether the rate falls in every epoch after the first decay, as in the paper for text.
  """

  factor: float
  patience: int = 0
  first_epoch: int = 0
  every: bool = False

  def after_epoch(self, epoch: int, progress: TrainingProgress, rate: tf.Variable) -> None:
    """Decays `rate` if this is due after epoch `epoch`, counted from 0, whose bound is in `progress`."""
    if epoch + 1 < self.first_epoch:
      progress.lr_stale_epochs.assign(0)
    has_begun = self.every and int(progress.lr_decays) > 0
    if has_begun or 0 < self.patience <= int(progress.lr_stale_epochs):
      rate.assign(float(rate.numpy()) * self.factor)
      progress.lr_decays.assign_add(1)
      progress.lr_stale_epochs.assign(0)
