"""The directory of one run: its configuration, lock, metrics and results.

    config.json     the RunConfig, and what the data set was
    checkpoints/    see `tf_savae.runs.checkpoints`
    tensorboard/    logs
    metrics.csv     one row per epoch
    results.json    the evaluation; says whether training is finished
    results-*.json  evaluations on other files
    vocabulary.txt  for runs on text: the word of each id, one per line; the weights depend on it, so every export
                    includes it
    sentencepiece.model  with --units=sentencepiece: the model whose pieces vocabulary.txt lists
    model.json      for runs with the user's own model: its configuration
    oracle.npz      for runs on synthetic data: the parameters of the model that generated them

Every file is replaced atomically, so that a kill at any moment leaves either the old file or the new one.
"""

from __future__ import annotations

import contextlib
import csv
import enum
import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tf_savae import locks
from tf_savae.atomic_files import atomic_write_text, read_json, write_json
from tf_savae.errors import UserError, reason
from tf_savae.runs.config import RunConfig, show
from tf_savae.runs.options import OnResume

_DATA_KEY = "data_facts"  # of config.json: what the data set was when the run began
_LOCK = ".lock"
_FINISHED_KEY = "training_finished"  # of results.json


class RunStatus(enum.Enum):
  """The state of a run directory."""

  NEW = "new"
  RESUMABLE = "resumable"
  FINISHED = "finished"


