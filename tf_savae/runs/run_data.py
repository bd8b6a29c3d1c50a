"""The data of a run, from its settings and its directory."""

from __future__ import annotations

from typing import Any

from tf_savae import data as data_lib
from tf_savae.data.dataset import SPLITS, DataSet
from tf_savae.data.sources import DATASETS
from tf_savae.kind import KINDS, Kind
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory


def load(config: RunConfig, run_dir: RunDirectory) -> DataSet:
  """The data of a run, with what it kept of them when it began, such as the words of text.

  What they are is stored when the run begins, and compared later: a run never goes on, and is never evaluated, with
  other data, but with `config.eval_file`.

  Raises:
    UserError: they are missing, unusable, or not those that the run began with.
  """
  kind = KINDS.get(config.kind)
  if config.eval_file:
    return kind.from_file(config.eval_file, config, run_dir)
  data = data_lib.load(
    config.dataset,
    data_dir=config.data_dir,
    seed=config.seed,
    download=config.download,
    strict=config.strict_data,
    **options_of(config),
    **kind.kept(run_dir),
  )
  run_dir.check_data(_facts(data, kind))
  kind.keep(data, run_dir)
  return data


def options_of(config: RunConfig) -> dict[str, Any]:
  """What the settings say to the `load` of the data set."""
  return config.values(DATASETS.get(config.dataset).settings)


def _facts(data: DataSet, kind: Kind) -> dict[str, Any]:
  """What may not change about the data between two starts of a run."""
  sizes = {split: data.num_examples(split) for split in SPLITS}
  return {"is_stand_in": data.is_stand_in, **sizes, **kind.facts(data)}
