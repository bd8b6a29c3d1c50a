"""A trial of the synthetic table, and the files that it leaves in its run directory. No TensorFlow."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from tf_savae.atomic_files import read_json, write_json
from tf_savae.errors import UserError
from tf_savae.evaluation import per_example
from tf_savae.runs.directory import RunDirectory

# The second one is the table of the main rows: its step takes several times as long, for z is in the recurrence.
FIRST_READING, SECOND_READING = "output_layer", "lstm_input"


@dataclasses.dataclass(frozen=True)
class Trial:
  """One model, trained once.

  Attributes:
    row: key of its row.
    candidate: index into the row's candidates.
    column: "oracle" or "learned".
    reading: where the oracle sees z.
    data_seed: of oracle and data.
    seed: of training.
  """

  row: str
  candidate: int
  column: str
  reading: str = FIRST_READING
  data_seed: int = 0
  seed: int = 0

  @property
  def name(self) -> str:
    """Of its run directory."""
    where = f"{self.column}.{self.reading}.d{self.data_seed}.s{self.seed}"
    return f"{self.row}.c{self.candidate}.{where}"


def run_dir(out: Path, trial: Trial) -> Path:
  """Where the trial is trained."""
  return Path(out) / "runs" / trial.name


def truth_file(out: Path, reading: str, data_seed: int) -> Path:
  """Exact quantities of the test points of an oracle: see `truth`."""
  return Path(out) / f"truth-{reading}-d{data_seed}.npz"


def values(out: Path, trial: Trial, split: str) -> dict[str, np.ndarray] | None:
  """Values of each example of a split, as `execution` wrote them; None where there are none.

  Raises:
    UserError: the file is damaged.
  """
  return per_example.load(run_dir(out, trial) / f"values-{split}.npz")


def facts(out: Path, trial: Trial, split: str) -> dict[str, Any] | None:
  """What else is known of the trial and its evaluation, as `execution` wrote it; None before that.

  Raises:
    UserError: the file is damaged.
  """
  return read_json(run_dir(out, trial) / f"values-{split}.json")


def write_values(
  out: Path, trial: Trial, split: str, rows: dict[str, np.ndarray], more: dict[str, Any]
) -> None:
  """Writes both files; the JSON last, so that there is none without the other."""
  place = run_dir(out, trial)
  per_example.save(place / f"values-{split}.npz", rows)
  means = {name: float(v.mean(dtype=np.float64)) for name, v in rows.items() if v.ndim == 1}
  about = {**dataclasses.asdict(trial), "split": split, "examples": len(rows["bound"])}
  write_json(place / f"values-{split}.json", about | means | more)


def failure(out: Path, trial: Trial) -> str | None:
  """Why the trial failed; None if it did not, or was not tried."""
  found = read_json(run_dir(out, trial) / "failure.json")
  return None if found is None else str(found.get("reason"))


def write_failure(out: Path, trial: Trial, reason: str) -> None:
  """Notes that the trial failed.

  Raises:
    UserError: the note cannot be written.
  """
  place = run_dir(out, trial)
  try:
    place.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f"cannot write in {place}: {error.strerror}") from error
  write_json(place / "failure.json", {"reason": reason})


def forget_failure(out: Path, trial: Trial) -> None:
  """Another try."""
  (run_dir(out, trial) / "failure.json").unlink(missing_ok=True)


def bound(out: Path, trial: Trial, split: str) -> float | None:
  """Mean −ELBO at λ_K; infinity of a trial that failed, None of one that is not done."""
  found = facts(out, trial, split)
  if found is not None:
    return found["bound"]
  return math.inf if failure(out, trial) is not None else None


def step_seconds(out: Path, trial: Trial) -> float | None:
  """Median over epochs of the seconds per update, without the first epoch, which traces; None without others."""
  rows = RunDirectory(run_dir(out, trial)).read_metrics()[1:]
  measured = [float(row["step_seconds"]) for row in rows if row.get("step_seconds")]
  return float(np.median(measured)) if measured else None
