"""The paper's algorithm in PyTorch as a row of a table: its job, its weights in our model, and a whole training."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import named_weights, peer_training, quality
from experiments import comparison_work
from experiments.comparison import Files, Task
from tf_savae.atomic_files import read_json
from tf_savae.errors import UserError
from tf_savae.runs import run_data
from tf_savae.runs.build import build_model

PYTHON = os.environ.get("TF_SAVAE_TORCH_PYTHON", sys.executable)


def table_of(workload, *flags):
  given = [f"--workload={workload}", "--preset=tiny", "--budget_s=0.05", "--seeds=1", *flags]
  return quality.table(quality.COMMAND.parse(["quality", *given, f"--torch_python={PYTHON}"]))


TASK = Task(quality.PEER, 0, 0)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
  """Table, settings, data and model of the row."""
  table = table_of("synthetic")
  config = comparison_work.config_of(table, TASK, tmp_path_factory.mktemp("run"))
  with peer_training.open_run(config) as run_dir:
    data = run_data.load(config, run_dir)
  return table, config, data, build_model(config, data)


def test_a_job_has_our_first_weights_and_batches(synthetic, tmp_path):
  table, config, data, model = synthetic
  peer_training.write_job(tmp_path / "job.npz", table, TASK, config, data, model)
  with np.load(tmp_path / "job.npz") as job:
    about = json.loads(str(job["about"]))
    assert (about["budget"], about["times"][-1], about["vocabulary"]) == (0.05, 0.05, data.vocab_size)
    first = next(iter(data.train_batches(config.batch_size, 0, 1)))
    np.testing.assert_array_equal(job["batch_0"], first)
    np.testing.assert_allclose(job["step_sizes"], np.asarray(model.step_sizes.sizes(20)))
    for name, variable in named_weights.named_variables(model).items():
      np.testing.assert_array_equal(job[name], variable.numpy())


def test_weights_of_the_peer_become_those_of_the_model(synthetic):
  model = synthetic[-1]
  named = named_weights.named_variables(model)
  weights = {name: np.full(v.shape, i, np.float32) for i, (name, v) in enumerate(named.items())}
  sizes = np.arange(20.0, dtype=np.float32)
  peer_training.assign(model, {**weights, "log_step_sizes": sizes})
  for name, variable in named.items():
    np.testing.assert_array_equal(variable.numpy(), weights[name])
  np.testing.assert_array_equal(model.step_sizes.log_sizes.numpy().ravel(), sizes)


def test_a_training_that_fails_is_one_line(tmp_path):
  with pytest.raises(UserError, match="--torch_python could not be started"):
    peer_training.train([str(tmp_path / "python")], tmp_path, tmp_path)
  with pytest.raises(UserError, match="the training in PyTorch failed: no torch"):
    peer_training.train([sys.executable, "-c", "raise SystemExit('no torch')"], tmp_path, tmp_path)


@pytest.fixture(scope="module")
def torch_python() -> str:
  if subprocess.run([PYTHON, "-c", "import torch"], capture_output=True, check=False).returncode:
    pytest.skip(f"{PYTHON} has no PyTorch: set TF_SAVAE_TORCH_PYTHON (benchmarks/peers/requirements.txt)")
  return PYTHON


@pytest.mark.slow
def test_an_update_that_learns_nothing_gives_our_weights_back(synthetic, tmp_path, torch_python):
  table, config, data, model = synthetic
  job, out = tmp_path / "job.npz", tmp_path / "out"
  peer_training.write_job(job, table, TASK, config, data, model)
  with np.load(job) as file:
    arrays = dict(file)
  about = json.loads(str(arrays["about"]))
  about["settings"]["learning_rate"] = 1e-30
  np.savez(job, **{**arrays, "about": json.dumps(about)})
  peer_training.train([torch_python, "-m", "benchmarks.peers.training"], job, out)
  with np.load(out / "weights_0.npz") as found:
    for name in named_weights.named_variables(model):
      np.testing.assert_allclose(found[name], arrays[name], atol=1e-20, err_msg=name)
    np.testing.assert_allclose(np.exp(found["log_step_sizes"]), arrays["step_sizes"], rtol=1e-6)
    assert found["updates"] >= 1 and found["seconds"] > 0


@pytest.mark.slow
def test_a_training_in_pytorch_has_a_curve_and_lowers_the_bound(tmp_path, torch_python):
  table = table_of("synthetic", "--budget_s=1.5")
  do = functools.partial(peer_training.work, torch_python=torch_python)
  comparison_work.execute(tmp_path, table, TASK, do)
  files = Files(tmp_path)
  assert not files.failure(TASK).exists(), files.failure(TASK).read_text()
  found = read_json(files.result(quality.PEER, 0))
  curve = found["curve"]
  assert len(curve) == len(table.curve) and found["steps"] == curve[-1]["step"] > 1
  assert curve[-1]["nll_bound"] < curve[0]["nll_bound"]
