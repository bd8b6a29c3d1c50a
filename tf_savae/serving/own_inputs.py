"""The form in which the observations of a model of one's own are served, from the model and a few examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.model import SAVAE
from tf_savae.observations import Conditional, Support
from tf_savae.serving.payloads import (
  FromLatent,
  Input,
  Payloads,
  checked,
  drawn_as_it_is,
  label_input,
  mask_input,
)

PLAIN = ""  # suffix of the signatures whose input is x itself


def payloads_of(model: SAVAE, inputs: Any = None) -> Payloads:
  """How the observations of a model are sent and received.

  An observation of several parts is sent as several tensors, under the names of the parts or, in a tuple, x_0, x_1, ….

  Args:
    model: any model; one that has not seen data is built on the examples.
    inputs: example observations `[n, ...]`; or a mapping from suffixes of signatures to such examples, under "", or to
      further forms, each an `Input`. Default: made up within the decoder's `support`.

  Raises:
    UserError: the shape of x is not known and there are no examples, or these are none.
  """
  has_suffixes = isinstance(inputs, Mapping) and not _are_parts(model, inputs)
  forms = dict(inputs) if has_suffixes else {} if inputs is None else {PLAIN: inputs}
  plain = forms.pop(PLAIN, None)
  wrong = [
    suffix for suffix, form in forms.items() if not isinstance(form, Input) or not isinstance(suffix, str)
  ]
  if wrong:
    raise UserError(
      f"inputs maps '' to an array of examples, and other suffixes to tf_savae.serving.payloads.Input; received"
      f" {wrong[0]!r}: {type(forms[wrong[0]]).__name__}"
    )
  x = plain if isinstance(plain, Input) else _of_arrays(model, plain)
  from_latent = drawn = mask = None
  if model.latent_dim and hasattr(model.decoder, "decode"):
    text = "the decoder's `decode` of it"
    from_latent = FromLatent("decode", "decoded", "decoded", model.decode, text)
  observed = _observed(model, x)
  if observed is not None and hasattr(model.decoder, "sample"):
    drawn = drawn_as_it_is(x, observed)
  if observed is not None and hasattr(model.decoder, "log_prob_of_parts"):
    shape = x.specs[observed].shape[1:]
    mask = mask_input(shape[:-1] if len(shape) > 1 else shape)
  condition = None
  if hasattr(model.decoder, "condition_of"):
    condition = label_input(_name(model.decoder.given), model.decoder.num_labels)
  return Payloads({PLAIN: x, **forms}, PLAIN, drawn, from_latent, condition=condition, mask=mask)


def _are_parts(model: SAVAE, inputs: Mapping[str, Any]) -> bool:
  """Whether a mapping is an observation of several parts, and not one from suffixes to forms."""
  built = model.get_build_config()
  if built is not None:
    return isinstance(built["dtype"], dict) and inputs.keys() == built["dtype"].keys()
  return PLAIN not in inputs and not any(isinstance(form, Input) for form in inputs.values())


def _name(place: Any) -> str:
  """The input's name of a part of x, of its name in a dict or its place in a tuple."""
  return place if isinstance(place, str) else f"x_{place}"


def _observed(model: SAVAE, x: Input) -> str | None:
  """The name of the input that the likelihood covers, as far as it is known."""
  if len(x.specs) == 1:
    return next(iter(x.specs))
  return _name(model.decoder.observed) if hasattr(model.decoder, "observed") else None


def _of_arrays(model: SAVAE, examples: Any) -> Input:
  if examples is not None:
    examples = tf.nest.map_structure(np.asarray, examples)
    for part in tf.nest.flatten(examples):
      if part.dtype == object or part.ndim < 1 or not len(part):
        raise UserError(
          "inputs must be an array of at least one example observation, [n, ...]; received"
          f" {part.dtype} {list(part.shape)}"
        )
    model.ensure_built(examples)
  built = model.get_build_config()
  if built is None:
    raise UserError(
      "export needs the shape of x; received a model that saw no data; call it on a batch first, or give"
      " inputs=x[:4]"
    )
  if isinstance(built["dtype"], str):
    return _of_array(model, built["shape"][1:], built["dtype"], examples, "x", None)
  keys = list(built["dtype"]) if isinstance(built["dtype"], dict) else range(len(built["dtype"]))
  parts = {
    key: _of_array(
      model,
      built["shape"][key][1:],
      built["dtype"][key],
      None if examples is None else examples[key],
      _name(key),
      key,
    )
    for key in keys
  }

  def to_x(raw):
    found = {key: given.to_x(raw[_name(key)]) for key, given in parts.items()}
    return found if isinstance(built["dtype"], dict) else tuple(found.values())

  return Input(
    {_name(key): given.spec for key, given in parts.items()},
    to_x,
    lambda n: {_name(key): given.examples(n) for key, given in parts.items()},
    {_name(key): given.text for key, given in parts.items()},
  )


def _of_array(
  model: SAVAE, shape: list[int | None], dtype_name: str, examples: np.ndarray | None, name: str, key: Any
) -> Input:
  """The form of one array of x, called `name`; it is the part `key` of x, or all of it if that is None."""
  dtype = tf.as_dtype(dtype_name)
  support = getattr(model.decoder, "support", None)
  if isinstance(support, Conditional) and key is not None:
    if key == support.label:
      return label_input(name, support.num_labels)
    support = support.observed if key == support.name else None
  elif key is not None:
    support = None
  if examples is not None and len(examples.shape) - 1 != len(shape):
    raise UserError(
      f"the model was built on {name} of shape {[None, *shape]}; received inputs {list(examples.shape)}"
    )
  if examples is None:
    _made_up(support, shape, dtype, 1)  # says what is missing before anything is traced
  described = ", ".join("length" if size is None else str(size) for size in shape)
  return Input(
    tf.TensorSpec([None, *shape], dtype, name),
    lambda x: checked(name, x, shape),
    lambda n: _repeated(examples, n, dtype) if examples is not None else _made_up(support, shape, dtype, n),
    f"observation `[{described}]`, {dtype.name}",
  )


def _repeated(examples: np.ndarray, n: int, dtype: tf.DType) -> np.ndarray:
  return np.resize(examples, [n, *examples.shape[1:]]).astype(dtype.as_numpy_dtype)


def _made_up(support: Any, shape: list[int | None], dtype: tf.DType, n: int) -> np.ndarray:
  """`n` observations within a decoder's `support`, as far as that is known."""
  if None in shape:
    raise UserError(
      f"export needs examples of x, whose length is free in the shape {[None, *shape]}; give inputs=x[:4]"
    )
  rng = np.random.default_rng(0)
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
