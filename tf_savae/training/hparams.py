"""TensorBoard's HParams page: a run's settings, and its final metrics in the same row.

The page finds the metrics of a row among the scalars of the TensorBoard run that holds its settings, and of the runs
below it. So both go to one run that has no other scalars. No list of columns is written: it would hide which settings
differ between runs, and those should come first.

The page orders columns by name, those whose values differ between runs before the others, and shows the first five. So
the names of the settings that matter most begin with a number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorboard.plugins.hparams import api as hp

from tf_savae.runs.config import RunConfig, show
from tf_savae.runs.options import OnResume
from tf_savae.runs.unused import unused

# Keys of results.json that become metrics, and the names of their columns, which the page sorts.
_METRICS = {
  "nll_bound": "bound",
  "nll_bound_initial": "bound_at_lambda_0",
  "refinement_gain": "gain_of_refinement",
  "kl": "kl",
  "kl_initial": "kl_at_lambda_0",
  "nll_iw": "nll_importance",
  "ppl_bound": "perplexity_bound",
  "ppl_bound_initial": "perplexity_bound_at_lambda_0",
  "ppl_iw": "perplexity_importance",
  "mutual_information": "mutual_information",
  "active_units": "units_active",
}
_SPLITS = {"test": "test", "valid": "validation"}

# Settings whose columns come first, in this order.
_FIRST = ("model", "k", "svi_rule", "svi_lr", "learning_rate", "preset", "dataset", "decoder", "seed")


def settings(config: RunConfig) -> dict[str, bool | float | str]:
  """The settings that decide a run's results, as values that the page can show; without paths and machine.

  Settings without an effect on this run, and those without a value, are left out. A column of the page holds either
  numbers or words, and one run's "None" among numbers would hide it.
  """
  fields = {field.name: field for field in dataclasses.fields(config)}
  without_effect, result = unused(config, fields), {}
  for name, field in fields.items():
    value = getattr(config, name)
    decides = field.metadata["on_resume"] is not OnResume.FREE or name == "eval_k"
    if decides and value is not None and name not in without_effect:
      result[name] = value if isinstance(value, bool | int | float | str) else show(value)
  return result


def column(name: str) -> str:
  """The name of a setting's column, such as "1 model"; those after the numbered ones have plain names."""
  return f"{_FIRST.index(name) + 1} {name}" if name in _FIRST else name


def as_markdown(config: RunConfig, source: str) -> str:
  """All settings as a table for the Text page, below the line that says where the data came from."""
  rows = [f"| {name} | {show(value)} |" for name, value in config.to_dict().items()]
  return "\n".join([f"data: {source}", "", "| setting | value |", "|---|---|", *rows])


def write_settings(writer: tf.summary.SummaryWriter, values: Mapping[str, Any], name: str) -> None:
  """Writes the row of a run at its beginning.

  Args:
    writer: writer of the TensorBoard run that will hold the final metrics.
    values: the result of `settings`.
    name: name of the row.
  """
  with writer.as_default():
    hp.hparams({column(setting): value for setting, value in values.items()}, trial_id=name)


def write_metrics(writer: tf.summary.SummaryWriter, results: Mapping[str, Any], step: int) -> None:
  """Fills in the metrics of the row: `results` is the content of results.json."""
  with writer.as_default(step=step):
    for split, group in _SPLITS.items():
      values = results.get(split) or {}
      for key, name in _METRICS.items():
        if values.get(key) is not None:
          tf.summary.scalar(f"{group}/{name}", float(values[key]))
