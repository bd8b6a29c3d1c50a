"""The user's own data and model for a run: they are checked against the settings and kept with the run.

model.json   the given model as Keras serialises it, without weights; commands rebuild it from this file
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tf_savae import observations
from tf_savae.atomic_files import read_json, write_json
from tf_savae.data.dataset import DataSet
from tf_savae.errors import UserError, reason
from tf_savae.model import SAVAE
from tf_savae.runs import run_data
from tf_savae.runs.build import compile_and_build
from tf_savae.runs.config import RunConfig, show
from tf_savae.runs.directory import RunDirectory


def take_data(config: RunConfig, run_dir: RunDirectory, data: DataSet) -> None:
  """Begins a run on `data`, or makes sure that it began on them.

  Raises:
    UserError: they are no `DataSet`, of another kind than the settings say, or not those that the run began with.
  """
  if not isinstance(data, DataSet):
    raise UserError(
      "data must be a tf_savae.data.DataSet, such as tf_savae.data.images_from_arrays gives; received an object of"
      f" type {type(data).__name__}"
    )
  if config.eval_file:
    raise UserError(f"--eval_file takes the place of data; received --eval_file={config.eval_file} and data")
  if data.kind != config.kind:
    raise UserError(
      f"data of kind {data.kind} do not fit --dataset={config.dataset}, whose kind is {config.kind}; name a data set"
      f" of kind {data.kind} in the settings"
    )
  facts = run_dir.data_facts()
  if facts and run_data.OWN not in facts:
    raise UserError(
      f"the run in {run_dir.path} began with the data of --dataset={config.dataset}; go on without data of your own,"
      " or use another --run_dir"
    )
  run_data.keep(config, run_dir, data, {run_data.OWN: data.name, "own_seed": data.seed})


def take_model(config: RunConfig, run_dir: RunDirectory, data: DataSet, model: SAVAE) -> None:
  """Compiles `model` where it is not, builds it for `data`, and keeps what it is with the run.

  In a new run its counters begin at 0, whatever was done with it before; its weights stay.

  Raises:
    UserError: it contradicts the settings, does not fit the data, or is not the model that the run began with.
  """
  if not isinstance(model, SAVAE):
    raise UserError(f"model must be a tf_savae.SAVAE; received an object of type {type(model).__name__}")
  _check_settings(config, model)
  spec = observations.described(data.eval_batches("valid", 1).element_spec)
  built = model.get_build_config()
  if built and built != spec:
    raise UserError(
      f"the model was built for x {built['dtype']} {built['shape']}, and the data have {spec['dtype']}"
      f" {spec['shape']}; give a new model, or the data it was built for"
    )
  compile_and_build(config, data, model)
  _check_decay(config, model)
  _keep(run_dir, model)
  if not run_dir.has_checkpoint:
    for counter in (model.step, model.skipped, model.skipped_in_a_row):
      counter.assign(0)


def rebuilt(config: RunConfig, run_dir: RunDirectory, data: DataSet) -> SAVAE | None:
  """The compiled model that `take_model` kept, with other weights; None for a run without one.

  Raises:
    UserError: it cannot be rebuilt, or `config` has other settings of a model than the run.
  """
  stored = read_json(run_dir.model_file)
  if stored is None:
    return None
  for name, was, received in run_dir.read_config().differences(config):
    raise UserError(
      f"the model of {run_dir.path} was given by a program, and no setting changes it: --{name} was {show(was)},"
      f" received {show(received)}"
    )
  try:
    model = keras.saving.deserialize_keras_object(stored)
  except (TypeError, ValueError, KeyError, ImportError) as error:
    raise UserError(
      f"cannot rebuild the model of {run_dir.path}: {reason(error)}; import the file that defines and registers its"
      " classes first"
    ) from error
  if config.eval_k is not None:
    model.eval_k = config.eval_k
  compile_and_build(config, data, model)
  return model


def _check_settings(config: RunConfig, model: SAVAE) -> None:
  """What results.json says of a run must be true of the model."""
  pairs = [("model", model.method_name, config.model), ("seed", model.seed, config.seed)]
  if model.method.refines:
    pairs.append(("k", model.svi.num_steps, config.k))
  if config.eval_k is not None:
    pairs.append(("eval_k", model.eval_k, config.eval_k))
  for name, of_model, received in pairs:
    if of_model != received:
      what = "method" if name == "model" else name
      raise UserError(
        f"the model's {what} is {of_model}, received --{name}={received}; give both the same value"
      )


def _check_decay(config: RunConfig, model: SAVAE) -> None:
  decays = config.lr_patience or config.min_learning_rate
  if decays and not hasattr(model.optimizer.learning_rate, "assign"):
    raise UserError(
      "the model's learning rate follows a schedule of its own, which validation bounds cannot change; received"
      f" --lr_patience={config.lr_patience} --min_learning_rate={config.min_learning_rate}; give 0 for both"
    )


def _keep(run_dir: RunDirectory, model: SAVAE) -> None:
  """Writes the model down when a run begins; later, makes sure that it is the same one."""
  try:
    described = keras.saving.serialize_keras_object(model)
  except (TypeError, ValueError, NotImplementedError) as error:
    raise UserError(
      f"the model cannot be written down: {reason(error)}; give its layers a get_config, and register them with"
      " keras.saving.register_keras_serializable"
    ) from error
  stored = read_json(run_dir.model_file)
  if stored is None:
    if run_dir.has_checkpoint:
      raise UserError(
        f"the run in {run_dir.path} began with the model of its settings; go on without a model of your own, or use"
        " another --run_dir"
      )
    write_json(run_dir.model_file, described)
    return
  differences = _differences(stored["config"], _plain(described["config"]))
  if differences:
    raise UserError(
      f"the model is not the one that the run in {run_dir.path} began with: {differences[0]}; give that one, or use"
      " another --run_dir"
    )


def _plain(value: Any) -> Any:
  """The value after a round trip through JSON."""
  if isinstance(value, dict):
    return {str(name): _plain(item) for name, item in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(item) for item in value]
  return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _differences(was: Any, now: Any, path: str = "") -> list[str]:
  """The differences of two configurations in words, apart from the names of layers, which Keras numbers."""
  if isinstance(was, dict) and isinstance(now, dict):
    names = [name for name in {**was, **now} if name != "name"]
    return [d for name in names for d in _differences(was.get(name), now.get(name), f"{path}.{name}")]
  return [] if was == now else [f"{path.removeprefix('.')} was {was}, received {now}"]
