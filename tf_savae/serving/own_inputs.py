"""The form in which the observations of a model of one's own are served, from the model and a few examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.model import SAVAE
from tf_savae.observations import Support
from tf_savae.serving.payloads import FromLatent, Input, Payloads, checked, drawn_as_it_is

PLAIN = ""  # suffix of the signatures whose input is x itself


def payloads_of(model: SAVAE, inputs: Any = None) -> Payloads:
  """How the observations of a model are sent and received.

  Args:
    model: any model; one that has not seen data is built on the examples.
    inputs: example observations `[n, ...]`; or a mapping from suffixes of signatures to an array of examples, under "",
      or to further forms, each an `Input`. Default: made up within the decoder's `support`.

  Raises:
    UserError: x is no single array, or its shape is not known and there are no examples.
  """
  forms = dict(inputs) if isinstance(inputs, Mapping) else {} if inputs is None else {PLAIN: inputs}
  plain = forms.pop(PLAIN, None)
  wrong = [
    suffix for suffix, form in forms.items() if not isinstance(form, Input) or not isinstance(suffix, str)
  ]
  if wrong:
    raise UserError(
      f"inputs maps '' to an array of examples, and other suffixes to tf_savae.serving.payloads.Input; received"
      f" {wrong[0]!r}: {type(forms[wrong[0]]).__name__}"
    )
  x = plain if isinstance(plain, Input) else _of_array(model, plain)
  from_latent = None
  if model.latent_dim and hasattr(model.decoder, "decode"):
    text = "the decoder's `decode` of it"
    from_latent = FromLatent("decode", "decoded", "decoded", model.decode, text)
  drawn = drawn_as_it_is(x) if hasattr(model.decoder, "sample") else None
  return Payloads({PLAIN: x, **forms}, PLAIN, drawn, from_latent)


def _of_array(model: SAVAE, examples: Any) -> Input:
  if examples is not None:
    examples = np.asarray(examples)
    if examples.dtype == object or examples.ndim < 1 or not len(examples):
      raise UserError(
        "inputs must be an array of at least one example observation, [n, ...]; received"
        f" {examples.dtype} {list(examples.shape)}"
      )
    model.ensure_built(examples)
  built = model.get_build_config()
  if built is None:
    raise UserError(
      "export needs the shape of x; received a model that saw no data; call it on a batch first, or give"
      " inputs=x[:4]"
    )
  if not isinstance(built["dtype"], str):
    raise UserError(
      "clients send one array for each observation; received a model of observations with the parts"
      f" {', '.join(map(str, built['dtype']))}; save it as .keras"
    )
  shape, dtype = built["shape"][1:], tf.as_dtype(built["dtype"])
  if examples is not None and len(examples.shape) - 1 != len(shape):
    raise UserError(
      f"the model was built on x of shape {built['shape']}; received inputs {list(examples.shape)}"
    )
  if examples is None:
    _made_up(model, shape, dtype, 1)  # says what is missing before anything is traced
  described = ", ".join("length" if size is None else str(size) for size in shape)
  return Input(
    tf.TensorSpec([None, *shape], dtype, "x"),
    lambda x: checked("x", x, shape),
    lambda n: _repeated(examples, n, dtype) if examples is not None else _made_up(model, shape, dtype, n),
    f"observation `[{described}]`, {dtype.name}",
  )


def _repeated(examples: np.ndarray, n: int, dtype: tf.DType) -> np.ndarray:
  return np.resize(examples, [n, *examples.shape[1:]]).astype(dtype.as_numpy_dtype)


def _made_up(model: SAVAE, shape: list[int | None], dtype: tf.DType, n: int) -> np.ndarray:
  """`n` observations that the decoder's likelihood is defined for, as far as that is known."""
  if None in shape:
    raise UserError(
      f"export needs examples of x, whose length is free in the shape {[None, *shape]}; give inputs=x[:4]"
    )
  rng, support = np.random.default_rng(0), getattr(model.decoder, "support", None)
  if support is None:
    if not dtype.is_floating:
      raise UserError(
        f"export needs examples of x, since the decoder has no `support` and x is {dtype.name}; give inputs=x[:4]"
      )
    return rng.normal(size=[n, *shape]).astype(dtype.as_numpy_dtype)
  support = support if isinstance(support, Support) else Support(*support)
  low, high = max(support.low, -1e6), min(support.high, 1e6)
  values = rng.uniform(low, high, [n, *shape])
  is_whole = support.whole or not dtype.is_floating or (low, high) == (0, 1)
  return (np.round(values) if is_whole else values).astype(dtype.as_numpy_dtype)
