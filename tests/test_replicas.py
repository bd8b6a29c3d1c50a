"""Training on several devices is training on one: the same weights, metrics and posteriors; and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import replica_program, tiny
from tests.replica_cases import CASES, EXAMPLES, UPDATES, difference
from tf_savae import SAVAE, SVISettings, networks, replicas
from tf_savae.commands import launch
from tf_savae.errors import UserError


def start(out: Path, **environment: str) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, "-m", "tests.replica_program", str(out)],
    cwd=Path(__file__).parents[1],
    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": "", **environment},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
  """Where the programs put weights."""
  return tmp_path_factory.mktemp("replicas")


@pytest.fixture(scope="module")
def found(out) -> dict[str, Any]:
  """What `replica_program` prints; two workers are done by then, too."""
  workers = {"worker": [f"127.0.0.1:{port}" for port in launch.free_ports(2)]}
  configs = [{"cluster": workers, "task": {"type": "worker", "index": i}} for i in range(2)]
  processes = [start(out), *(start(out, TF_CONFIG=json.dumps(config)) for config in configs)]
  ends = [process.communicate() for process in processes]
  for process, (_, errors) in zip(processes, ends, strict=True):
    assert process.returncode == 0, errors[-3000:]
  return json.loads(ends[0][0].splitlines()[-1])


def tolerance(name: str) -> float:
  return 1e-12 if CASES[name].dtype == "float64" else 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
  ("devices", "name"), [(devices, name) for devices, names in replica_program.ON.items() for name in names]
)
class TestSeveralDevices:
  def test_weights_and_optimiser_after_50_updates(self, found, devices, name):
    assert found[name][str(devices)]["variables"] < tolerance(name)

  def test_metrics(self, found, devices, name):
    assert found[name][str(devices)]["metrics"] < 1e-6  # they are float32

  def test_the_comparison_means_something(self, found, devices, name):
    assert found[name][str(devices)]["steps"] == UPDATES
    assert found[name][str(devices)]["skipped"] == 0
    assert found[name]["gradient_norm"] > 0.5  # so gradients were clipped


@pytest.mark.slow
@pytest.mark.parametrize("name", replica_program.OF_WORKERS)
def test_two_processes_have_the_weights_of_one_device(found, out, name):
  assert found
  one, *workers = (np.load(out / f"{name}{end}.npz") for end in ("", ".worker-0", ".worker-1"))
  for worker in workers:
    assert difference(one, worker) < tolerance(name)


@pytest.mark.slow
class TestRuns:
  def test_evaluation_has_each_example_once_in_the_order_of_one_device(self, found):
    found = found[replica_program.EVALUATED]
    names = {"nll_bound", "nll_iw", "digest", "bound_at_0", "bound_at_3", "gaps_bound_best", "gaps_nll"}
    assert names <= found["rows"].keys()
    for name, rows in found["rows"].items():
      assert rows == (12 if "_at_" in name or name.startswith("gaps_") else EXAMPLES)
    assert max(found["evaluated"].values()) < 1e-12

  def test_fit_evaluate_and_predict_of_keras(self, found):
    assert max(found[replica_program.BY_KERAS]["by_keras"]) < 1e-6  # metrics are float32

  def test_a_run_goes_on_on_fewer_or_more_devices(self, found):
    two_to_one, one_to_two = found[replica_program.RESUMED]["resumed"]
    assert max(two_to_one, one_to_two) < 1e-12


@pytest.fixture(scope="module")
def strategy():
  """One device, but all that a strategy does otherwise."""
  return tf.distribute.MirroredStrategy(["CPU:0"])


def make(**options) -> SAVAE:
  model = SAVAE(tiny.PairEncoder(), tiny.BernoulliDecoder(), "vae_svi", SVISettings(2, 0.1), **options)
  model.compile(optimizer=keras.optimizers.Adam(0.02))
  return model


class TestOneDevice:
  def test_is_as_without_a_strategy(self, strategy):
    x = tiny.bits(7, dtype="float32").numpy()
    alone = make(global_clip_norm=0.5)
    alone.fit(x, batch_size=3, epochs=2, shuffle=False, verbose=0)
    with strategy.scope():
      under = make(global_clip_norm=0.5)
    under.fit(x, batch_size=3, epochs=2, shuffle=False, verbose=0)
    for one, other in zip(alone.variables, under.variables, strict=True):
      np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)

  def test_an_update_that_is_not_finite_changes_nothing(self, strategy):
    x = tiny.bits(6, dtype="float32").numpy()
    with strategy.scope():
      model = make()
    model.fit(x, batch_size=3, verbose=0)
    model.decoder.bias.assign(np.full([6], np.nan))
    before = [v.numpy() for v in [*model.trainable_variables, *model.optimizer.variables]]
    with pytest.warns(UserWarning, match="2 of 2 updates of epoch 1 were skipped .* the loss \\(2\\)"):
      model.fit(x, batch_size=3, verbose=0)
    assert int(model.skipped.numpy()) == int(model.skipped_in_a_row.numpy()) == 2
    after = [v.numpy() for v in [*model.trainable_variables, *model.optimizer.variables]]
    for one, other in zip(before, after, strict=True):
      np.testing.assert_array_equal(one, other)

  def test_the_optimiser_does_not_keep_what_a_step_changed_in_it(self, strategy):
    with strategy.scope():
      model = make()
    model.fit(tiny.bits(3, dtype="float32").numpy(), verbose=0)
    assert "_all_reduce_sum_gradients" not in vars(model.optimizer)


class TestRefused:
  def test_several_steps_in_one_call(self, strategy):
    with strategy.scope(), pytest.raises(UserError, match=r"steps_per_execution must be 1 .* received 4"):
      make().compile(optimizer="adam", steps_per_execution=4)

  def test_xla(self, strategy):
    with strategy.scope(), pytest.raises(UserError, match="jit_compile does not go with a strategy"):
      make().compile(optimizer="adam", jit_compile=True)

  def test_gradient_accumulation(self, strategy):
    with strategy.scope(), pytest.raises(UserError, match="gradient_accumulation_steps=2"):
      make().compile(optimizer=keras.optimizers.Adam(gradient_accumulation_steps=2))

  def test_a_loss_that_is_scaled(self, strategy):
    with strategy.scope(), pytest.raises(UserError, match="take mixed_bfloat16"):
      make().compile(optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()))

  def test_a_model_from_outside(self, strategy):
    model = make()
    with strategy.scope(), pytest.raises(UserError, match="the model was made outside"):
      model.fit(tiny.bits(3, dtype="float32").numpy(), verbose=0)

  def test_an_optimiser_from_outside(self, strategy):
    optimizer = keras.optimizers.Adam()
    with strategy.scope():
      model = make()
      with pytest.raises(UserError, match="the optimiser was made outside"):
        model.compile(optimizer=optimizer)

  def test_plain_batch_normalisation(self, strategy):
    class Normalised(tiny.PairEncoder):
      def __init__(self):
        super().__init__()
        self.norm = keras.layers.BatchNormalization()

      def call(self, x, training=False):
        return super().call(self.norm(x, training=training))

    with strategy.scope():
      model = SAVAE(Normalised(), tiny.BernoulliDecoder(), "vae")
      model.compile(optimizer="adam")
      with pytest.raises(UserError, match="make it with synchronized=True"):
        model.fit(tiny.bits(3, dtype="float32").numpy(), verbose=0)


def test_batch_normalisation_counts_as_keras_in_names_of_weights():
  encoder = networks.ResNetEncoder(2, (3,))
  assert encoder.stages[0].norm1.name.startswith("batch_normalization")


def test_without_a_strategy_nothing_is_shared():
  with replicas.sharing(tf.zeros([3, 2])):
    assert replicas.share() is None
  value = tf.constant([1.0, 2.0])
  assert replicas.total(value) is value
