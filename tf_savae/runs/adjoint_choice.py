"""How a run differentiates through its steps: the adjoint of its settings, and what `--adjoint=auto` stands for."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_savae import methods
from tf_savae.objective import NegELBO, precompute
from tf_savae.posterior import GaussianParams
from tf_savae.runs.config import RunConfig
from tf_savae.svi import ADJOINTS, DRAWS
from tf_savae.svi.adjoint import Adjoint
from tf_savae.svi.derivatives import value_and_gradient

#: Up to which memory, in bytes, `auto` keeps what the steps computed.
MOST_BYTES = 2**30

# Operations whose results are not new memory.
_VIEWS = ("Const", "ExpandDims", "Identity", "Placeholder", "ReadVariableOp", "Reshape", "Squeeze")


class AdjointChoice(NamedTuple):
  """An adjoint, and why it is this one."""

  adjoint: Adjoint
  why: str

  def __str__(self) -> str:
    """The line that a run prints."""
    return f"adjoint: {ADJOINTS.name_of(type(self.adjoint))} ({self.why})"


def choose(config: RunConfig, decoder: Any, data: Any) -> AdjointChoice:
  """The adjoint of a run; `auto` depends on nothing but its settings and the shapes of its data.

  `auto` is `stored` where that is faster and needs little memory: if the decoder has no directional derivative of its
  own, and all steps of a batch keep at most `MOST_BYTES`. Otherwise it is `exact`.
  """
  if config.adjoint != "auto":
    return AdjointChoice(of_name(config, config.adjoint), "as asked for")
  if not methods.get(config.model).differentiates:
    return AdjointChoice(of_name(config, "exact"), "the method takes no derivative of the steps")
  in_closed_form = DRAWS.get(config.svi_noise).in_closed_form
  objective = NegELBO(decoder, config.free_bits, in_closed_form)
  if config.adjoint_dtype or hasattr(objective, "directional_derivative"):
    own = "the decoder has a derivative of its own"
    reason = f"--precision={config.precision} is for it" if config.adjoint_dtype else own
    return AdjointChoice(of_name(config, "exact"), reason)
  kept = bytes_of_draw(objective, decoder, data.eval_batches("valid", 1).element_spec, config.batch_size)
  if kept is None:
    return AdjointChoice(of_name(config, "exact"), "the size of an example is unknown")
  kept *= (config.k or 0) * config.svi_samples
  fits, size = kept <= MOST_BYTES, f"{kept / 2**30:.2g} GB"
  return AdjointChoice(
    of_name(config, "stored" if fits else "exact"),
    f"what the steps of a batch compute takes {size}{'' if fits else f', above {MOST_BYTES / 2**30:.0f} GB'}",
  )


def of_name(config: RunConfig, name: str) -> Adjoint:
  """The adjoint called `name`, with those settings that are parameters of it."""
  mode = ADJOINTS.get(name)
  parameters = {
    "steps": config.adjoint_steps,
    "radius": config.fd_radius,
    "compute_dtype": config.adjoint_dtype,
  }
  fields = {field.name for field in dataclasses.fields(mode)} if dataclasses.is_dataclass(mode) else set()
  return mode(**{field: value for field, value in parameters.items() if field in fields})


def bytes_of_draw(objective: NegELBO, decoder: Any, spec: Any, batch_size: int) -> int | None:
  """Memory of all results of one draw's L(λ; ε) and its gradient, for a batch; None if a shape is unknown.

  It is counted in a graph that never runs. A tape keeps a little less, for not all results are needed again.

  Args:
    objective: L.
    decoder: of `objective`.
    spec: shapes and dtypes of x, whose first dimension is the batch.
    batch_size: examples of a batch.
  """
  graph = tf.__internal__.FuncGraph("bytes_of_draw")
  with graph.as_default():
    x = tf.nest.map_structure(
      lambda part: tf.compat.v1.placeholder(part.dtype, [batch_size, *part.shape[1:]]), spec
    )
    context = precompute(decoder, x, False, tf.constant([0, 0]))
    known = len(graph.get_operations())
    dtype = getattr(decoder, "variable_dtype", "float32")
    like = tf.compat.v1.placeholder(dtype, [batch_size, decoder.latent_dim])
    params = GaussianParams(like, like)
    value_and_gradient(objective, params, like, (x, tf.constant(1.0, dtype), context))
    results = [t for op in graph.get_operations()[known:] if op.type not in _VIEWS for t in op.outputs]
  results = [t for t in results if t.dtype.is_floating]
  if any(t.shape.num_elements() is None for t in results):
    return None
  return int(np.sum([t.shape.num_elements() * t.dtype.size for t in results]))
