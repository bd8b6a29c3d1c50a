"""A run on data, a model and callbacks of the user's own has all that any other run has."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import tiny, tiny_runs
from tests.training.runs import Died, Outcome, assert_same_outcome, dying, recorded_updates, tiny_config
from tf_savae import SAVAE, SVISettings, data, training
from tf_savae.errors import UserError
from tf_savae.runs.directory import RunDirectory
from tf_savae.runs.restore import load_model, load_with_data

UPDATES = 6  # two epochs of three


@keras.saving.register_keras_serializable(package="tests")
class FlatEncoder(tiny.PairEncoder):
  """Of images."""

  def call(self, x):
    return super().call(tf.reshape(x, [-1, 64]))


@keras.saving.register_keras_serializable(package="tests")
class FlatDecoder(tiny.BernoulliDecoder):
  """Of images whose pixels are independent given z; it cannot draw them."""

  def log_prob(self, x, z, context):
    return super().log_prob(tf.reshape(x, [-1, 64]), z, context)


def own_model(method="savae", k=2, seed=0, hidden_seed=0, **kwargs):
  """Nothing here is of tf_savae's networks."""
  return SAVAE(
    FlatEncoder(seed=hidden_seed), FlatDecoder(64), method, SVISettings(k, 0.05), seed=seed, **kwargs
  )


def compiled(**kwargs):
  model = own_model(**kwargs)
  model.compile(optimizer=keras.optimizers.Adamax(0.01), jit_compile=False)
  return model


def config(directory, **changes):
  sizes = {"k": 2, "batch_size": 4, "eval_batch_size": 4, "epochs": 2, "checkpoint_every": 2, "iw_samples": 3}
  return tiny_config(directory, "omniglot", **{**sizes, **changes})


@pytest.fixture(scope="module")
def images():
  return tiny_runs.image_data()


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
  """The directory, model and results of a run that nothing happened to."""
  directory, model = tmp_path_factory.mktemp("own") / "run", compiled()
  with recorded_updates() as steps:
    results = training.run(config(directory), images, model)
  assert steps == list(range(1, UPDATES + 1))
  return directory, model, results


def refusal(*args, **kwargs):
  with pytest.raises(UserError) as caught:
    training.run(*args, **kwargs)
  assert "\n" not in str(caught.value)
  return str(caught.value)


@pytest.mark.slow
def test_a_run_of_ones_own_leaves_what_any_run_leaves(finished, images):
  directory, model, results = finished
  assert (results["dataset"], results["dataset_source"]) == ("images", "made up")
  assert (results["steps"], results["stopped_by"], results["model"]) == (UPDATES, "epochs", "savae")
  assert results["test"]["examples"] == images.num_examples("test")
  assert json.loads((directory / "results.json").read_text())["training_finished"]
  assert list((directory / "tensorboard").rglob("*tfevents*"))
  assert (directory / "test_examples.npz").exists()
  assert isinstance(model.optimizer, keras.optimizers.Adamax)


@pytest.mark.slow
def test_it_is_killed_and_resumed_with_an_equal_model_and_ends_the_same(finished, images, tmp_path):
  settings = config(tmp_path / "run")
  for function, call in (("on_train_batch_end", 2), ("on_test_begin", 1), ("on_train_batch_end", 3)):
    with dying(function, call), pytest.raises(Died):
      training.run(settings, images, compiled())
  with recorded_updates() as steps:
    training.run(settings, images, compiled())
  assert steps == [5, 6]
  assert_same_outcome(Outcome.of(finished[0]), Outcome.of(tmp_path / "run"), rtol=1e-5)


@pytest.mark.slow
def test_commands_rebuild_the_model_from_its_directory(finished, images):
  directory, model, _ = finished
  found = load_model(directory)
  assert type(found.model.decoder) is FlatDecoder
  x = images.examples("test", 3)
  for k in (0, 2):
    for ours, theirs in zip(model.refine(x, k), found.model.refine(x, k), strict=True):
      np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6)
  assert load_model(directory, eval_k=4).model.eval_k == 4
  with pytest.raises(UserError, match=r"no setting changes it: --svi_lr was 0\.02, received 0\.5"):
    load_model(directory, svi_lr=0.5)
  with pytest.raises(UserError, match="began with data that a program gave it, 'images'"):
    load_with_data(directory)  # the data of --dataset=omniglot are others


@pytest.mark.slow
def test_a_model_that_is_not_compiled_gets_the_optimiser_of_the_settings_and_callbacks_are_called(
  images, tmp_path
):
  class Stop(keras.callbacks.Callback):
    """Ends training after its second epoch, as Keras's EarlyStopping would."""

    epochs = ()

    def on_epoch_end(self, epoch, logs=None):
      self.epochs += (epoch,)
      assert np.isfinite(logs["val_bound"])
      self.model.stop_training = epoch == 1

  stop, model = Stop(), own_model("vae", k=0)
  settings = config(
    tmp_path / "run", model="vae", k=0, epochs=50, optimizer="sgd", learning_rate=0.25, lr_patience=0
  )
  results = training.run(settings, images, model, [stop])
  assert stop.epochs == (0, 1)
  assert (results["steps"], results["stopped_by"]) == (UPDATES, "callback")
  assert type(model.optimizer) is keras.optimizers.SGD
  assert float(model.optimizer.learning_rate) == 0.25


