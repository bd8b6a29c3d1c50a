"""Several workers on one machine, as processes: equal to one device, also after one of them was killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tf_savae.commands import launch
from tf_savae.errors import UserError
from tf_savae.evaluation import per_example
from tf_savae.runs.config import RunConfig
from tf_savae.training import team

ROOT = Path(__file__).parents[2]
UPDATES = 24
RUN = (
  "--dataset=synthetic --model=vae_svi --k=2 --preset=tiny --batch_size=500 --epochs=4 --checkpoint_every=3"
  f" --eval_batch_size=2500 --max_steps={UPDATES} --iw_samples=1 --bound_samples=1 --jit_compile=false"
).split()


def start(*words: str) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, "-m", "tf_savae", *words],
    cwd=ROOT,
    env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def finish(process: subprocess.Popen) -> str:
  output, _ = process.communicate()
  assert process.returncode == 0, output[-3000:]
  return output


def weights(run: Path) -> dict[str, np.ndarray]:
  """The arrays of the last checkpoint, but for counters that name it."""
  path = str(run / "checkpoints" / f"ckpt-{UPDATES}")
  names = [name for name, _ in tf.train.list_variables(path) if name.startswith(("model", "optimizer"))]
  return {name: tf.train.load_variable(path, name) for name in names}


def children(process: subprocess.Popen) -> list[int]:
  text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8")
  return [int(number) for number in text.split()]


@pytest.mark.slow
def test_a_killed_worker_and_the_same_command_again(tmp_path):
  finish(start("train", *RUN, f"--run_dir={tmp_path / 'one'}"))
  several = (
    "launch",
    "--workers=2",
    f"--logs={tmp_path / 'logs'}",
    "--",
    *RUN,
    f"--run_dir={tmp_path / 'two'}",
  )
  first = start(*several)
  while not (tmp_path / "two" / "checkpoints" / "ckpt-6.index").exists():
    assert first.poll() is None, first.communicate()[0][-3000:]
    time.sleep(0.2)
  os.kill(children(first)[1], signal.SIGKILL)
  output, _ = first.communicate()
  assert first.returncode == 1
  assert re.search("error: worker 1 was ended by signal 9", output)
  assert "resumed at update" in finish(start(*several))
  one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
  assert one.keys() == two.keys()
  for name, value in one.items():
    np.testing.assert_allclose(two[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
  # Both workers evaluated, and the chief has written what one device finds.
  for name, value in per_example.load(tmp_path / "one" / per_example.TEST_FILE).items():
    found = per_example.load(tmp_path / "two" / per_example.TEST_FILE)[name]
    np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-5, err_msg=name)
  rows = (tmp_path / "two" / "metrics.csv").read_text(encoding="utf-8").splitlines()
  assert len(rows) == len((tmp_path / "one" / "metrics.csv").read_text(encoding="utf-8").splitlines())


class TestCommandLine:
  def test_needs_a_run(self):
    with pytest.raises(UserError, match="needs the settings of a run behind --"):
      launch.prepare(launch.Given(workers=2, logs="logs", typed={}, arguments=()))

  def test_train_is_the_default_command(self):
    given = launch.Given(workers=2, logs="logs", typed={}, arguments=("--dataset=omniglot",))
    assert launch.prepare(given).words == ("train", "--dataset=omniglot")


class TestCluster:
  def test_without_tf_config(self, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match=r"needs TF_CONFIG.*received none; python -m tf_savae launch sets it"):
      team.of_run(RunConfig(strategy="multi_worker"))

  def test_a_chief_that_is_not_there(self, monkeypatch):
    (port,) = launch.free_ports(1)
    cluster = {"worker": [f"127.0.0.1:{port}", "127.0.0.1:1"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 1}}))
    begun = time.monotonic()
    with pytest.raises(UserError, match=rf"the chief at 127.0.0.1:{port} cannot be reached for 1 seconds"):
      team.of_run(RunConfig(strategy="multi_worker", worker_timeout=1.0))
    assert time.monotonic() - begun < 10

  def test_settings_that_workers_cannot_have(self):
    with pytest.raises(UserError, match="--max_minutes does not go with --strategy=multi_worker"):
      team.of_run(RunConfig(strategy="multi_worker", max_minutes=1.0))
    with pytest.raises(UserError, match="--jit_compile does not go with --strategy=mirrored"):
      team.of_run(RunConfig(strategy="mirrored", jit_compile="true"))


class TestShares:
  def test_rows_of_all_devices_are_the_batch(self):
    alone = team.Team(tf.distribute.OneDeviceStrategy("CPU:0"))
    batches = tf.data.Dataset.range(7).batch(3)
    found = [batch.numpy().tolist() for _, batch in zip(range(3), alone.shared(batches), strict=False)]
    assert found == [[0, 1, 2], [3, 4, 5], [6]]
