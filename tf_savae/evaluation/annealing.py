"""Annealed importance sampling with Hamiltonian Monte Carlo: log p(x) of any decoder, and bounds from both sides.

A chain moves z from the prior to the posterior through p(z) p(x | z)^β, β from 0 to 1 (Neal 2001). Its weight is an
unbiased estimate of p(x), so the log of the mean weight is a lower bound of log p(x) in expectation. The same chain run
backwards from an exact draw of the posterior gives an upper bound. Such a draw exists for observations that the model
itself made, so both together bound the error on them (bidirectional Monte Carlo: Grosse et al. 2015, Wu et al. 2017).

Step sizes are found by a first pass with draws of its own, and are fixed in the passes that count. Each transition
therefore leaves its distribution unchanged, and the bounds hold.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tf_savae.evaluation.many_z import ManyZ
from tf_savae.inference import Inference
from tf_savae.posterior import Params, prior
from tf_savae.seeds import Purpose

_ACCEPTED = 0.75  # the acceptance that step sizes are adapted to
_RATE = 0.2  # of the adaptation, in log step size per transition
_SLOPE = 4.0  # of the sigmoid along which β rises (Wu et al. 2017)
_PASSES = {"tune": 0, "forward": 1, "reverse": 2}


@dataclasses.dataclass(frozen=True)
class Annealing:
  """How chains are annealed.

  Attributes:
    steps: number of distributions from the prior to the posterior, 2 or more; more steps, tighter bounds.
    chains: independent chains per example.
    leapfrogs: leapfrog steps per transition.
    step_size: of the leapfrog steps at first, in standard deviations; it adapts.
  """

  steps: int = 200
  chains: int = 8
  leapfrogs: int = 5
  step_size: float = 0.3

  def __post_init__(self):
    if self.steps < 2 or self.chains < 1 or self.leapfrogs < 1 or not self.step_size > 0:
      raise ValueError(
        f"Annealing takes 2 steps or more, a chain or more, and a step size above 0. Received: {self}"
      )

  def betas(self) -> np.ndarray:
    """β_0 = 0 … β_T = 1, `[steps + 1]`."""
    places = np.tanh(0.5 * _SLOPE * np.linspace(-1, 1, self.steps + 1))
    return (places - places[0]) / (places[-1] - places[0])


class Annealed(NamedTuple):
  """The estimate of each example, `[batch]`.

  Attributes:
    log_likelihood: log of the mean weight of the chains, nats; in expectation a lower bound of log p(x).
    effective_size: (Σ w)² / Σ w² over the chains, from 1 to their number.
    acceptance: mean probability with which a transition is accepted.
  """

  log_likelihood: tf.Tensor
  effective_size: tf.Tensor
  acceptance: tf.Tensor


class Sandwich(NamedTuple):
  """Bounds of log p(x) for observations whose z is known, `[batch]`, nats.

  Attributes:
    lower: from chains that run from the prior.
    upper: from chains that run back from z.
  """

  lower: tf.Tensor
  upper: tf.Tensor


def log_likelihood(batch: Inference, settings: Annealing, near: Params | None = None) -> Annealed:
  """log p_θ(x) of each observation by chains from the prior.

  Args:
    batch: an evaluation batch, `model.inference(x)`.
    settings: number of distributions, chains and leapfrog steps.
    near: a Gaussian near the posterior, such as q_λ*. Its variances scale the leapfrog steps of each latent. It has no
      influence on what is estimated.
  """
  chains = _Chains(batch, settings, near)
  weights, acceptance = chains.forward(chains.tuned())
  return Annealed(_log_mean(weights), _effective_size(weights), acceptance)


def sandwich(batch: Inference, z: tf.Tensor, settings: Annealing, near: Params | None = None) -> Sandwich:
  """Bounds of log p_θ(x) from both sides.

  Args:
    batch: observations x ~ p_θ(x | z).
    z: their latents, z ~ p(z), `[batch, latent]`.
    settings, near: as for `log_likelihood`.
  """
  chains = _Chains(batch, settings, near)
  steps = chains.tuned()
  lower, _ = chains.forward(steps)
  upper, _ = chains.reverse(steps, z)
  return Sandwich(_log_mean(lower), -_log_mean(-upper))


class _Chains:
  """The chains of a batch. Weights are logs, `[batch, chains]`; step sizes `[steps - 1, batch]`."""

  def __init__(self, batch: Inference, settings: Annealing, near: Params | None):
    self._settings, self._seed = settings, batch.seed(Purpose.ANNEALING)
    self._log_prob = ManyZ(batch, settings.chains)
    self._size, self._latent = batch.size, batch.decoder.latent_dim
    dtype = batch.beta.dtype
    self._betas = tf.constant(settings.betas(), dtype)
    variance = tf.ones([batch.size, self._latent], dtype) if near is None else tf.exp(near.log_var)
    self._precision = 1 / variance[:, tf.newaxis]

  def tuned(self) -> tf.Tensor:
    """Step sizes that adapt along chains whose weights do not count."""
    return self._run("tune", self._at_prior("tune"), None)[2]

  def forward(self, steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Weights of chains from the prior, and acceptance `[batch]`."""
    return self._run("forward", self._at_prior("forward"), steps)[:2]

  def reverse(self, steps: tf.Tensor, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Weights of chains from z back to the prior, in the sign of those of `forward`; and acceptance."""
    start = tf.repeat(z[:, tf.newaxis], self._settings.chains, axis=1)
    return self._run("reverse", tf.cast(start, self._betas.dtype), steps)[:2]

  def _at_prior(self, which: str) -> tf.Tensor:
    shape = [self._size, self._settings.chains, self._latent]
    return tf.random.stateless_normal(shape, self._fold(which, 0), dtype=self._betas.dtype)

  def _fold(self, which, t):
    return tf.random.experimental.stateless_fold_in(self._seed, 3 * t + _PASSES[which])

  def _run(self, which, start, steps):
    """A transition at each β between 0 and 1; before it, the weight of the move to the next β."""
    temperatures, gains = self._betas[1:-1], self._betas[1:] - self._betas[:-1]
    if which == "reverse":
      temperatures, gains = temperatures[::-1], gains[::-1]
      steps = steps[::-1]
    number = self._settings.steps - 1

    def body(t, z, weights, acceptance, size, sizes):
      now = size if steps is None else steps[t]
      kernel = self._kernel(temperatures[t], now)
      results = kernel.bootstrap_results(z)
      likelihood = (results.accepted_results.target_log_prob - prior(z).log_prob(z)) / temperatures[t]
      z, results = kernel.one_step(z, results, seed=self._fold(which, t + 1))
      accepted = tf.exp(tf.minimum(results.log_accept_ratio, 0))
      accepted = tf.reduce_mean(tf.where(tf.math.is_finite(accepted), accepted, 0), axis=1)
      size = size * tf.exp(_RATE * (accepted - _ACCEPTED))
      weights += gains[t] * likelihood
      return t + 1, z, weights, acceptance + accepted / number, size, sizes.write(t, now)

    rows = tf.zeros_like(start[:, 0, 0])
    values = (
      tf.constant(0),
      start,
      tf.zeros_like(start[:, :, 0]),
      rows,
      rows + self._settings.step_size,
      tf.TensorArray(start.dtype, number, element_shape=rows.shape),
    )
    _, z, weights, acceptance, _, sizes = tf.while_loop(
      lambda t, *_: t < number,
      body,
      values,
      shape_invariants=tf.nest.map_structure(
        lambda part: part.shape if isinstance(part, tf.Tensor) else tf.TensorShape(None), values
      ),
      parallel_iterations=1,
      maximum_iterations=number,
    )
    return weights + gains[-1] * self._log_prob(z), acceptance, sizes.stack()

  def _kernel(self, beta, size):
    """Hamiltonian Monte Carlo for p(z) p(x | z)^β; each latent's step is scaled by its standard deviation there."""
    spread = tf.math.rsqrt(1 - beta + beta * self._precision)

    def target(z):
      return prior(z).log_prob(z) + beta * self._log_prob(z)

    return tfp.mcmc.HamiltonianMonteCarlo(
      target, step_size=size[:, tf.newaxis, tf.newaxis] * spread, num_leapfrog_steps=self._settings.leapfrogs
    )


def _log_mean(weights):
  return tf.reduce_logsumexp(weights, axis=1) - tf.math.log(tf.cast(tf.shape(weights)[1], weights.dtype))


def _effective_size(weights):
  return tf.exp(2 * tf.reduce_logsumexp(weights, axis=1) - tf.reduce_logsumexp(2 * weights, axis=1))
