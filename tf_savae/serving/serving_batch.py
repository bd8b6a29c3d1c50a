"""A served batch, whose noise is the same for every row, so that a row's answer depends on that row alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae.inference import Inference
from tf_savae.model import SAVAE
from tf_savae.objective import Bound
from tf_savae.posterior import Params
from tf_savae.seeds import Purpose, stateless_seed
from tf_savae.svi.derivatives import over_samples
from tf_savae.svi.descent import Problem, descend
from tf_savae.svi.noise import AtMean, Draws, Independent


@dataclasses.dataclass(frozen=True)
class SharedNoise:
  """All noise of serving, drawn once at export; every row of every batch uses the same noise.

  If training's draws are antithetic, so are these, including those of the bounds.

  Attributes:
    steps: ε of the refinement, `[K, num_samples, 1, latent]`. The first k steps are those of every smaller k.
    bound: ε of the bounds, `[num_samples, 1, latent]`.
    initial: N(0, I) for the λ_0 of a method without encoder, `[1, 2, latent]`.
  """

  steps: np.ndarray
  bound: np.ndarray
  initial: np.ndarray

  @classmethod
  def draw(cls, seed: int, max_k: int, latent_dim: int, draws: Draws) -> SharedNoise:
    """Noise for up to `max_k` steps, a function of `seed`.

    Args:
      seed: of all noise.
      max_k: the largest K that is served.
      latent_dim: size of z.
      draws: of a step and of a bound; a bound takes Gaussian draws, also where the steps are taken at the mean.
    """

    def normal(shape, step, purpose=Purpose.EVALUATION):
      return tf.random.stateless_normal(shape, stateless_seed(seed, step, purpose))

    def sampled(step, draws):
      return draws.all_samples(normal([draws.num_independent, 1, latent_dim], step)).numpy()

    of_bound = Independent(draws.num_samples) if isinstance(draws, AtMean) else draws
    steps = [sampled(1 + k, draws) for k in range(max_k)]
    return cls(
      np.reshape(steps, [max_k, draws.num_samples, 1, latent_dim]).astype(np.float32),
      sampled(0, of_bound),
      normal([1, 2, latent_dim], 0, Purpose.INITIAL).numpy(),
    )

  @property
  def num_samples(self) -> int:
    """Draws whose gradients, and whose bounds, are averaged."""
    return self.bound.shape[0]


class ServingBatch(Inference):
  """`Inference` under `SharedNoise`, made to be exported.

  Its refinement needs first derivatives only: per step and draw, one pass of the decoder and one back to z. The graph
  has no custom gradients, and no tape stays open outside a step.

  Args:
    model: the trained model.
    x: the observation.
    k: SVI steps.
    noise: for `k` steps or more.
    mask: 1 where x was seen; None: all of it was.
  """

  def __init__(self, model: SAVAE, x: Any, k: int, noise: SharedNoise, mask: tf.Tensor | None = None):
    settings = dataclasses.replace(model.step_sizes.settings(k), num_samples=noise.num_samples)
    family = model.family
    options = {"seed": model.seed, "dtype": model.variable_dtype, "family": family, "mask": mask}
    super().__init__(model.encoder, model.decoder, x, settings, **options)
    self._noise = noise

  @property
  def noise(self) -> tf.Tensor:
    raise AttributeError("a served batch has no noise of its own rows; see SharedNoise")

  def random_initial(self, scale: float) -> Params:
    """λ_0 of a method without encoder: one draw for all rows."""
    draw = scale * tf.tile(self._noise.initial, [self.size, 1, 1])
    return self.family.start((draw[:, 0], draw[:, 1]))

  def posterior(self) -> Params | None:
    """λ_K, each `[batch, latent]`; None for a model without latent."""
    initial, settings = self.start(), self.settings
    if initial is None or settings.num_steps == 0:
      return initial
    problem = Problem(
      self.step_objective,
      initial.pack(),
      settings.sizes_for(initial),
      tf.constant(self._noise.steps[: settings.num_steps]),
      self.conditions,
      settings.step_rule.for_params(type(initial)),
      settings.tolerance,
      kind=type(initial),
    )
    return problem.kind.unpack(descend(problem).params[-1])

  def bound(self, params: Params | None) -> Bound:
    """The bound at λ, averaged over the noise draws, `[batch]`, nats."""
    if params is None:
      return self.objective.bound(None, None, self.x, self.context)

    def parts(draw):
      nll, kl, penalty, _ = self.objective.bound(params, draw, self.x, self.context)
      return [nll, kl, penalty]

    return Bound(*over_samples(parts, tf.constant(self._noise.bound)))
