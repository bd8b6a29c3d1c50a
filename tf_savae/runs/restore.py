"""A run directory's trained model, rebuilt without the run's data."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from tf_savae.data.dataset import DataSet
from tf_savae.data.vocabulary import Vocabulary
from tf_savae.errors import UserError
from tf_savae.kind import KINDS
from tf_savae.model import SAVAE
from tf_savae.runs import own, run_data
from tf_savae.runs.build import build_model
from tf_savae.runs.checkpoints import of_run
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory, open_run

__all__ = ["Restored", "load_model"]


@dataclasses.dataclass(frozen=True)
class Restored:
  """The trained model of a run, with its settings and results.

  Attributes:
    model: the model with the weights of the best validation bound, or the last weights if no bound was finite.
    config: the run's settings, with the requested changes.
    kind: the kind of the data, as in `DataSet.kind`.
    vocabulary: the vocabulary of a run on text; None otherwise.
    step: the update after which the model had these weights.
    results: results.json; None while training is not finished.

  Example:
    >>> import tempfile
    >>> from tf_savae.runs.restore import load_model
    >>> from tf_savae.training import make_config, run
    >>> path = f"{tempfile.mkdtemp()}/run"
    >>> options = {"dataset": "synthetic", "model": "vae", "preset": "tiny", "max_steps": 1, "run_dir": path}
    >>> results = run(make_config(**options), splits=["test"])  # doctest: +ELLIPSIS
    data: synthetic...
    >>> restored = load_model(path)
    >>> restored.kind, restored.step
    ('tokens', 1)
  """

  model: SAVAE
  config: RunConfig
  kind: str
  vocabulary: Vocabulary | None
  step: int
  results: dict[str, Any] | None


def load_model(run_dir: str | os.PathLike[str], **changes: Any) -> Restored:
  """The model of a run directory that no training process is using.

  The run's data are not needed, except for kinds of data without an outline.

  Args:
    run_dir: what `--run_dir` was in training.
    **changes: settings other than the run's, such as `eval_k` or `precision`.

  Raises:
    UserError: there is no trained run, it is in use, or it cannot be read.

  Returns:
    The model with its settings, as `Restored`.

  Example:
    >>> import tempfile
    >>> from tf_savae.errors import UserError
    >>> from tf_savae.runs.restore import load_model
    >>> try:
    ...   load_model(tempfile.mkdtemp())
    ... except UserError as error:
    ...   print("holds no run" in str(error))
    True
  """
  path = os.path.expanduser(os.fspath(run_dir))
  if not Path(path).is_dir():
    raise UserError(f"--run_dir={run_dir} is no directory; name the --run_dir of a run of train.py")
  stored = RunDirectory(path).read_config()
  if stored is None:
    raise UserError(f"--run_dir={run_dir} holds no run (no config.json); name that of a run of train.py")
  config = dataclasses.replace(stored, **changes, run_dir=path)
  stored.check_steps(config, path)
  with open_run(dataclasses.replace(stored, run_dir=path, eval_only=True)) as run:
    data = KINDS.get(config.kind).outline(config, run) or run_data.load(config, run)
    model = own.rebuilt(config, run, data) or build_model(config, data)
    checkpoints = of_run(run.checkpoints, model)
    best = checkpoints.restore_best()
    # Not looked at where there is a best one: it also holds what only training needs.
    step = checkpoints.restore_latest(must_exist=run.has_progress) if best is None else best[0]
    if step is None:
      raise UserError(f"--run_dir={run_dir} holds no trained weights yet; train there first")
    return Restored(model, config, data.kind, getattr(data, "vocabulary", None), step, run.read_results())


def load_with_data(
  run_dir: str | os.PathLike[str], data_dir: str | None = None, **changes: Any
) -> tuple[Restored, DataSet]:
  """`load_model`, and the run's data, which must be those that it was trained with.

  Args:
    run_dir: what `--run_dir` was in training.
    data_dir: where the data are, if not where they were in training.
    **changes: settings other than the run's.

  Raises:
    UserError: as `load_model`, or the data are missing or other ones.
  """
  if data_dir is not None:
    changes["data_dir"] = os.path.expanduser(data_dir)
  run = load_model(run_dir, **changes)
  return run, run_data.load(run.config, RunDirectory(run.config.run_dir))
