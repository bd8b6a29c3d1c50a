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


def of_split(
  model: SAVAE,
  data: DataSet,
  split: str,
  *,
  num: int | None,
  batch_size: int,
  bound_samples: int,
  iw_samples: int,
) -> dict[str, np.ndarray]:
  """Values of the examples of a split, each `[examples]`, in nats.

  Args:
    model: the model; K is its `eval_k`.
    data: the data set.
    split: "train", "valid" or "test".
    num: number of examples, in batches spread evenly over the split; None: all.
    batch_size: examples per batch.
    bound_samples: Gaussian draws per bound, in pairs ε, −ε, the same at λ_0 and λ_K.
    iw_samples: draws from q_λK for the importance-sampled likelihood.

  Returns:
    `nll_bound` and `nll_iw`, equal without a latent. With a latent `kl`, with an encoder `nll_bound_initial` and
    `kl_initial`, for text `tokens`. `digest` tells whether two results are about the same examples.
  """
  total = data.num_examples(split)
  batches = data.eval_batches(split, batch_size)
  if num is not None and num < total:
    # Files are in some order, such as that of drawers or of lengths: the first examples would be a biased choice.
    batches = batches.shard(max(1, total // num), 0)

  def values(x: Any, seen: tf.Tensor) -> dict[str, tf.Tensor]:
    batch = model.inference(x, step=seen)
    params, start, _ = model.posterior(batch)
    found = {"nll_iw": -batch.log_likelihood(params, iw_samples)}
    if params is None:
      return found | {"nll_bound": found["nll_iw"]}
    found |= {"nll_bound": -mean_elbo(batch, params, bound_samples), "kl": params.kl_to_prior()}
    if model.method.has_encoder:
      same = not model.eval_k
      found["nll_bound_initial"] = found["nll_bound"] if same else -mean_elbo(batch, start, bound_samples)
      found["kl_initial"] = start.kl_to_prior()
    return found

  def observe(x: Any) -> dict[str, np.ndarray]:
    lengths = KINDS.get(data.kind).lengths(x)
    observed = [part.numpy() for part in tf.nest.flatten(x)]
    found = {} if lengths is None else {"tokens": lengths}
    return found | {"digest": per_example.digests(observed, lengths)}

  return examples.rows(examples.traced(values, batches), batches, num, observe=observe)
