"""The learning rate falls where validation bounds stand still."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tf_savae.runs.checkpoints import TrainingProgress


@dataclasses.dataclass(frozen=True)
class LearningRateDecay:
  """The rule; its state is in `TrainingProgress`, so that a resumed run goes on with it.

  Attributes:
    factor: what the learning rate is multiplied by.
    patience: epochs without a better validation bound after which it is; 0: never.
    first_epoch: epochs before this one, counted from 1, do not count.
    every: after the first decay the rate falls in every epoch, as the paper has it for text.
  """

  factor: float
  patience: int = 0
  first_epoch: int = 0
  every: bool = False

  def after_epoch(self, epoch: int, progress: TrainingProgress, rate: tf.Variable) -> None:
    """Decays `rate` if that is due after epoch `epoch`, counted from 0, whose bound `progress` knows."""
    if epoch + 1 < self.first_epoch:
      progress.lr_stale_epochs.assign(0)
    has_begun = self.every and int(progress.lr_decays) > 0
    if has_begun or 0 < self.patience <= int(progress.lr_stale_epochs):
      rate.assign(float(rate.value) * self.factor)
      progress.lr_decays.assign_add(1)
      progress.lr_stale_epochs.assign(0)
