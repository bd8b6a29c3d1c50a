"""Trains the paper's algorithm in PyTorch as a row of a table, and measures its weights in our model.

The peer begins with the initial weights of our run with the same seed, and sees the same batches in the same order.
`benchmarks.peers.training` trains it in an interpreter that has PyTorch; `benchmarks.check_peers` shows that both
compute the same loss and gradients at the same weights.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import named_weights
from experiments import comparison_work
from experiments.comparison import Files, Table, Task
from experiments.example_values import Measure
from experiments.learning_curve import measured
from tf_savae.data.dataset import DataSet
from tf_savae.errors import UserError
from tf_savae.model import SAVAE
from tf_savae.runs import run_data
from tf_savae.runs.build import build_model
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import open_run

_BATCHES = 1500  # that the peer is given; a longer training sees them again
_TRAINING_ONLY = ("run_dir", "data_dir", "jit_compile")  # of settings: what the peer has no use for


def work(files: Files, table: Table, task: Task, torch_python: str, options: tuple[str, ...] = ()) -> None:
  """Trains the peer with the settings of a task, and writes the task's result with its curve.

  Args:
    files: of the table.
    table: the table.
    task: one whose row is trained by the peer.
    torch_python: interpreter that has PyTorch.
    options: further flags of `benchmarks.peers.training`.

  Raises:
    UserError: the training failed.
  """
  config = comparison_work.config_of(table, task, files.run_dir(task))
  with open_run(config) as run_dir:
    data = run_data.load(config, run_dir)
    model = build_model(config, data)
    job, out = run_dir.path / "job.npz", run_dir.path / "weights"
    write_job(job, table, task, config, data, model)
    train([os.path.expanduser(torch_python), "-m", "benchmarks.peers.training"], job, out, options)
    job.unlink()
    curve = _curve(model, data, table, config, out)
    values = comparison_work.values_of(model, data, table, config)
  last = curve[-1]
  comparison_work.write_result(
    files,
    table,
    task,
    task.row,
    {},
    values,
    data,
    processor_seconds=last["seconds"],
    update_seconds=last["seconds"] / max(last["step"], 1),
    steps=last["step"],
    curve=curve,
  )


def write_job(path: Path, table: Table, task: Task, config: RunConfig, data: DataSet, model: SAVAE) -> None:
  """Writes what `benchmarks.peers.training` reads."""
  batches = [np.asarray(x) for x in data.train_batches(config.batch_size, 0, _BATCHES)]
  settings = {n: v for n, v in table.run_settings(task).items() if n not in _TRAINING_ONLY}
  about = {
    "settings": settings,
    "budget": table.budget,
    "times": list(table.curve),
    "vocabulary": getattr(data, "vocab_size", None),
    "warmup_steps": config.beta_warmup_epochs * data.steps_per_epoch(config.batch_size),
    "batches": len(batches),
  }
  arrays: dict[str, Any] = {f"batch_{i}": _compact(x) for i, x in enumerate(batches)}
  arrays |= {n: v.numpy() for n, v in named_weights.named_variables(model).items()}
  sizes = np.broadcast_to(np.asarray(model.step_sizes.sizes(config.k), np.float32), [config.k])
  with open(path, "wb") as file:
    np.savez(file, about=json.dumps(about), step_sizes=sizes, **arrays)


def _compact(x: np.ndarray) -> np.ndarray:
  """Pixels that are 0 or 1 as bytes."""
  return x.astype(np.uint8) if x.dtype == np.float32 and np.isin(x, (0, 1)).all() else x


def train(program: list[str], job: Path, out: Path, options: tuple[str, ...] = ()) -> None:
  """Runs the training on one thread. Raises UserError with its last line if it fails."""
  command = [*program, f"--job={job}", f"--out={out}", *options]
  one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
  try:
    done = subprocess.run(command, env={**os.environ, **one}, capture_output=True, text=True, check=False)
  except OSError as error:
    raise UserError(f"--torch_python could not be started: {error}") from error
  if done.returncode:
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    raise UserError(f"the training in PyTorch failed: {lines[-1]}")


def assign(model: SAVAE, weights: dict[str, np.ndarray]) -> None:
  """Gives a model the weights of the peer, as `benchmarks.peers.training` writes them."""
  variables = {**named_weights.named_variables(model), **named_weights.moving_moments(model)}
  for name, variable in variables.items():
    variable.assign(weights[name])
  if model.step_sizes.log_sizes is not None:
    model.step_sizes.log_sizes.assign(np.reshape(weights["log_step_sizes"], model.step_sizes.log_sizes.shape))


def _curve(model: SAVAE, data: DataSet, table: Table, config: RunConfig, out: Path) -> list[dict[str, Any]]:
  measure = Measure(
    model,
    data,
    "test",
    num=table.curve_examples,
    batch_size=config.eval_batch_size,
    bound_samples=table.bound_samples,
    iw_samples=table.iw_samples,
  )
  points: list[dict[str, Any]] = []
  for index in range(len(table.curve)):
    with np.load(out / f"weights_{index}.npz") as file:
      weights = dict(file)
    place = {"seconds": float(weights["seconds"]), "step": int(weights["updates"])}
    if points and points[-1]["step"] == place["step"]:
      points.append(points[-1])
      continue
    assign(model, weights)
    points.append({**place, **measured(measure)})
  return points
