"""A checkpoint holds the whole state of a run, bit for bit, and one damaged file costs no run."""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.runs.checkpoints import Checkpoints, TrainingProgress


class State:
  """What a run consists of: model, optimizer, metric and progress, from a seed."""

  def __init__(self, seed):
    keras.utils.set_random_seed(seed)
    self.model = keras.Sequential(
      [
        keras.Input((4,)),
        keras.layers.Dense(8, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),  # has a seed generator, whose state tf.train.Checkpoint overlooks
        keras.layers.Dense(1),
      ]
    )
    self.optimizer = keras.optimizers.Adam(1e-2)
    self.optimizer.build(self.model.trainable_variables)
    self.metric = keras.metrics.Mean()
    self.progress = TrainingProgress()

  def trackables(self):
    metrics = [variable.value for variable in self.metric.variables]
    return {
      "model": self.model,
      "optimizer": self.optimizer,
      "metrics": metrics,
      "progress": self.progress,
    }

  def checkpoints(self, directory, **kwargs):
    return Checkpoints(directory, self.trackables(), **kwargs)

  def train(self, steps):
    for _ in range(steps):
      step = int(self.progress.step.numpy())
      x = tf.random.stateless_normal([6, 4], seed=[1, step])
      with tf.GradientTape() as tape:
        loss = tf.reduce_mean(self.model(x, training=True) ** 2)
      weights = self.model.trainable_variables
      self.optimizer.apply(tape.gradient(loss, weights), weights)
      self.metric.update_state(loss)
      self.progress.step.assign_add(1)

  def values(self):
    keras_variables = [*self.model.variables, *self.optimizer.variables, *self.metric.variables]
    tensors = [*[v.value for v in keras_variables], *self.progress.variables]
    return [tensor.numpy() for tensor in tensors]


