"""Stateless randomness: every draw is a function of (seed, step, purpose).

Nothing keeps a generator's state, so a resumed run draws what the uninterrupted one would have drawn, and
the backward sweep of a refinement can replay its forward noise.
"""

from __future__ import annotations

import enum

import tensorflow as tf


class Purpose(enum.IntEnum):
  """What a draw is for. The numbers are part of a run's meaning: append, never renumber."""

  ORDER = 0  # order of the training examples within an epoch
  BINARISE = 1  # dynamic binarisation of training images
  SPLIT = 2  # division of a data set into train, validation and test
  FIXED_BINARISE = 3  # the one binarisation of validation and test images
  NOISE = 4  # ε of the refinement and of the final bound
  INITIAL = 5  # SVI's random λ_0
  DROPOUT = 6
  PRIOR = 7  # z ~ p(z)
  GENERATE = 8  # x ~ p(x | z)
  IMPORTANCE = 9  # z ~ q of the importance-sampled likelihood
  EVALUATION = 10  # ε at evaluation
  ORACLE = 11  # weights and data of the synthetic oracle
  MUTUAL_INFORMATION = 12  # z ~ q of the mutual information
  POSTERIOR = 13  # z ~ q that is decoded
  OPTIMUM = 14  # ε of the search for an example's best posterior
  BOUND = 15  # ε of bounds that average many draws
  ANNEALING = 16  # chains of annealed importance sampling
  PROPOSALS = 17  # further ε of importance-weighted bounds in training


def stateless_seed(seed: int | tf.Tensor, step: int | tf.Tensor, purpose: Purpose) -> tf.Tensor:
  """Seed `[2]` int32 for `tf.random.stateless_*`, different for every (seed, step, purpose)."""
  base = tf.stack([tf.cast(seed, tf.int32), tf.constant(int(purpose), tf.int32)])
  return tf.random.experimental.stateless_fold_in(base, tf.cast(step, tf.int32))
