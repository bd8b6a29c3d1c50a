"""The data of a run, from its settings and its directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_savae import data as data_lib
from tf_savae.data.dataset import SPLITS, DataSet
from tf_savae.data.sources import DATASETS
from tf_savae.errors import UserError
from tf_savae.kind import KINDS, Kind
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory

OWN = "own_data"  # among the facts about the data of a run: the name of data that no setting names


def load(config: RunConfig, run_dir: RunDirectory) -> DataSet:
  """The data of a run, with what it kept of them when it began, such as the words of text.

  Facts about the data are stored when the run begins and compared later. So a run is never resumed or evaluated with
  different data, except for `config.eval_file`.

  Raises:
    UserError: they are missing, unusable, or not those that the run began with.
  """
  kind = KINDS.get(config.kind)
  if config.eval_file:
    return kind.from_file(config.eval_file, config, run_dir)
  own = run_dir.data_facts().get(OWN)
  if own:
    raise UserError(
      f"the run in {run_dir.path} began with data that a program gave it, {own!r}, and knows no others; go on with"
      " tf_savae.training.run(…, data=…)"
    )
  data = data_lib.load(
    config.dataset,
    data_dir=config.data_dir,
    seed=config.seed,
    download=config.download,
    strict=config.strict_data,
    **options_of(config, run_dir),
    **kind.kept(run_dir),
  )
  if config.condition:
    data.condition_on(config.condition)
  keep(config, run_dir, data)
  return data


def keep(
  config: RunConfig, run_dir: RunDirectory, data: DataSet, more: Mapping[str, Any] | None = None
) -> None:
  """Stores with a run that begins what its data are, and compares it later.

  Args:
    config: the settings.
    run_dir: of the run.
    data: the data.
    more: JSON values that name them, too.

  Raises:
    UserError: they are not those that the run began with.
  """
  kind = KINDS.get(config.kind)
  run_dir.check_data(_facts(data, kind) | dict(more or {}))
  kind.keep(data, run_dir)


def options_of(config: RunConfig, run_dir: RunDirectory) -> dict[str, Any]:
  """What the settings say to the `load` of the data set; what they leave open is as when the run began."""
  source, begun = DATASETS.get(config.dataset), run_dir.data_facts()
  options = config.values(source.settings)
  for name, earlier in source.earlier.items():
    if options[name] is None and begun:
      options[name] = begun.get(name, earlier)
  return options


def _facts(data: DataSet, kind: Kind) -> dict[str, Any]:
  """Facts about the data that may not change between two starts of a run."""
  sizes = {split: data.num_examples(split) for split in SPLITS}
  return {"is_stand_in": data.is_stand_in, **sizes, **data.facts, **kind.facts(data)}
