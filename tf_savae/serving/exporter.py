"""`export`: from a run directory to a checked version directory."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tf_savae.errors import UserError, reason
from tf_savae.model import SAVAE
from tf_savae.runs.restore import load_model
from tf_savae.serving import gate, model_card, warmup
from tf_savae.serving.signatures import Options, Signature, signatures
from tf_savae.serving.version_dir import new_version
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
) -> Path:
  """Exports the best model of a run as the next version of `output`.

  Args:
    run_dir: directory of a run of train.py that is not in progress.
    output: directory of the model; its versions are whole numbers.
    k: numbers of SVI steps; default: K of evaluation, or that of training if it is 0.
    seed: seed of all noise.
    num_samples: noise draws per step; default: as in training.
    steps: settings of the SVI steps that differ from the run's, such as `{"svi_rule": "natural"}`.

  Returns:
    The version directory.

  Raises:
    UserError: there is nothing to export, `num_samples` is odd where draws come in pairs, the gate found a
      difference, or the disk is full. Then `output` is as it was.
  """
  # Networks trained in mixed precision serve in float32: that is what their variables are.
  found = load_model(run_dir, precision="float32", **(steps or {}))
  model = found.model
  if isinstance(model.svi.noise_draws, Antithetic) and num_samples and num_samples % 2:
    raise UserError(
      f"--num_samples must be even for the run in {run_dir}, which draws in pairs (--svi_noise={model.svi.draws});"
      f" received {num_samples}"
    )
  if k is None:
    k = (model.eval_k or found.config.k,)
  options = Options(tuple(k), seed, num_samples or model.svi.num_samples)
  made = signatures(found, options)
  with new_version(output) as (version, path):
    save(model, made, path)
    differences = gate.check(path, made)
    card = model_card.text(found, options, made, differences, version, datetime.date.today())
    extra = path / "assets.extra"
    extra.mkdir()
    (extra / CARD).write_text(card, encoding="utf-8")
    warmup.write(extra / warmup.FILE, output.name, made)
  return output / str(version)


def save(model: SAVAE, made: dict[str, Signature], path: Path) -> None:
  """Writes a SavedModel of `made` into the directory `path`.

  Raises:
    UserError: it cannot be written.
  """
  module = tf.Module()
  parts = [part for part in (model.encoder, model.decoder, model.step_sizes) if part is not None]
  # TensorFlow's variables inside Keras's: the C++ loader does not find a Keras variable's own.
  module.served_variables = [variable.value for part in parts for variable in part.variables]
  module.served_tables = list(
    dict.fromkeys(table for signature in made.values() for table in signature.tables)
  )
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