@pytest.mark.slow
def test_a_step_that_xla_cannot_compile_goes_on_without_it(images, tmp_path, capfd):
  class ByPython(FlatEncoder):
    """A network with a function of Python in its graph."""

    def call(self, x):
      return super().call(tf.ensure_shape(tf.numpy_function(np.copy, [x], x.dtype), x.shape))

  model = SAVAE(ByPython(), FlatDecoder(64), "vae")
  model.compile(optimizer=keras.optimizers.SGD(0.1), jit_compile=True)
  results = training.run(config(tmp_path / "run", model="vae", k=0, max_steps=2), images, model)
  (warning,) = (line for line in capfd.readouterr().err.splitlines() if line.startswith("warning"))
  assert "XLA cannot compile the step (PyFunc); going on without it" in warning
  assert (results["steps"], results["skipped_updates"]) == (2, 0)


@pytest.mark.slow
def test_own_data_train_the_networks_of_the_settings_and_load_without_the_data(images, tmp_path):
  settings = config(tmp_path / "run", model="vae", k=0, max_steps=1)
  results = training.run(settings, images)
  assert results["steps"] == 1
  assert load_model(tmp_path / "run").model.elbo(images.examples("test", 2)).shape == (2,)
  message = refusal(config(tmp_path / "run", model="vae", k=0, max_steps=1, eval_only=True))
  assert "began with data that a program gave it, 'images'" in message


@pytest.mark.slow
def test_a_trained_model_begins_a_new_run_with_its_weights_and_counters_at_zero(finished, images, tmp_path):
  _, model, _ = finished
  before = model.decoder.bias.numpy()
  with dying("on_train_batch_begin", 1), pytest.raises(Died):
    training.run(config(tmp_path / "run"), images, model)
  assert int(model.step.value) == 0
  np.testing.assert_array_equal(model.decoder.bias.numpy(), before)
  assert RunDirectory(tmp_path / "run").has_checkpoint


def fewer():
  return tiny_runs.image_data(train=11)


REFUSED = {
  "arrays": ({"data": np.zeros([4, 8, 8, 1])}, "must be a tf_savae.data.DataSet.*received.*ndarray"),
  "kind": ({"data": tiny_runs.token_data}, "data of kind tokens do not fit --dataset=omniglot"),
  "no SAVAE": ({"model": keras.Sequential}, "model must be a tf_savae.SAVAE; received.*Sequential"),
  "method": ({"model": lambda: own_model("vae", 0)}, "the model's method is vae, received --model=savae"),
  "K": ({"model": lambda: own_model(k=3)}, "the model's k is 3, received --k=2"),
  "seed": ({"model": lambda: own_model(seed=4)}, "the model's seed is 4, received --seed=0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_contradicts_the_settings_is_refused_and_the_directory_stays_free(name, images, tmp_path):
  given, message = REFUSED[name]
  given = {what: value() if callable(value) else value for what, value in given.items()}
  with pytest.raises(UserError, match=message) as caught:
    training.run(config(tmp_path / "run"), **{"data": images, **given})
  assert "\n" not in str(caught.value)
  assert not (tmp_path / "run" / "config.json").exists()
  assert not (tmp_path / "run" / "model.json").exists()


def test_a_learning_rate_that_follows_a_schedule_cannot_decay_by_validation(images, tmp_path):
  model = own_model()
  model.compile(optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10)))
  message = refusal(config(tmp_path / "run", lr_patience=2), images, model)
  assert "follows a schedule of its own" in message and "--lr_patience=2" in message


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_data_and_model_only(images, tmp_path):
  settings = config(tmp_path / "run")
  with dying("on_train_batch_end", 1), pytest.raises(Died):
    training.run(settings, images, compiled())
  assert "train was 12, now 11" in refusal(settings, fewer(), compiled())
  assert "began with data that a program gave it, 'images'" in refusal(settings)
  other = SAVAE(FlatEncoder(seed=5), FlatDecoder(64), "savae", SVISettings(2, 0.05))
  assert "encoder.config.seed was 0, received 5" in refusal(settings, images, other)
  assert "was built for x float32 [None, 4, 4, 1]" in refusal(settings, images, _built_for_other_images())


def _built_for_other_images():
  model = own_model()
  model.build_from_config({"shape": [None, 4, 4, 1], "dtype": "float32"})
  return model


@pytest.mark.slow
def test_a_run_on_the_named_data_does_not_go_on_with_ones_own(tmp_path):
  settings = config(tmp_path / "run", model="vae", k=0, batch_size=450, eval_batch_size=100)
  with dying("on_train_batch_end", 1), pytest.raises(Died):
    training.run(settings)
  message = refusal(settings, data.load("omniglot", data_dir="nowhere", seed=0, download=False))
  assert "began with the data of --dataset=omniglot" in message
