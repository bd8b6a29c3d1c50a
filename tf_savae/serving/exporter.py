"""From a trained model, in a run directory or in memory, to a checked SavedModel for TensorFlow Serving."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tf_savae import literal_paths
from tf_savae.errors import UserError, reason
from tf_savae.model import SAVAE
from tf_savae.runs.restore import load_model
from tf_savae.serving import gate, model_card, own_inputs, payloads, warmup
from tf_savae.serving.model_card import About
from tf_savae.serving.signatures import Options, Signature, keras_default, of_model
from tf_savae.serving.version_dir import new_version, replacing
from tf_savae.svi.noise import Antithetic

CARD = "README.md"  # in assets.extra, which servers pass over


def export(
  run_dir: str | os.PathLike,
  output: Path,
  *,
  k: Sequence[int] | None = None,
  seed: int = 0,
  num_samples: int | None = None,
  steps: Mapping[str, Any] | None = None,
  masks: bool = False,
) -> Path:
  """Exports the best model of a run as the next version of `output`.

  Args:
    run_dir: directory of a run of train.py that is not in progress.
    output: directory of the model; its versions are whole numbers.
    k: numbers of SVI steps; default: K of evaluation, or that of training if it is 0.
    seed: seed of all noise.
    num_samples: noise draws per step; default: as in training.
    steps: settings of the SVI steps that differ from the run's, such as `{"svi_rule": "natural"}`.
    masks: whether there are signatures for observations of which a part was seen.

  Returns:
    The version directory.

  Raises:
    UserError: there is nothing to export, `num_samples` is odd where draws come in pairs, the gate found a
      difference, or the disk is full. Then `output` is as it was.
  """
  # Networks trained in mixed precision serve in float32: that is what their variables are.
  found = load_model(run_dir, precision="float32", **(steps or {}))
  model = found.model
  if k is None:
    k = (model.eval_k or found.config.k,)
  options = _options(model, k, seed, num_samples, "--num_samples", f"the run in {run_dir}")
  form = payloads.of(found, seed)
  made = of_model(model, form, _with_masks(options, form, masks, f"the run in {run_dir}"))
  with new_version(output) as (version, path):
    write(model, made, options, path, output.name, model_card.of_run(found, version))
  return output / str(version)


def export_model(
  model: SAVAE,
  path: str | os.PathLike[str],
  k: int | Sequence[int] | None,
  inputs: Any = None,
  seed: int = 0,
  num_samples: int | None = None,
  masks: bool = False,
) -> None:
  """`SAVAE.export` with signatures for clients: see there.

  Raises:
    UserError: an argument is wrong, the model's form of x is not known, the gate found a difference, or the disk is
      full. Then `path` is as it was.
  """
  if literal_paths.is_url(path):
    raise UserError(f"export writes to a local folder; received {path}; copy it from there")
  path = Path(os.path.abspath(os.path.expanduser(os.fspath(path))))
  k = _steps(model, k)
  form = own_inputs.payloads_of(model, inputs)
  options = _options(model, k, seed, num_samples, "num_samples", "this model")
  made = of_model(model, form, _with_masks(options, form, masks, "this model"))
  if model.method.has_latent:
    made["serve"] = made["serving_default"] = keras_default(model, form)
  about = About(
    f"{model.name}: {model.method_name}", ("Exported from memory: what it was trained on is not known.",)
  )
  with replacing(path) as new:
    write(model, made, options, new, _name(path), about)


def _with_masks(options: Options, form: payloads.Payloads, masks: bool, what: str) -> Options:
  if masks and form.mask is None:
    raise UserError(f"masks need a decoder with a method log_prob_of_parts; received {what}; leave masks out")
  return dataclasses.replace(options, masks=masks)


def write(
  model: SAVAE, made: dict[str, Signature], options: Options, path: Path, name: str, about: About
) -> None:
  """Writes a checked SavedModel with its card and its warm-up requests.

  Args:
    model: whose variables the signatures use.
    made: its signatures.
    options: what they have in them.
    path: a directory without files.
    name: under which the model will be served.
    about: what the card says about the model.

  Raises:
    UserError: it cannot be written, or the gate found a difference.
  """
  save(model, made, path)
  differences = gate.check(path, made)
  card = model_card.text(about, model, options, made, differences, datetime.date.today())
  extra = path / "assets.extra"
  extra.mkdir()
  (extra / CARD).write_text(card, encoding="utf-8")
  warmup.write(extra / warmup.FILE, name, made)


def save(model: SAVAE, made: dict[str, Signature], path: Path) -> None:
  """Writes a SavedModel of `made` into the directory `path`.

  Raises:
    UserError: it cannot be written.
  """
  module = tf.Module()
  layers = (model.encoder, model.decoder, model.step_sizes, model.posterior_network)
  parts = [part for part in layers if part is not None]
  # TensorFlow's variables inside Keras's: the C++ loader does not find a Keras variable's own.
  module.served_variables = [variable.value for part in parts for variable in part.variables]
  tables = [table for signature in made.values() for table in signature.tables]
  module.served_tables = list({id(part): part for part in (*tables, *_resources(parts))}.values())
  try:
    tf.saved_model.save(
      module,
      os.fspath(path),
      signatures={name: signature.traced for name, signature in made.items()},
      options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
    )
  except (tf.errors.OpError, OSError) as error:
    message = getattr(error, "message", None) or reason(error)
    raise UserError(f"cannot write the export: {message.splitlines()[0]}") from error
  except AssertionError as error:  # TensorFlow's, about a resource that the module does not have
    raise UserError(
      f"a network uses something that cannot be saved, such as a table or a tf.Variable outside of Keras layers:"
      f" {reason(error, 300)}"
    ) from error


def _resources(parts: Iterable[keras.layers.Layer]) -> list[Any]:
  """Lookup tables and plain tf.Variables that are attributes of the networks' layers."""
  kinds = (tf.saved_model.experimental.TrackableResource, tf.Variable)
  layers = [layer for part in parts for layer in part._flatten_layers()]
  return [value for layer in layers for value in vars(layer).values() if isinstance(value, kinds)]


def _options(
  model: SAVAE, k: Sequence[int], seed: int, num_samples: int | None, name: str, what: str
) -> Options:
  if isinstance(model.svi.noise_draws, Antithetic) and num_samples and num_samples % 2:
    raise UserError(
      f"{name} must be even for {what}, which draws in pairs (--svi_noise={model.svi.draws}); received"
      f" {num_samples}"
    )
  return Options(tuple(k), seed, num_samples or model.svi.num_samples)


def _steps(model: SAVAE, k: int | Sequence[int] | None) -> tuple[int, ...]:
  if k is None:
    k = model.eval_k or model.svi.num_steps
  steps = tuple(k) if isinstance(k, Iterable) else (k,)
  are_whole = all(isinstance(step, int) and not isinstance(step, bool) and step >= 0 for step in steps)
  if not steps or not are_whole or len(set(steps)) < len(steps):
    raise UserError(f"k must be whole numbers of SVI steps, 0 or more, each once; received {k!r}")
  return steps


def _name(path: Path) -> str:
  """The name of the model whose version, or which itself, is the directory `path`."""
  return path.parent.name if path.name.isascii() and path.name.isdigit() else path.name
