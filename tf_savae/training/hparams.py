"""TensorBoard's HParams page: a run's settings, and its final metrics in the same row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorboard.plugins.hparams import api as hp
from tensorboard.plugins.hparams import api_pb2

from tf_savae.training.config import OnResume, RunConfig, show

# results.json's keys that become metrics, and their columns' names.
_METRICS = {
  "nll_bound": "bound",
  "nll_bound_initial": "bound at λ0",
  "refinement_gain": "refinement gain",
  "kl": "KL",
  "nll_iw": "NLL (importance)",
  "active_units": "active units",
}
_SPLITS = ("test", "valid")


class _Any(hp.Domain):
  """All values of a type: columns that can be sorted, without a menu of values."""

  def __init__(self, dtype: type):
    self._dtype = dtype

  @property
  def dtype(self) -> type:
    return self._dtype

  def sample_uniform(self, rng: Any = None) -> Any:
    raise NotImplementedError("settings are not drawn at random here")

  def update_hparam_info(self, info: api_pb2.HParamInfo) -> None:
    types = {
      bool: api_pb2.DATA_TYPE_BOOL,
      float: api_pb2.DATA_TYPE_FLOAT64,
      str: api_pb2.DATA_TYPE_STRING,
    }
    info.type = types[self._dtype]


def settings(config: RunConfig) -> dict[str, bool | float | str]:
  """What decides a run's results, as values that the page can show: not its paths, nor where it runs."""
  result: dict[str, bool | float | str] = {}
  for field in dataclasses.fields(config):
    decides = field.metadata["on_resume"] is not OnResume.FREE or field.name == "eval_k"
    fits = field.metadata["only"] in (None, config.dataset)
    if decides and fits:
      value = getattr(config, field.name)
      result[field.name] = value if isinstance(value, bool | int | float | str) else show(value)
  return result


def write_settings(writer: tf.summary.SummaryWriter, values: Mapping[str, Any], name: str) -> None:
  """Writes the row of a run that begins.

  Args:
    writer: of the run that the final metrics are written to, too: the page looks for them there.
    values: from `settings`.
    name: of the row.
  """
  kinds = {key: _Any(_kind(value)) for key, value in values.items()}
  metrics = [
    hp.Metric(f"final/{split}_{key}", display_name=f"{split} {label}")
    for split in _SPLITS
    for key, label in _METRICS.items()
  ]
  with writer.as_default():
    hp.hparams_config([hp.HParam(key, domain=kind) for key, kind in kinds.items()], metrics)
    hp.hparams(dict(values), trial_id=name)


def write_metrics(writer: tf.summary.SummaryWriter, results: Mapping[str, Any], step: int) -> None:
  """Fills in the metrics of the row: `results` is the content of results.json."""
  with writer.as_default(step=step):
    for split in _SPLITS:
      values = results.get(split) or {}
      for key in _METRICS:
        if values.get(key) is not None:
          tf.summary.scalar(f"final/{split}_{key}", float(values[key]))


def _kind(value: Any) -> type:
  if isinstance(value, bool):
    return bool
  return float if isinstance(value, int | float) else str
