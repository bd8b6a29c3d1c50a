"""Whether a model uses its latent, and for what: mutual information, active units, and walks along one latent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tf_savae.evaluation import estimates
from tf_savae.evaluation.estimates import Estimate
from tf_savae.posterior import GaussianParams, Params
from tf_savae.seeds import Purpose, stateless_seed

tfd = tfp.distributions

# A latent counts as active if its posterior mean varies more than this over examples (Burda et al. 2016).
ACTIVE_VARIANCE = 0.01

# The time grows with the square of the number of examples: 10,000 with 32 latents take 15 seconds on one core.
MAX_EXAMPLES = 10_000

# Numbers held at once: 16 MB in float64.
_CHUNK = 2_000_000


def active_units(means: np.ndarray) -> int:
  """Number of latents whose posterior mean varies over examples (Burda et al. 2016).

  Args:
    means: posterior means `[examples, latent]`; all results use those of λ_K.
  """
  return int(np.sum(np.var(means, axis=0, dtype=np.float64) > ACTIVE_VARIANCE))


def mutual_information(params: Params, seed: int) -> Estimate:
  """I_q(x; z) in nats: how much z ~ q_λ tells about the example that it was drawn for.

  I_q(x; z) = E_x E_{q(z|x)} [log q(z | x) − log q(z)], where the aggregate posterior q(z) = (1/N) Σ_n q(z | x_n) is the
  mixture over all N examples. It is 0 if the posterior has collapsed. The estimate uses one draw z per example. It
  cannot exceed log N, so a small split hides how much a large latent knows. Of more than 10,000 examples, 10,000
  evenly spaced ones are used.

  The noise of the refinement makes the λ_K of examples differ, too, and this counts here and in `active_units`. The
  value at λ_0 shows how much it matters.

  Source: Hoffman and Johnson (2016); estimated in this way by Dieng et al. (2019) and He et al. (2019).

  A flow that all posteriors share changes neither q(z | x) / q(z) nor this, so the λ of its Gaussians are all it takes.

  Args:
    params: λ of N examples, each `[N, latent]`.
    seed: seed of the draws; equal seeds give equal noise.

  Returns:
    The estimate. Its standard error is over the examples that z is drawn for, with the mixture held fixed.
  """
  n = len(params.mean)
  if n > MAX_EXAMPLES:
    rows = np.arange(MAX_EXAMPLES) * n // MAX_EXAMPLES
    params = tf.nest.map_structure(lambda part: np.asarray(part)[rows], params)
  # In float32, (z − μ) / σ would keep too few digits for a narrow posterior far from 0.
  params = tf.nest.map_structure(lambda part: tf.cast(part, tf.float64), params)
  seed = stateless_seed(seed, 0, Purpose.MUTUAL_INFORMATION)
  diagonal = isinstance(params, GaussianParams)
  terms = _terms(params.mean, params.log_var, seed) if diagonal else _terms_of_any(params, seed)
  return estimates.mean(terms.numpy())


@tf.function(
  input_signature=[*[tf.TensorSpec([None, None], tf.float64)] * 2, tf.TensorSpec([2], tf.int32)],
  autograph=False,
)
def _terms(mean, log_var, seed):
  """`_terms_of` for diagonal Gaussians of any size."""
  return _terms_of(GaussianParams(mean, log_var), seed)


@tf.function(autograph=False, reduce_retracing=True)
def _terms_of_any(params, seed):
  """`_terms_of` for λ of another type, traced anew for another number of latents."""
  return _terms_of(params, seed)


def _terms_of(params, seed):
  """log q(z_n | x_n) − log q(z_n) for one draw per example, `[N]`."""
  n, latent = tf.unstack(tf.shape(params.mean))
  each = params.distribution()
  mixture = tfd.MixtureSameFamily(tfd.Categorical(logits=tf.zeros([n], tf.float64)), each)
  z = params.sample(tf.random.stateless_normal([n, latent], seed, dtype=tf.float64))
  size = tf.maximum(_CHUNK // (n * latent), 1)
  chunks = tf.TensorArray(tf.float64, size=0, dynamic_size=True, infer_shape=False, element_shape=[None])

  def add(i, chunks):
    return i + 1, chunks.write(i, mixture.log_prob(z[i * size : (i + 1) * size]))

  _, chunks = tf.while_loop(lambda i, _: i * size < n, add, (tf.constant(0), chunks), parallel_iterations=1)
  return each.log_prob(z) - chunks.concat()


def most_active(means: np.ndarray, n: int) -> np.ndarray:
  """Indices of the `n` latents whose posterior means `[examples, latent]` vary most, the most active first."""
  return np.argsort(-np.var(means, axis=0, dtype=np.float64), kind="stable")[:n]


def traversal(start: np.ndarray, latent: int, values: Sequence[float]) -> np.ndarray:
  """The latent code `start` `[latent]` with one of its entries set to each of n values: `[n, latent]`."""
  z = np.repeat(start[np.newaxis], len(values), axis=0)
  z[:, latent] = values
  return z
