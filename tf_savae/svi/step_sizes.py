"""What a model trains of its steps: α_0 … α_{K−1}, and the network of a rule that has one."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_savae.posterior import GaussianParams, Params
from tf_savae.svi.settings import SVISettings

LEARNED = ("none", "step", "block", "latent")


class StepSizes(keras.layers.Layer):
  """The step sizes of K steps, and the rule's network, if any.

  Trainable sizes are the exp of a variable, which keeps them positive.

  Args:
    svi: gives K and the (initial) sizes: a number, K numbers, `[K, latent]`, `[K, 2, 1]` or `[K, 2, latent]`.
    learned: "none", "step" (one size per step), "block" (one per step for μ and one for log σ²) or "latent" (one per
      step and latent). Given sizes with more detail keep it.
    latent_dim: number of latents.
    seed: of the initial weights of the rule's network.
    kind: the type of λ.

  Raises:
    ValueError: if `learned` is unknown, or a size to be trained is not positive.
  """

  def __init__(
    self,
    svi: SVISettings,
    learned: str,
    latent_dim: int,
    seed: int = 0,
    kind: type[Params] = GaussianParams,
    **kwargs: Any,
  ):
    super().__init__(**kwargs)
    if learned not in LEARNED:
      raise ValueError(f"learn_step_size must be one of {', '.join(LEARNED)}. Received: {learned!r}")
    self.svi, self.learned = svi, learned
    rule: Any = svi.step_rule.for_params(kind)
    self.rule_network = rule.make_network(latent_dim, seed, self.variable_dtype) if rule.trained else None
    self.log_sizes = None
    if learned == "none" or svi.num_steps == 0:
      return
    initial = np.asarray(svi.step_size, np.float64)
    if not np.all(initial > 0):
      raise ValueError(f"A step size that is trained must start positive. Received: {svi.step_size}")
    initial = initial.reshape([-1, 1]) if initial.ndim < 2 else initial
    if learned == "block" and initial.ndim == 2:
      initial = initial[:, np.newaxis]
    shape = [svi.num_steps, *initial.shape[1:]]
    if learned == "block":
      shape[1] = 2
    elif learned == "latent":
      shape[-1] = latent_dim
    initial = np.broadcast_to(initial, shape)
    self.log_sizes = self.add_weight(
      name="log_step_sizes", shape=shape, initializer=lambda s, dtype: tf.constant(np.log(initial), dtype)
    )

  def sizes(self, k: int) -> tf.Tensor | float:
    """The first `k` sizes, `[k]`, `[k, latent]`, `[k, 2, 1]` or `[k, 2, latent]`; the last is repeated beyond K."""
    if self.log_sizes is not None:
      sizes = tf.exp(self.log_sizes.value)
      if self.log_sizes.shape[1:] == (1,):
        sizes = sizes[:, 0]
    elif tf.is_tensor(self.svi.step_size) or np.ndim(self.svi.step_size):
      sizes = tf.convert_to_tensor(self.svi.step_size, self.variable_dtype)
    else:
      return float(self.svi.step_size)  # type: ignore[arg-type] # one number here
    if k <= self.svi.num_steps or sizes.shape.rank == 0:
      return sizes[:k] if sizes.shape.rank else sizes
    rest = tf.repeat(sizes[-1:], k - self.svi.num_steps, axis=0)
    return tf.concat([sizes, rest], axis=0)

  def settings(self, k: int) -> SVISettings:
    """The model's SVI settings for `k` steps."""
    settings = dataclasses.replace(self.svi, num_steps=k, step_size=self.sizes(k))
    if self.rule_network is None:
      return settings
    rule: Any = self.svi.step_rule
    return dataclasses.replace(settings, rule=dataclasses.replace(rule, network=self.rule_network))
