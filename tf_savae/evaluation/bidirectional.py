"""How far annealed importance sampling is from log p(x), on observations that a model makes itself.

Of x ~ p(x | z) with z ~ p(z), z is an exact draw of the posterior. Chains from the prior and chains back from z
therefore bound log p(x) from both sides. The mean distance of the bounds is at least the mean error of each.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.evaluation import annealing, estimates, examples
from tf_savae.evaluation.annealing import Annealing
from tf_savae.model import SAVAE
from tf_savae.seeds import Purpose, stateless_seed


def on_simulated(
  model: SAVAE, settings: Annealing, num: int, batch_size: int, seed: int = 0
) -> dict[str, Any]:
  """The bounds on observations from the model.

  Args:
    model: a model with a latent and a decoder that samples.
    settings: of the chains.
    num: number of observations.
    batch_size: observations at a time.
    seed: of the observations.

  Returns:
    `examples`, and means in nats with standard errors `…_se`: `lower`, `upper` and `width`, their paired difference.

  Raises:
    UserError: the decoder does not sample, or is conditional.
  """
  if not hasattr(model.decoder, "sample") or hasattr(model.decoder, "condition_of"):
    raise UserError(
      "bounds on simulated examples need a decoder that samples without a condition; received"
      f" {type(model.decoder).__name__}; give --simulated=0"
    )
  z = tf.random.stateless_normal(
    [num, model.latent_dim], stateless_seed(model.seed, seed, Purpose.PRIOR), dtype=model.variable_dtype
  )
  x = model.decoder.sample(z, stateless_seed(model.seed, seed, Purpose.GENERATE))

  def values(pair, seen):
    x, z = pair
    batch = model.inference(x, step=seen)
    found = annealing.sandwich(batch, z, settings, model.posterior(batch)[0])
    return found._asdict()

  batches = tf.data.Dataset.from_tensor_slices((x, z)).batch(batch_size)
  rows = examples.rows(examples.traced(values, batches), batches)
  rows["width"] = rows["upper"] - rows["lower"]
  result: dict[str, Any] = {"examples": num}
  for name, value in rows.items():
    one = estimates.mean(value)
    result |= {name: one.value, f"{name}_se": one.se}
  return result