def assert_same(one, other):
  for a, b in zip(one, other, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.fixture
def directory(tmp_path):
  return tmp_path / "checkpoints"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
  """Checkpoints of steps 1, 2 and 3, of which two are kept, and the values at each step."""
  directory = tmp_path_factory.mktemp("template") / "checkpoints"
  state = State(seed=0)
  checkpoints = state.checkpoints(directory, keep=2)
  values = {}
  for step in (1, 2, 3):
    state.train(1)
    checkpoints.save(step)
    values[step] = state.values()
  return directory, values


@pytest.fixture
def saved(directory, template):
  """A copy of the template in `directory`; the values at each step."""
  shutil.copytree(template[0], directory)
  return template[1]


def test_a_restored_run_is_the_saved_one_bit_for_bit_and_goes_on_alike(directory):
  uninterrupted = State(seed=0)
  uninterrupted.train(3)
  uninterrupted.checkpoints(directory).save(3)

  restored = State(seed=99)
  assert restored.checkpoints(directory).restore_latest() == 3
  assert_same(uninterrupted.values(), restored.values())
  # Dropout draws from its seed generator: only with its state saved do both go on alike.
  uninterrupted.train(2)
  restored.train(2)
  assert_same(uninterrupted.values(), restored.values())


def test_there_is_nothing_to_restore_in_a_new_run(directory):
  checkpoints = State(seed=0).checkpoints(directory)
  assert checkpoints.restore_latest() is None
  assert checkpoints.restore_best() is None


def test_only_the_last_are_kept_and_tensorflow_finds_the_newest(directory, saved):
  assert sorted(path.stem for path in directory.glob("*.index")) == ["ckpt-2", "ckpt-3"]
  assert tf.train.latest_checkpoint(directory) == str(directory / "ckpt-3")


def test_what_is_not_built_is_refused(directory):
  state = State(seed=0)
  unbuilt = keras.Sequential([keras.layers.Dense(1)])
  with pytest.raises(ValueError, match="model has no variables yet"):
    Checkpoints(directory, {**state.trackables(), "model": unbuilt})
  with pytest.raises(ValueError, match="optimizer has no variables yet"):
    Checkpoints(directory, {**state.trackables(), "optimizer": keras.optimizers.Adam()})


def truncate(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(path):
  content = bytearray(path.read_bytes())
  for position in range(0, len(content), 7):
    content[position] ^= 0xFF
  path.write_bytes(content)


def empty(path):
  path.write_bytes(b"")


DATA, INDEX = "ckpt-3.data-00000-of-00001", "ckpt-3.index"


@pytest.mark.parametrize(
  ("harm", "names"),
  [
    (truncate, [DATA]),
    (garble, [DATA]),
    (empty, [DATA]),
    (Path.unlink, [DATA]),
    (truncate, [INDEX]),
    (garble, [INDEX]),
    (Path.unlink, [INDEX]),
    (Path.unlink, [DATA, INDEX]),
  ],
)
def test_a_damaged_newest_falls_back_to_the_one_before_and_says_so(directory, saved, capfd, harm, names):
  for name in names:
    harm(directory / name)
  state = State(seed=5)
  checkpoints = state.checkpoints(directory)
  assert checkpoints.restore_latest() == 2
  assert_same(state.values(), saved[2])
  warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning:")]
  assert len(warnings) == 1
  assert "ckpt-3" in warnings[0]
  assert "step 2" in warnings[0]

  # From here it goes on as it did the first time, and later checkpoints replace the damaged one.
  state.train(1)
  assert_same(state.values(), saved[3])
  checkpoints.save(3)
  again = State(seed=6)
  assert again.checkpoints(directory).restore_latest() == 3
  assert_same(again.values(), saved[3])


@pytest.mark.parametrize("harm", [truncate, garble, empty, Path.unlink], ids=lambda harm: harm.__name__)
def test_a_damaged_record_of_checkpoints_costs_nothing(directory, saved, harm):
  harm(directory / "checkpoint")
  state = State(seed=5)
  checkpoints = state.checkpoints(directory)
  assert checkpoints.restore_latest() == 3
  assert_same(state.values(), saved[3])
  checkpoints.save(4)
  assert sorted(path.stem for path in directory.glob("*.index")) == ["ckpt-3", "ckpt-4"]


def test_when_none_can_be_read_it_is_an_error_and_nothing_is_thrown_away(directory, saved):
  for path in directory.glob("ckpt-*"):
    truncate(path)
  before = sorted(os.listdir(directory))
  with pytest.raises(UserError, match=r"can be read.*--run_dir"):
    State(seed=0).checkpoints(directory).restore_latest()
  assert sorted(os.listdir(directory)) == before


def test_lost_checkpoints_are_not_taken_for_a_new_run(directory, saved):
  for path in directory.glob("ckpt-*"):
    path.unlink()
  with pytest.raises(UserError):  # the record still names them
    State(seed=0).checkpoints(directory).restore_latest()
  shutil.rmtree(directory)
  with pytest.raises(UserError, match="are gone"):  # the caller knows of an epoch that was completed
    State(seed=0).checkpoints(directory).restore_latest(must_exist=True)


def test_a_checkpoint_of_another_model_is_refused(directory, saved):
  other = State(seed=0)
  other.model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
  other.optimizer = keras.optimizers.Adam()
  other.optimizer.build(other.model.trainable_variables)
  with pytest.raises(UserError, match="can be read"):
    other.checkpoints(directory).restore_latest()


def test_the_best_model_is_restored_without_its_optimizer_and_progress(directory):
  state = State(seed=0)
  checkpoints = state.checkpoints(directory)
  state.train(2)
  checkpoints.save_best(2, 7.25)
  best = [weight.numpy() for weight in state.model.weights]
  state.train(3)
  checkpoints.save(5)

  restored = State(seed=1)
  checkpoints = restored.checkpoints(directory)
  assert checkpoints.restore_latest() == 5
  assert checkpoints.restore_best() == (2, 7.25)
  assert_same(best, [weight.numpy() for weight in restored.model.weights])
  assert int(restored.progress.step.numpy()) == 5


def test_a_better_model_replaces_the_best(directory):
  state = State(seed=0)
  checkpoints = state.checkpoints(directory)
  for step, value in ((1, 9.0), (2, 8.0), (3, 7.0)):
    checkpoints.save_best(step, value)
  assert state.checkpoints(directory).restore_best() == (3, 7.0)
  assert [path.stem for path in (directory / "best").glob("*.index")] == ["best-3"]


def test_saving_a_step_twice_keeps_the_later_state(directory):
  state = State(seed=0)
  checkpoints = state.checkpoints(directory)
  checkpoints.save(1)
  state.progress.best_bound.assign(3.0)
  checkpoints.save(1)
  restored = State(seed=1)
  restored.checkpoints(directory).restore_latest()
  assert restored.progress.as_dict()["best_bound"] == 3.0


def test_left_overs_of_a_kill_in_a_save_are_removed(directory, saved):
  (directory / "ckpt-4_temp").mkdir()
  (directory / "ckpt-4_temp" / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"x" * 100)
  (directory / "ckpt-4.data-00000-of-00001").write_bytes(b"x" * 100)
  (directory / "checkpoint.tmp123").write_bytes(b"x")
  assert State(seed=0).checkpoints(directory).restore_latest() == 3
  assert not list(directory.glob("*4*")) + list(directory.glob("*.tmp*"))


def test_a_run_directory_can_be_moved(directory, saved, tmp_path):
  moved = tmp_path / "elsewhere"
  directory.rename(moved)
  state = State(seed=0)
  checkpoints = state.checkpoints(moved)
  assert checkpoints.restore_latest() == 3
  checkpoints.save(4)
  assert sorted(path.stem for path in moved.glob("*.index")) == ["ckpt-3", "ckpt-4"]


@contextlib.contextmanager
def full_disk(limit):
  """No file can grow beyond `limit` bytes: the system itself refuses the write."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("limit", [0, 100, 2000])
def test_a_full_disk_names_the_file_and_leaves_the_earlier_checkpoints(directory, limit):
  state = State(seed=0)
  checkpoints = state.checkpoints(directory)
  state.train(1)
  checkpoints.save(1)
  good, files = state.values(), sorted(os.listdir(directory))
  state.train(1)
  with full_disk(limit), pytest.raises(UserError) as caught:
    checkpoints.save(2)
  assert str(directory / "ckpt-2") in str(caught.value)
  assert "\n" not in str(caught.value)
  assert sorted(os.listdir(directory)) == files

  restored = State(seed=1)
  assert restored.checkpoints(directory).restore_latest() == 1
  assert_same(good, restored.values())
  checkpoints.save(2)  # with room again
  assert State(seed=1).checkpoints(directory).restore_latest() == 2


def test_progress_counts_epochs_without_a_better_bound():
  progress = TrainingProgress()
  bounds = [5.0, 4.0, float("nan"), 4.5, 3.0]
  assert [progress.record_validation(b, epoch) for epoch, b in enumerate(bounds, 1)] == [
    True,
    True,
    False,
    False,
    True,
  ]
  assert progress.as_dict()["best_bound"] == 3.0
  assert progress.as_dict()["best_epoch"] == 5
  assert not progress.record_validation(3.0, 6)
  assert progress.as_dict()["stop_stale_epochs"] == 1


# Counts steps in a large variable and saves at each, for ever; reports each step that is safely saved.
SAVE_FOR_EVER = """
import os, sys
import tensorflow as tf
from tf_savae.runs.checkpoints import Checkpoints

def go(directory, report):
  counts = tf.Variable(tf.zeros([200_000], tf.int64))
  checkpoints = Checkpoints(directory, {"model": [counts]})
  step = checkpoints.restore_latest() or 0
  assert (counts.numpy() == step).all(), "not the state of one step"
  os.write(report, f"restored {step}\\n".encode())
  while True:
    counts.assign_add(tf.ones_like(counts))
    step += 1
    checkpoints.save(step)
    os.write(report, f"saved {step}\\n".encode())

# A child each time, as importing TensorFlow is slow; nothing of it runs in the parent.
for line in sys.stdin:
  child = os.fork()
  if child == 0:
    try:
      go(sys.argv[1], 1)
    finally:
      os._exit(1)
  print("started", child, flush=True)
  os.waitpid(child, 0)
  print("dead", flush=True)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_of_a_save_loses_no_finished_save(directory):
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
  nursery = subprocess.Popen(
    [sys.executable, "-c", SAVE_FOR_EVER, str(directory)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    env=environment,
    text=True,
  )
  choose = random.Random(0)
  last_saved = 0
  try:
    for _ in range(12):
      print("go", file=nursery.stdin, flush=True)
      child = int(nursery.stdout.readline().split()[1])
      word, step = nursery.stdout.readline().split()
      assert word == "restored"
      # A save whose report the kill swallowed may be there too, but none that was reported may be missing.
      assert last_saved <= int(step) <= last_saved + 1
      last_saved = int(nursery.stdout.readline().split()[1])
      time.sleep(choose.uniform(0, 0.1))
      os.kill(child, signal.SIGKILL)
      while (line := nursery.stdout.readline().split())[0] != "dead":
        last_saved = int(line[1])
  finally:
    nursery.kill()
    nursery.communicate()
  assert last_saved >= 12
