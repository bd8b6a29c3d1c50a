"""Whole runs in one process: started, made to die at a chosen moment, started again, compared.

A run of its own process spends most of its time tracing and compiling. Here a model is compiled once for all runs of
equal graph, and set back to its initial weights when a run begins, as a new process would find it.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tf_savae.evaluation.bounds import Evaluator
from tf_savae.evaluation.posteriors import Inference
from tf_savae.runs import run_data
from tf_savae.runs.build import build_model
from tf_savae.runs.config import RunConfig, show
from tf_savae.training import loop, make_config, results, tensorboard
from tf_savae.training.keeping import RunKeeper

ROOT = Path(__file__).parents[2]

# Of the synthetic data here, in each split: that of the command line is larger than these tests need.
EXAMPLES = 400

# What does not enter a graph or the initial weights.
_NOT_IN_THE_GRAPH = (
  *("run_dir", "data_dir", "download", "strict_data", "eval_only", "epochs", "max_steps", "learning_rate"),
  *(
    "lr_decay",
    "lr_patience",
    "lr_decay_from",
    "lr_decay_mode",
    "min_learning_rate",
    "max_minutes",
    "init_from",
    "eval_file",
    "early_stop_patience",
    "max_nonfinite",
    "checkpoint_every",
    "keep_checkpoints",
  ),
  *("eval_batch_size", "iw_samples"),
)


def tiny_config(run_dir: str | Path, dataset: str = "synthetic", **changes: Any) -> RunConfig:
  """Preset tiny with K = 2, four updates per epoch, and the stand-in for a data set that is not there."""
  sizes = {"batch_size": 450, "eval_batch_size": 100, "k": 2}
  if dataset == "synthetic":
    sizes |= {"train_examples": EXAMPLES, "batch_size": EXAMPLES // 4}
  given = {
    "data_dir": str(Path(run_dir).parent / "no_data"),
    "download": False,
    "max_steps": 0,
    **sizes,
    **changes,
  }
  return make_config(dataset=dataset, preset="tiny", run_dir=str(run_dir), **given)


def command_line(config: RunConfig) -> list[str]:
  """The arguments of train.py that give `config`."""
  values = {name: value for name, value in dataclasses.asdict(config).items() if value not in (None, ())}
  return [
    "train.py",
    *(f"--{name}={str(v).lower() if isinstance(v, bool) else show(v)}" for name, v in values.items()),
  ]


class CompiledOnce:
  """Stands in the way of the functions that build something expensive, and keeps what they made."""

  def __init__(self, patch: pytest.MonkeyPatch):
    self._models: dict[tuple, tuple[Any, list[np.ndarray]]] = {}
    patch.setattr(loop, "build_model", self.build_model)
    patch.setattr(results, "Evaluator", functools.cache(Evaluator))
    patch.setattr(tensorboard, "Inference", _made_once(Inference))
    self._load = run_data.data_lib.load
    self._data: dict[tuple, Any] = {}
    patch.setattr(run_data.data_lib, "load", self.load)

  def load(self, name: str, **options: Any) -> Any:
    if name != "synthetic":
      return self._load(name, **options)
    key = tuple(sorted((k, v) for k, v in options.items() if k != "data_dir"))
    if key not in self._data:
      self._data[key] = self._load(name, **{"num_examples": EXAMPLES, "vocab_size": 20, **options})
    return self._data[key]

  def build_model(self, config: RunConfig, data: Any) -> Any:
    key = tuple((k, v) for k, v in dataclasses.asdict(config).items() if k not in _NOT_IN_THE_GRAPH)
    if key not in self._models:
      model = build_model(config, data)
      self._models[key] = (model, [v.numpy() for v in _variables(model)])
    model, initial = self._models[key]
    for variable, value in zip(_variables(model), initial, strict=True):
      variable.assign(value)
    model.optimizer.learning_rate.assign(config.learning_rate)
    return model


def _made_once(of: Any) -> Any:
  """`of`, which returns what it made before for equal arguments; those that cannot be hashed are specs of inputs."""
  made: dict[Any, Any] = {}

  @functools.wraps(of)
  def make(*args: Any) -> Any:
    key = tuple(repr(value) if isinstance(value, dict) else value for value in args)
    if key not in made:
      made[key] = of(*args)
    return made[key]

  return make


def _variables(model) -> list[Any]:
  return list(
    {id(v): v for v in [*model.variables, *model.metrics_variables, *model.optimizer.variables]}.values()
  )


class Died(BaseException):
  """Nobody catches this: the run ends where it is, as in a kill."""


@contextlib.contextmanager
def dying(function: str, call: int, after: bool = False, owner: Any = RunKeeper, by: Any = Died):
  """Within it, call number `call` (from 1) of a method of `owner` dies, before or after it did its work.

  Args:
    by: an exception to raise, or a function to call instead, such as one that sends a signal.
  """
  original, calls = getattr(owner, function), 0

  @functools.wraps(original)
  def mortal(*args, **kwargs):
    nonlocal calls
    calls += 1
    if calls == call and not after:
      _end(by)
    result = original(*args, **kwargs)
    if calls == call and after:
      _end(by)
    return result

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(owner, function, mortal)
    yield
  assert calls >= call, f"{function} was called {calls} times only"


def _end(by):
  if isinstance(by, type):
    raise by
  by()


@contextlib.contextmanager
def recorded_updates():
  """A list that fills with the number of each update that is done."""
  steps: list[int] = []
  original = RunKeeper.on_train_batch_end

  def record(self, batch, logs=None):
    steps.append(int(self.model.step.value))
    original(self, batch, logs)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(RunKeeper, "on_train_batch_end", record)
    yield steps


@dataclasses.dataclass
class Outcome:
  """What a run leaves behind, but for times: its last checkpoint, its best model, metrics.csv, results.json."""

  last: dict[str, np.ndarray]
  best: dict[str, np.ndarray]
  rows: list[dict[str, str]]
  results: dict[str, Any]

  @classmethod
  def of(cls, run_dir: str | Path) -> Outcome:
    run_dir = Path(run_dir)
    results = json.loads((run_dir / "results.json").read_text())
    results.pop("seconds")
    rows = read_rows(run_dir)
    for row in rows:
      row.pop("seconds")
      row.pop("step_seconds", None)
    return cls(tensors(run_dir), tensors(run_dir / "checkpoints" / "best", "best"), rows, results)


def read_rows(run_dir: str | Path) -> list[dict[str, str]]:
  """metrics.csv."""
  with open(Path(run_dir) / "metrics.csv", newline="") as file:
    return list(csv.DictReader(file))


def steps_saved(run_dir: str | Path) -> list[int]:
  """Steps of the checkpoints."""
  return sorted(int(path.stem.split("-")[1]) for path in (Path(run_dir) / "checkpoints").glob("ckpt-*.index"))


def tensors(directory: Path, name: str = "ckpt") -> dict[str, np.ndarray]:
  """All that the newest checkpoint holds: weights, slots, counters, metrics; without times and TensorFlow's own."""
  if name == "ckpt":
    directory = directory / "checkpoints"
  newest = max(directory.glob(f"{name}-*.index"), key=lambda path: int(path.stem.split("-")[1]))
  reader = tf.train.load_checkpoint(str(newest.with_suffix("")))
  own = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter", "seconds")
  return {
    key: reader.get_tensor(key)
    for key in reader.get_variable_to_shape_map()
    if not any(part in own for part in key.split("/"))
  }


def assert_same_outcome(one: Outcome, other: Outcome, rtol: float = 0.0) -> None:
  """Equal to the last bit, or to a relative error."""
  for ours, theirs in ((one.last, other.last), (one.best, other.best)):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
      scale = float(np.max(np.abs(value), initial=0)) if value.dtype.kind == "f" else 0
      np.testing.assert_allclose(theirs[key], value, rtol=0, atol=rtol * scale, err_msg=key)
  if not rtol:
    assert one.rows == other.rows
    assert one.results == other.results
  else:
    assert len(one.rows) == len(other.rows)
    for row, other_row in zip(one.rows, other.rows, strict=True):
      assert {k: float(v) for k, v in row.items()} == pytest.approx(
        {k: float(v) for k, v in other_row.items()}, rel=rtol
      )
    for split in ("valid", "test"):
      assert one.results[split] == pytest.approx(other.results[split], rel=100 * rtol)
