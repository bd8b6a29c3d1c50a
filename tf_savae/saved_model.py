"""`SAVAE.export`: the posterior of a model as a TensorFlow SavedModel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tf_savae import observations, registry, startup
from tf_savae.errors import UserError

# By name, because serving stands on the model.
_FOR_CLIENTS = "tf_savae.serving.exporter:export_model"


def export_for_clients(model: Any, path: Any, format: str, **options: Any) -> None:
  """Writes a checked SavedModel with signatures for clients; arguments and errors as of `SAVAE.export`."""
  _check_format(format)
  startup.require_serving()
  registry.resolve(_FOR_CLIENTS)(model, path, **options)


def export(model: Any, path: Any, format: str, verbose: bool | None) -> None:
  """Writes a SavedModel whose `serve`, also `serving_default`, maps x `[batch, ...]` to what `predict` gives.

  The parts of an observation that is a dict are inputs by their names.

  The noise of a row does not depend on its place in the batch: each row's answer is what `predict` gives for it alone.

  Args:
    model: a built `SAVAE`.
    path: of the new directory.
    format: "tf_saved_model".
    verbose: whether Keras prints what it wrote.

  Raises:
    UserError: another format; a model without posterior, or one that does not know the shape of x yet.
  """
  _check_format(format)
  if not model.method.has_latent:
    raise UserError(
      f"export writes a posterior, and the method has none; received method={model.method_name!r};"
      " python -m tf_savae export writes log p(x) of a run"
    )
  config = model.get_build_config()
  if config is None:
    raise UserError(
      "export needs the shape of x; received a model that saw no data; call it on a batch first"
    )
  signature = _named(observations.specs(config["shape"], config["dtype"]), "x")
  archive = keras.export.ExportArchive()
  archive.track(model)
  archive.add_endpoint("serve", lambda x: model.posterior_outputs(x, row_by_row=True), [signature])
  archive.write_out(str(Path(path).expanduser()), verbose=bool(verbose))


def _named(spec: Any, name: str) -> Any:
  """A spec with a name for clients: its own among the parts of an observation, or x."""
  if isinstance(spec, dict):
    return {key: _named(each, str(key)) for key, each in spec.items()}
  if isinstance(spec, tuple):
    return tuple(_named(each, f"x_{place}") for place, each in enumerate(spec))
  return tf.TensorSpec(spec.shape, spec.dtype, name=name)


def _check_format(format: str) -> None:
  if format != "tf_saved_model":
    raise UserError(f'export writes format="tf_saved_model" only; received {format!r}')
