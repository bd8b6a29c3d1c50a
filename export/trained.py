"""A run directory's trained model, rebuilt without the run's data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tf_savae.data import images_from_arrays
from tf_savae.data import load as load_data
from tf_savae.data.dataset import DataSet
from tf_savae.errors import UserError
from tf_savae.model import SAVAE
from tf_savae.training.build import build_model
from tf_savae.training.config import RunConfig
from tf_savae.training.keeper import RunKeeper
from tf_savae.training.run_dir import RunDirectory, open_run


@dataclasses.dataclass(frozen=True)
class Trained:
  """What there is to serve.

  Attributes:
    model: with the weights of the best validation bound (the last ones, where no bound was a number), float32.
    config: the run's settings.
    kind: of the data, as `DataSet.kind`.
    results: results.json; None while training is not finished.
  """

  model: SAVAE
  config: RunConfig
  kind: str
  results: dict[str, Any] | None


def load(run_dir: str) -> Trained:
  """The model of a run directory, which must not be in use by a training process.

  Networks that were trained in mixed precision compute in float32 here: their variables are float32 anyway.

  Raises:
    UserError: there is no trained run, it is in use, or it cannot be read.
  """
  if not Path(run_dir).is_dir():
    raise UserError(f"--run_dir={run_dir} is no directory; name the --run_dir of a run of train.py")
  stored = RunDirectory(run_dir).read_config()
  if stored is None:
    raise UserError(f"--run_dir={run_dir} holds no run (no config.json); name that of a run of train.py")
  with open_run(dataclasses.replace(stored, run_dir=run_dir, eval_only=True)) as run:
    data = _DATA[stored.dataset](stored)
    model = build_model(dataclasses.replace(stored, precision="float32"), data)
    checkpoints = RunKeeper(stored, run, model, steps_per_epoch=1).checkpoints
    if checkpoints.restore_best() is None and not checkpoints.restore_latest(must_exist=run.has_progress):
      raise UserError(f"--run_dir={run_dir} holds no trained weights yet; train there first")
    return Trained(model, stored, data.kind, run.read_results())


def _omniglot(config: RunConfig) -> DataSet:
  blank = np.zeros([1, 28, 28], np.float32)
  return images_from_arrays(blank, blank, blank, source="blank", seed=config.seed)


def _synthetic(config: RunConfig) -> DataSet:
  return load_data("synthetic", data_dir=config.data_dir, seed=0, data_seed=config.data_seed, num_examples=1)


# Data of the shapes that the networks are built for. Export needs no more, and works where the data is not.
_DATA: dict[str, Callable[[RunConfig], DataSet]] = {"omniglot": _omniglot, "synthetic": _synthetic}
