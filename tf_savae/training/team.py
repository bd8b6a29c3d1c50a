"""The devices, and the workers, that train one run together."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory
from tf_savae.training import devices, rendezvous

_CLUSTER = "TF_CONFIG"  # the variable that says who the workers are


class Team:
  """Who trains a run: one device without a strategy, several devices of a process, or several processes.

  Attributes:
    strategy: of `tf.distribute`; None: TensorFlow's default device.
    index, size: of this process among the workers, and their number.
  """

  def __init__(self, strategy: tf.distribute.Strategy | None = None, index: int = 0, size: int = 1):
    self.strategy, self.index, self.size = strategy, index, size

  @property
  def is_chief(self) -> bool:
    """Whether this process writes what the run leaves behind."""
    return self.index == 0

  @property
  def num_devices(self) -> int:
    """Devices of all workers."""
    return self.strategy.num_replicas_in_sync if self.strategy else 1

  def scope(self) -> contextlib.AbstractContextManager:
    """Where the model's variables are to be made."""
    return self.strategy.scope() if self.strategy else contextlib.nullcontext()

  def shared(self, batches: tf.data.Dataset) -> Any:
    """Batches of all devices, of which each gets consecutive rows; the last device may get none."""
    if self.strategy is None:
      return batches
    total = self.num_devices

    def of_pipeline(context):
      own = total // context.num_input_pipelines
      own_devices = tf.data.Dataset.range(
        context.input_pipeline_id * own, (context.input_pipeline_id + 1) * own
      )

      def rows(batch):
        size = tf.shape(tf.nest.flatten(batch)[0], tf.int64)[0]

        def of_device(i):
          part = slice(i * size // total, (i + 1) * size // total)
          return tf.nest.map_structure(lambda tensor: tensor[part], batch)

        return own_devices.map(of_device)

      options = tf.data.Options()
      options.autotune.enabled = False
      return batches.flat_map(rows).prefetch(2 * own).with_options(options)

    return self.strategy.distribute_datasets_from_function(of_pipeline)

  def from_chief(self, value: int = 0) -> int:
    """The chief's value, for which all workers wait."""
    if self.size == 1:
      return value

    @tf.function
    def agreed(own):
      def step():
        context = tf.distribute.get_replica_context()
        of_chief = tf.where(tf.equal(context.replica_id_in_sync_group, 0), own, 0)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, of_chief)

      return self.strategy.experimental_local_results(self.strategy.run(step))[0]

    with self.explained():
      return int(agreed(tf.constant(value, tf.int64)))

  @contextlib.contextmanager
  def explained(self) -> Iterator[None]:
    """A context that turns the end of another worker into one line. Raises UserError."""
    try:
      yield
    except tf.errors.OpError as error:
      if self.size == 1 or isinstance(error, tf.errors.ResourceExhaustedError):
        raise
      raise UserError(
        f"worker {self.index} of {self.size} lost another one ({error.message.splitlines()[0][:200]}); start all of"
        " them again, and the run goes on from its last checkpoint"
      ) from error

  @contextlib.contextmanager
  def chief_first(self) -> Iterator[None]:
    """Within it the chief works first, and the other workers once it is done."""
    if not self.is_chief:
      self.from_chief()
    yield
    if self.is_chief:
      self.from_chief()


def of_run(config: RunConfig) -> Team:
  """The team that `--strategy` names. It must be made before TensorFlow computes anything.

  Raises:
    UserError: it does not fit this machine, the settings or TF_CONFIG, or the other workers cannot be reached.
  """
  devices.prepare(config)
  name = config.strategy
  if name == "auto":
    name = "multi_worker" if os.environ.get(_CLUSTER) else _on_this_machine()
  if name == "one":
    return Team()
  _check_settings(config, name)
  if name == "mirrored":
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    names = [f"{kind}:{i}" for i in range(len(tf.config.list_logical_devices(kind)))]
    if len(names) == 1:
      raise UserError(
        f"--strategy=mirrored needs several devices; received one {kind}; leave it out, or try it on virtual devices"
        " with --cpu_devices=2"
      )
    return Team(tf.distribute.MirroredStrategy(names))
  return _workers(config)


def of_command(run_dir: str, **given: Any) -> Team:
  """The team of a command that reads a finished run: devices of this machine, whatever TF_CONFIG says.

  Several processes would each write the command's files, so they share the work only at the end of training and in
  `evaluate`.

  Args:
    run_dir: the directory of the run, whose precision is set; it need not be there.
    **given: settings of devices, such as `strategy` and `cpu_devices`; no strategy of several processes.

  Raises:
    UserError: the settings do not fit this machine.
  """
  config = RunDirectory(os.path.expanduser(run_dir)).read_config() or RunConfig()
  config = dataclasses.replace(config, **given, eval_only=True, jit_compile="auto", deterministic=False)
  if config.strategy == "auto":
    config = dataclasses.replace(config, strategy=_on_this_machine())
  return of_run(config)


def _on_this_machine() -> str:
  return "mirrored" if len(tf.config.list_physical_devices("GPU")) > 1 else "one"


def _check_settings(config: RunConfig, name: str) -> None:
  trains, several = not config.eval_only, name == "multi_worker"
  refused = {
    "jit_compile": trains
    and config.jit_compile == "true"
    and "XLA does not compile a step of several devices",
    "deterministic": config.deterministic and "bits do not repeat without XLA",
    "lagging_updates": trains and bool(config.lagging_updates) and "which updates all variables or none",
    "max_minutes": bool(trains and config.max_minutes and several) and "workers have clocks of their own",
  }
  for setting, why in refused.items():
    if why:
      value = str(getattr(config, setting)).lower()
      raise UserError(
        f"--{setting} does not go with --strategy={name}: {why}; received {value}; leave it out"
      )


def _workers(config: RunConfig) -> Team:
  """A team of processes."""
  addresses, index = _cluster()
  if index:
    rendezvous.come(addresses[0], index, config.worker_timeout)
  else:
    rendezvous.gather(addresses, config.worker_timeout)
  try:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
  except (tf.errors.OpError, RuntimeError, ValueError) as error:
    first = str(error).strip().splitlines()[0]
    raise UserError(
      f"the workers {', '.join(addresses)} do not find each other: {first}; look at their logs"
    ) from error
  return Team(strategy, index, len(addresses))


def _cluster() -> tuple[list[str], int]:
  """Addresses of the workers, and which of them this process is."""
  text = os.environ.get(_CLUSTER, "")
  try:
    found = json.loads(text)
    workers, task = found["cluster"], found["task"]
    addresses = [*workers.get("chief", []), *workers["worker"]]
    index = int(task["index"]) + (len(workers.get("chief", [])) if task["type"] == "worker" else 0)
    addresses[index].rsplit(":", 1)[1]
  except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
    raise UserError(
      f"--strategy=multi_worker needs {_CLUSTER}, with the workers' addresses and this one's index; received"
      f" {text or 'none'}; python -m tf_savae launch sets it on one machine"
    ) from error
  return addresses, index