class RunDirectory:
  """An open run directory, held by this process alone until `close`.

  Use `open_run` to get one. The object is a context manager that releases the lock.

  Attributes:
    path, checkpoints, tensorboard, metrics_file, results_file, config_file, model_file, vocabulary_file, pieces_file,
      oracle_file: where things are.
  """

  def __init__(self, path: str | os.PathLike):
    self.path = Path(path)
    self.config_file = self.path / "config.json"
    self.checkpoints = self.path / "checkpoints"
    self.tensorboard = self.path / "tensorboard"
    self.metrics_file = self.path / "metrics.csv"
    self.results_file = self.path / "results.json"
    self.model_file = self.path / "model.json"
    self.vocabulary_file = self.path / "vocabulary.txt"
    self.pieces_file = self.path / "sentencepiece.model"
    self.oracle_file = self.path / "oracle.npz"
    self._lock: io.TextIOBase | None = None
    self._is_made_here = False

  # State.

  @property
  def status(self) -> RunStatus:
    """New, resumable or finished."""
    if self.is_finished:
      return RunStatus.FINISHED
    return RunStatus.RESUMABLE if self.config_file.exists() else RunStatus.NEW

  @property
  def is_finished(self) -> bool:
    """Whether training has finished here."""
    results = self.read_results()
    return results is not None and bool(results.get(_FINISHED_KEY))

  @property
  def has_progress(self) -> bool:
    """Whether an epoch was completed here, in which case there must be a checkpoint."""
    return bool(self.read_metrics())

  @property
  def has_checkpoint(self) -> bool:
    """Whether a checkpoint was ever written here."""
    return any(self.checkpoints.glob("**/*.index")) or self.has_progress

  # Opening.

  def create(self) -> None:
    """Makes the directory where it is missing.

    Raises:
      UserError: it cannot be made or written to.
    """
    try:
      self._is_made_here = not self.path.exists()
      self.path.mkdir(parents=True, exist_ok=True)
      with tempfile.TemporaryFile(dir=self.path):
        pass
    except FileExistsError as error:
      raise UserError(f"--run_dir={self.path} is a file, not a directory; name another --run_dir") from error
    except OSError as error:
      raise UserError(
        f"cannot write in --run_dir={self.path}: {reason(error)}; name another --run_dir"
      ) from error

  def lock(self) -> None:
    """Locks the directory for this process; the system releases the lock whenever the process ends.

    Raises:
      UserError: another process holds it.
    """
    try:
      self._lock = locks.take(self.path / _LOCK)
    except locks.InUse as holder:
      raise UserError(
        f"--run_dir={self.path} is in use by another process ({holder}); wait for it, or name another"
        " --run_dir"
      ) from None
    except OSError as error:
      raise UserError(f"cannot lock --run_dir={self.path}: {reason(error)}") from error

  def close(self) -> None:
    """Releases the lock. A directory that was made here, and in which nothing is, is removed."""
    if self._lock is not None:
      if self._is_made_here and [path.name for path in self.path.glob("*")] == [_LOCK]:
        with contextlib.suppress(OSError):
          (self.path / _LOCK).unlink()
          self.path.rmdir()
      with contextlib.suppress(OSError):
        self._lock.close()
      self._lock = None

  def __enter__(self) -> RunDirectory:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  # Configuration.

  def read_config(self) -> RunConfig | None:
    """The configuration of the run in this directory, or None.

    Raises:
      UserError: config.json exists but cannot be understood.
    """
    values = read_json(self.config_file)
    if values is None:
      return None
    values.pop(_DATA_KEY, None)
    try:
      return RunConfig.from_dict(values)
    except UserError as error:
      raise UserError(
        f"{self.config_file} is not a configuration of this program: {error}; name another --run_dir"
      ) from error

  def write_config(self, config: RunConfig) -> None:
    """Stores `config`; keeps what is known about the data."""
    facts = self.data_facts()
    values = config.to_dict() | ({_DATA_KEY: facts} if facts else {})
    write_json(self.config_file, values)

  def forget_unused(self) -> None:
    """Removes config.json if no checkpoint was ever written, so that the next attempt may have other settings."""
    if not self.has_checkpoint:
      for file in (
        self.config_file,
        self.model_file,
        self.vocabulary_file,
        self.pieces_file,
        self.oracle_file,
      ):
        file.unlink(missing_ok=True)

  def check_same_run(self, config: RunConfig) -> None:
    """Compares `config` with the one that is stored, if any.

    Raises:
      UserError: names the first setting that may not change, with both values.
    """
    stored = self.read_config()
    differences = stored.differences(config) if stored else []
    if stored and not differences:
      stored.check_steps(config, self.path)
    if differences:
      name, was, received = differences[0]
      more = f" ({len(differences) - 1} more differ)" if len(differences) > 1 else ""
      grows = RunConfig.__dataclass_fields__[name].metadata["on_resume"] is OnResume.GROWS
      rule = ", which may only grow" if grows else ""
      raise UserError(
        f"--{name} was {show(was)} in this run directory, received {show(received)}{rule}{more};"
        f" use another --run_dir than {self.path}"
      )

  def check_data(self, facts: Mapping[str, Any]) -> None:
    """Makes sure that a run is never resumed with different data.

    Args:
      facts: JSON values that identify the data, such as the sizes of its splits and whether it is a stand-in. They are
        stored at the first call and compared at later ones.

    Raises:
      UserError: the facts differ.
    """
    values = read_json(self.config_file) or {}
    stored = values.get(_DATA_KEY)
    facts = dict(facts)
    if stored is None:
      write_json(self.config_file, {**values, _DATA_KEY: facts})
      return
    for name in sorted(stored):  # another version may have stored fewer
      if stored[name] != facts.get(name):
        raise UserError(
          f"the data set changed since this run began: {name} was {stored.get(name)}, now {facts.get(name)};"
          f" restore the data, or use another --run_dir than {self.path}"
        )

  def data_facts(self) -> dict[str, Any]:
    """The facts that `check_data` stored; empty for a run that never loaded its data."""
    return (read_json(self.config_file) or {}).get(_DATA_KEY) or {}

  # Metrics.

  def read_metrics(self) -> list[dict[str, str]]:
    """The rows of metrics.csv, as text; a column that a row lacks is empty.

    Raises:
      UserError: the file cannot be read or has a row without a step.
    """
    try:
      with open(self.metrics_file, encoding="utf-8", newline="") as file:
        rows = [dict(row) for row in csv.DictReader(file, restval="")]
      for row in rows:
        int(row["step"])
        if None in row:
          raise ValueError(f"the row of step {row['step']} has more cells than there are columns")
    except FileNotFoundError:
      return []
    except (OSError, ValueError, KeyError, csv.Error) as error:
      raise UserError(
        f"{self.metrics_file} is damaged ({reason(error)}); move it away to go on without its rows"
      ) from error
    return rows

  def append_metrics(self, row: Mapping[str, Any]) -> None:
    """Adds a row, which must have `step`, and removes rows at or after its step; new columns go to the right.

    Raises:
      UserError: the file cannot be written.
    """
    kept = [old for old in self.read_metrics() if int(old["step"]) < int(row["step"])]
    self._write_metrics([*kept, {name: _cell(value) for name, value in row.items()}])

  def drop_metrics_after(self, step: int) -> None:
    """Removes the rows after `step`, because a resumed run will repeat those updates."""
    rows = self.read_metrics()
    kept = [row for row in rows if int(row["step"]) <= step]
    if len(kept) < len(rows):
      self._write_metrics(kept)

  def _write_metrics(self, rows: list[dict[str, str]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(self.metrics_file, text.getvalue() if rows else "")

  # Results.

  def read_results(self) -> dict[str, Any] | None:
    """The content of results.json, or None if there is none.

    Raises:
      UserError: the file exists but cannot be understood.
    """
    return read_json(self.results_file)

  def write_results(self, results: Mapping[str, Any], *, training_finished: bool | None = None) -> None:
    """Stores the evaluation.

    Args:
      results: JSON values; NaN and infinity become null, which JSON lacks.
      training_finished: marks the run as finished or not; None keeps the mark (for `--eval_only`).
    """
    finished = self.is_finished if training_finished is None else training_finished
    write_json(self.results_file, {**results, _FINISHED_KEY: finished})

  def write_results_of(self, file: str | os.PathLike[str], results: Mapping[str, Any]) -> Path:
    """Stores the evaluation on a text `file` beside results.json, under the file's name; returns where."""
    name = Path(file).name.removesuffix(".gz").removesuffix(".txt")
    path = self.path / f"results-{name}.json"
    write_json(path, results)
    return path


def no_run(path: str | os.PathLike[str]) -> str:
  """What is wrong with a directory that is to be evaluated and holds no run."""
  return f"evaluation needs a trained run; --run_dir={path} holds none; name the directory of one"


def open_run(config: RunConfig, kind: type[RunDirectory] = RunDirectory) -> RunDirectory:
  """Opens, locks and checks the directory `config.run_dir`, and stores the configuration there.

  To train, the directory must be new or hold an unfinished run of the same configuration. With
  `config.eval_only` it must hold a run, finished or not; its config.json is left as it is. `kind` is the class of the
  directory.

  Raises:
    UserError: it cannot be written, is in use, holds another configuration, a finished run, or (for
      `eval_only`) none.
  """
  run = kind(config.run_dir)
  if config.eval_only and not run.config_file.is_file():
    raise UserError(no_run(run.path))
  run.create()
  run.lock()
  try:
    if run.read_config() is None and (run.checkpoints.exists() or run.read_metrics() or run.read_results()):
      raise UserError(
        f"--run_dir={run.path} holds a run without its config.json; restore it, or use another --run_dir"
      )
    run.check_same_run(config)
    if not config.eval_only:
      if run.is_finished:
        raise UserError(
          f"the run in {run.path} is finished; evaluate it with --eval_only --run_dir={run.path}, or start"
          " another with another --run_dir or --seed"
        )
      run.write_config(config)
  except BaseException:
    run.close()
    raise
  return run


def _cell(value: Any) -> str:
  """A number with all its digits, since NumPy's float32 prints fewer than a reader needs."""
  return repr(float(value)) if hasattr(value, "dtype") and value.dtype.kind == "f" else str(value)
