"""Whether a model uses its latent: mutual information of x and z, and active units."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tf_savae.evaluation import estimates
from tf_savae.evaluation.estimates import Estimate
from tf_savae.posterior import GaussianParams
from tf_savae.seeds import Purpose, stateless_seed

tfd = tfp.distributions

# A latent counts as active if its posterior mean varies more than this over examples (Burda et al. 2016).
ACTIVE_VARIANCE = 0.01

# Time grows with the square of the examples: 10,000 with 32 latents take 15 seconds of one core.
MAX_EXAMPLES = 10_000

# Numbers held at once: 16 MB in float64.
_CHUNK = 2_000_000


def active_units(means: np.ndarray) -> int:
  """Number of latents whose posterior mean `[examples, latent]` varies over examples; of λ_K in all results."""
  return int(np.sum(np.var(means, axis=0, dtype=np.float64) > ACTIVE_VARIANCE))


def mutual_information(params: GaussianParams, seed: int) -> Estimate:
  """I_q(x; z) in nats: what z ~ q_λ tells about which of the examples it was drawn for.

  I_q(x; z) = E_x E_{q(z|x)} [log q(z | x) − log q(z)], the aggregate posterior q(z) = (1/N) Σ_n q(z | x_n) being the
  mixture over all N examples (Hoffman and Johnson 2016; estimated so by Dieng et al. 2019 and He et al. 2019). It is 0
  where the posterior has collapsed. One draw z an example, none of which can give more than log N: a small split
  hides how much a large latent knows. Of more than 10,000 examples, 10,000 are used, evenly spaced.

  What the noise of a refinement does to λ_K sets examples apart, too, and counts: compare with λ_0. So it does in
  `active_units`.

  Args:
    params: λ of N examples, each `[N, latent]`.
    seed: of the draws; equal seeds give equal noise.

  Returns:
    The estimate. Its standard error is over the examples that z is drawn for, with the mixture held fixed.
  """
  n = len(params.mean)
  if n > MAX_EXAMPLES:
    rows = np.arange(MAX_EXAMPLES) * n // MAX_EXAMPLES
    params = GaussianParams(*(np.asarray(part)[rows] for part in params))
  # float64: a narrow posterior far from 0 has too few digits left of (z − μ) / σ in float32.
  params = GaussianParams(*(tf.cast(part, tf.float64) for part in params))
  terms = _terms(params.mean, params.log_var, stateless_seed(seed, 0, Purpose.MUTUAL_INFORMATION))
  return estimates.mean(terms.numpy())


@tf.function(
  input_signature=[*[tf.TensorSpec([None, None], tf.float64)] * 2, tf.TensorSpec([2], tf.int32)],
  autograph=False,
)
def _terms(mean, log_var, seed):
  """log q(z_n | x_n) − log q(z_n) of one draw an example, `[N]`."""
  n, latent = tf.unstack(tf.shape(mean))
  each = GaussianParams(mean, log_var).distribution()
  mixture = tfd.MixtureSameFamily(tfd.Categorical(logits=tf.zeros([n], tf.float64)), each)
  z = GaussianParams(mean, log_var).sample(tf.random.stateless_normal([n, latent], seed, dtype=tf.float64))
  size = tf.maximum(_CHUNK // (n * latent), 1)
  chunks = tf.TensorArray(tf.float64, size=0, dynamic_size=True, infer_shape=False, element_shape=[None])

  def add(i, chunks):
    return i + 1, chunks.write(i, mixture.log_prob(z[i * size : (i + 1) * size]))

  _, chunks = tf.while_loop(lambda i, _: i * size < n, add, (tf.constant(0), chunks), parallel_iterations=1)
  return each.log_prob(z) - chunks.concat()
