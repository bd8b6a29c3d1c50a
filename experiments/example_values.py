"""What a table compares: bound, KL and likelihood of each example, for any method."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae.data.dataset import DataSet
from tf_savae.evaluation import examples, per_example
from tf_savae.evaluation.optimum import mean_elbo
from tf_savae.kind import KINDS
from tf_savae.model import SAVAE


class Measure:
  """Measures a model with its current weights on examples of a split; traced once.

  Args:
    model: the model; K is its `eval_k`.
    data: the data set.
    split: "train", "valid" or "test".
    num: number of examples, spread evenly over the split; None: all.
    batch_size: examples per batch.
    bound_samples: Gaussian draws per bound, in pairs ε, −ε, the same at λ_0 and λ_K.
    iw_samples: draws from q_λK for the importance-sampled likelihood.
  """

  def __init__(
    self,
    model: SAVAE,
    data: DataSet,
    split: str,
    *,
    num: int | None,
    batch_size: int,
    bound_samples: int,
    iw_samples: int,
  ):
    self._model, self._data, self._num = model, data, num
    self._bound_samples, self._iw_samples = bound_samples, iw_samples
    self._batches = examples.spread(data, split, num, batch_size)
    self._values = examples.traced(self._of_batch, self._batches)

  def __call__(self) -> dict[str, np.ndarray]:
    """Values of the examples, each `[examples]`, in nats.

    Returns:
      `nll_bound` and `nll_iw`, equal without a latent. With a latent `kl`, with an encoder `nll_bound_initial` and
      `kl_initial`, for text `tokens`. `digest` tells whether two results are about the same examples.
    """
    return examples.rows(self._values, self._batches, self._num, observe=self._observe)

  def _of_batch(self, x: Any, seen: tf.Tensor) -> dict[str, tf.Tensor]:
    model = self._model
    batch = model.inference(x, step=seen)
    params, start, _ = model.posterior(batch)
    found = {"nll_iw": -batch.log_likelihood(params, self._iw_samples)}
    if params is None:
      return found | {"nll_bound": found["nll_iw"]}
    found |= {"nll_bound": -mean_elbo(batch, params, self._bound_samples), "kl": params.kl_to_prior()}
    if model.method.has_encoder:
      same = not model.eval_k
      of_start = found["nll_bound"] if same else -mean_elbo(batch, start, self._bound_samples)
      found |= {"nll_bound_initial": of_start, "kl_initial": start.kl_to_prior()}
    return found

  def _observe(self, x: Any) -> dict[str, np.ndarray]:
    lengths = KINDS.get(self._data.kind).lengths(x)
    observed = [part.numpy() for part in tf.nest.flatten(x)]
    found = {} if lengths is None else {"tokens": lengths}
    return found | {"digest": per_example.digests(observed, lengths)}
