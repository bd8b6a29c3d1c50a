"""Every Keras feature that docs/keras.md lists: it works, or is refused in one line that says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tests import tiny
from tf_savae import SAVAE, SVISettings
from tf_savae.errors import UserError
from tf_savae.example_weights import ExampleWeights
from tf_savae.observations import BINARY, Support, token_ids
from tf_savae.serving import c_loader

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def bits(n: int = 16) -> np.ndarray:
  return np.random.default_rng(0).integers(2, size=(n, 6)).astype(np.float32)


@keras.saving.register_keras_serializable(package="tests")
class SupportedDecoder(tiny.BernoulliDecoder):
  """A user's decoder that says what it is defined for, by a plain pair."""

  support = (0, 1)


def make(method="savae", encoder=None, decoder=None, optimizer=None, seed=0, dtype=None, **compiled) -> SAVAE:
  encoder = encoder or tiny.PairEncoder(dtype=dtype)
  decoder = decoder or SupportedDecoder(dtype=dtype)
  model = SAVAE(encoder, decoder, method, SVISettings(2, 0.1, 0.5, 5.0), seed=seed, dtype=dtype)
  model.compile(optimizer=optimizer or keras.optimizers.SGD(0.1), **compiled)
  return model


def weights(model) -> list[np.ndarray]:
  return [np.array(v, np.float64) for v in model.trainable_variables]


def same(one, other, **tolerance):
  for a, b in zip(weights(one), weights(other), strict=True):
    np.testing.assert_allclose(a, b, **tolerance)


def fitted(model, x=None, **options):
  options = {"batch_size": 8, "shuffle": False, "verbose": 0} | options
  model.fit(bits() if x is None else x, **options)
  return model


class TestNothingIsSilent:
  def test_an_epoch_without_an_update_is_nan_and_warns_once(self):
    model = make("vae", run_eagerly=True)
    with pytest.warns(
      UserWarning, match=r"2 of 2 updates of epoch 1 were skipped.*the observations \(2\)"
    ) as caught:
      history = model.fit(np.full_like(bits(), np.nan), batch_size=8, epochs=2, verbose=0).history
    assert len(caught) == 1
    assert all(np.isnan(history[name]).all() for name in history)

  def test_the_warning_counts_only_what_was_skipped(self):
    x = bits()
    x[3, 2] = np.nan
    with pytest.warns(UserWarning, match="1 of 2 updates"):
      history = make("vae", run_eagerly=True).fit(x, batch_size=8, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()

  def test_good_data_warn_of_nothing(self):
    with warnings.catch_warnings():
      warnings.simplefilter("error", UserWarning)
      fitted(make("vae", run_eagerly=True))

  def test_terminate_on_nan_ends_training(self):
    model = make("vae", run_eagerly=True)
    with pytest.warns(UserWarning, match="skipped"):
      fitted(model, np.full_like(bits(), np.nan), epochs=3, callbacks=keras.callbacks.TerminateOnNaN())
    assert int(model.step) == 1

  @pytest.mark.parametrize(
    "call",
    [
      lambda model, x: model.fit(x, verbose=0),
      lambda model, x: model.fit(tf.data.Dataset.from_tensor_slices(x).batch(4), verbose=0),
      lambda model, x: model.fit(Batches(x), verbose=0),
      lambda model, x: model.fit(((x[i : i + 4],) for i in (0, 4)), verbose=0),
      lambda model, x: model.fit(x / 255, validation_data=(x, None), verbose=0),
      lambda model, x: model.evaluate(x, verbose=0),
      lambda model, x: model.predict(x, verbose=0),
      lambda model, x: model.train_on_batch(x),
      lambda model, x: model.test_on_batch(x),
      lambda model, x: model.elbo(x),
    ],
    ids=[
      "fit",
      "dataset",
      "PyDataset",
      "generator",
      "validation",
      "evaluate",
      "predict",
      "train",
      "test",
      "elbo",
    ],
  )
  def test_observations_without_a_likelihood_are_an_error(self, call):
    with pytest.raises(UserError, match="from 0 to 1; received numbers from 0 to 255"):
      call(make("vae"), 255 * bits())

  def test_support_of_images_and_tokens(self):
    assert tiny.image_networks()[1].support == BINARY
    assert tiny.late_image_networks()[1].support == BINARY
    for networks in (tiny.lstm_networks, tiny.text_lstm_networks, tiny.dilated_conv_networks):
      assert networks()[1].support == token_ids(networks()[1].vocab_size)
    token_ids(5).check(np.array([[0, 4]]))
    Support(0, 1).check(np.array([np.nan, 0.5]))  # NaN is skipped and counted
    with pytest.raises(UserError, match="vocab_size"):
      token_ids(5).check(np.array([[0, 5]]))
    with pytest.raises(UserError, match="fractions"):
      token_ids(5).check(np.array([0.5]))
    with pytest.raises(UserError, match="divide grey values by 255"):
      BINARY.check(np.array([0.0, 255.0, np.nan]))


class Batches(keras.utils.PyDataset):
  def __init__(self, x, **kwargs):
    super().__init__(**kwargs)
    self.x = x

  def __len__(self):
    return len(self.x) // 4

  def __getitem__(self, i):
    return self.x[4 * i : 4 * i + 4]


class TestCompile:
  @pytest.mark.parametrize(
    ("option", "value", "words"),
    [
      ("loss", "mse", "method"),
      ("metrics", ["mae"], "decode"),
      ("weighted_metrics", ["mae"], "decode"),
      ("loss_weights", [1.0], "method"),
    ],
  )
  def test_losses_and_metrics_are_refused_and_compiling_again_cures(self, option, value, words):
    model = make("vae")
    with pytest.raises(UserError, match=f"compile takes no {option}; received .*{words}"):
      model.compile("adam", **{option: value})
    model.compile("adam", run_eagerly=True)
    fitted(model)

  def test_class_weight_is_refused(self):
    with pytest.raises(UserError, match="class_weight"):
      make("vae").fit(bits(), np.zeros(16), class_weight={0: 2.0}, verbose=0)
    with pytest.raises(UserError, match="class_weight"):
      make("vae").train_on_batch(bits(), np.zeros(16), class_weight={0: 2.0})

  def test_steps_per_execution(self):
    same(fitted(make("savae", steps_per_execution=2)), fitted(make("savae")), rtol=1e-6)

  def test_run_eagerly(self):
    same(fitted(make("savae", run_eagerly=True)), fitted(make("savae")), rtol=1e-5, atol=1e-6)


class TestExampleWeights:
  def test_weight_two_trains_as_an_example_twice(self):
    """In the sum of losses: the batch is one larger."""
    # Without latent, and so without noise, by which two copies would differ.
    twice, weighted = (SAVAE(None, tiny.BernoulliDecoder(latent_dim=0), "autoreg") for _ in range(2))
    x = bits(3)
    twice.compile(keras.optimizers.SGD(0.4), run_eagerly=True)
    weighted.compile(keras.optimizers.SGD(0.3), run_eagerly=True)
    twice.train_on_batch(np.concatenate([x, x[:1]]))
    weighted.train_on_batch(x, sample_weight=np.array([2.0, 1.0, 1.0]))
    same(twice, weighted, rtol=1e-6)

  def test_fit_without_targets_takes_them(self):
    """Keras drops the weights of data without targets."""
    w = np.linspace(0.5, 2.0, 16)
    model = fitted(make("savae"), sample_weight=w, validation_data=(bits(8), None, np.ones(8)))
    dataset = tf.data.Dataset.from_tensor_slices((bits(), np.zeros(16), w)).batch(8)
    same(model, fitted(make("savae"), dataset, batch_size=None), rtol=1e-6)
    assert np.abs(weights(model)[0] - weights(fitted(make("savae")))[0]).max() > 1e-6

  @pytest.mark.parametrize("method", ["vae", "savae"])
  def test_evaluation_weighs_its_metrics(self, method):
    model, x, w = make(method), bits(), np.linspace(0.0, 2.0, 16)
    got = model.evaluate(x, batch_size=16, sample_weight=w, verbose=0, return_dict=True)
    loss = -model.elbo(x).numpy()
    assert got["bound"] == pytest.approx(np.average(loss, weights=w), rel=1e-5)
    assert got["loss"] == pytest.approx(np.mean(w * loss), rel=1e-5)  # as Keras's losses

  def test_a_weight_of_each_pixel_is_refused(self):
    with pytest.raises(UserError, match="one number per example"):
      ExampleWeights(np.ones([16, 6]))
    assert ExampleWeights(np.ones([16, 1])).weights.shape == [16]


class AddingEncoder(tiny.PairEncoder):
  """With a loss of its own."""

  def call(self, x):
    mean, log_var = super().call(x)
    self.add_loss(0.3 * tf.reduce_mean(mean**2))
    return mean, log_var


class AddingDecoder(tiny.BernoulliDecoder):
  """With a loss at each call, of which there are many."""

  def log_prob(self, x, z, context):
    self.add_loss(0.2 * tf.reduce_mean(tf.square(self.bias.value + 1.0)))
    return super().log_prob(x, z, context)


class TestPenalties:
  @pytest.mark.parametrize("method", ["vae", "vae_svi", "savae"])
  def test_regularisers_enter_the_loss_once_and_pull_at_their_own_weights(self, method):
    """What a regulariser moves is exactly its own gradient: θ's in θ, φ's in φ."""
    plain, regular = make(method), make(method)
    for model in (plain, regular):
      model.ensure_built(tf.constant(bits()))
    pulled = regular.encoder.hidden.kernel, regular.decoder.kernel
    for variable in pulled:
      variable.regularizer = keras.regularizers.L2(0.5)
    before = [np.array(v) for v in pulled]
    one, other = (model.train_on_batch(bits(), return_dict=True) for model in (plain, regular))
    assert other["loss"] - one["loss"] == pytest.approx(0.5 * sum((v**2).sum() for v in before), rel=1e-4)
    assert other["bound"] == pytest.approx(one["bound"], rel=1e-6)
    for a, b in zip(plain.trainable_variables, regular.trainable_variables, strict=True):
      decay = next((w for v, w in zip(pulled, before, strict=True) if v is b), np.zeros(a.shape))
      np.testing.assert_allclose(np.array(b), np.array(a) - 0.1 * decay, rtol=1e-4, atol=1e-6)

  @pytest.mark.parametrize("eagerly", [True, False])
  @pytest.mark.parametrize("method", ["vae", "vae_svi", "savae"])
  def test_add_loss_enters_once_however_often_the_decoder_is_called(self, method, eagerly):
    model = make(method, AddingEncoder(), AddingDecoder(), run_eagerly=eagerly)
    plain = make(method, run_eagerly=eagerly, decoder=tiny.BernoulliDecoder())
    one, other = (m.train_on_batch(bits(), return_dict=True)["loss"] for m in (plain, model))
    mean = make(method).encode(bits()).mean.numpy()
    assert other - one == pytest.approx(0.3 * np.mean(mean**2) + 0.2, rel=1e-4)
    bias = model.decoder.bias.numpy() - plain.decoder.bias.numpy()
    np.testing.assert_allclose(bias, -0.1 * 0.2 * 2 / 6, rtol=1e-3)

  def test_evaluation_has_them_in_its_loss(self):
    model = make("vae", decoder=AddingDecoder())
    got = model.evaluate(bits(), verbose=0, return_dict=True)
    assert got["loss"] - got["bound"] == pytest.approx(0.2, rel=1e-4)


class TestMixedFloat16:
  @pytest.mark.parametrize("clip", [None, 0.05])
  def test_sgd_moves_what_float32_moves(self, clip):
    def moved(dtype):
      networks = tiny.PairEncoder(dtype=dtype), tiny.BernoulliDecoder(dtype=dtype)
      model = SAVAE(*networks, "savae", SVISettings(2, 0.1, 0.5, 5.0), dtype=dtype, global_clip_norm=clip)
      model.compile(keras.optimizers.SGD(0.1))
      model.ensure_built(tf.constant(bits()))
      before = weights(model)
      logs = model.train_on_batch(bits(), return_dict=True)
      return model, logs, [a - b for a, b in zip(weights(model), before, strict=True)]

    (model, logs, half), (_, logs_full, full) = moved("mixed_float16"), moved("float32")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) and int(model.skipped) == 0
    scale = max(np.abs(m).max() for m in full)
    for a, b in zip(half, full, strict=True):
      np.testing.assert_allclose(a, b, rtol=0.02, atol=0.01 * scale)
    for name in ("loss", "gradient_norm_decoder", "gradient_norm_encoder"):
      assert logs[name] == pytest.approx(logs_full[name], rel=0.01)
    assert all(p.dtype == tf.float32 for p in model.encode(bits()))

  def test_an_overflow_lowers_the_scale_and_is_counted(self):
    model = make("vae", dtype="mixed_float16")
    model.train_on_batch(bits())
    before, scale = weights(model), float(model.optimizer.dynamic_scale)
    model.train_on_batch(np.full_like(bits(), np.nan))
    assert float(model.optimizer.dynamic_scale) == scale / 2 and int(model.skipped) == 1
    for a, b in zip(weights(model), before, strict=True):
      np.testing.assert_array_equal(a, b)

  def test_an_optimizer_with_a_loss_scale_of_its_own(self):
    scaled = make("savae", optimizer=keras.optimizers.SGD(0.1, loss_scale_factor=256.0))
    same(fitted(scaled), fitted(make("savae")), rtol=1e-5, atol=1e-7)


class TestOptimizers:
  """With a model without latent, whose gradient has no noise."""

  @staticmethod
  def make(**options):
    optimizer = keras.optimizers.SGD(0.5, **options)
    return make("autoreg", decoder=SupportedDecoder(latent_dim=0), optimizer=optimizer)

  def test_moving_average_of_weights(self):
    plain, after = self.make(), []
    for half in (bits()[:8], bits()[8:]):
      plain.train_on_batch(half)
      after.append(weights(plain)[0])
    averaged = fitted(
      self.make(use_ema=True, ema_momentum=0.25)
    )  # which ends with the averages in the weights
    np.testing.assert_allclose(weights(averaged)[0], 0.25 * after[0] + 0.75 * after[1], rtol=1e-5)

  def test_accumulated_gradients_are_those_of_the_larger_batch(self):
    model = self.make(gradient_accumulation_steps=2)
    model.train_on_batch(bits()[:8])
    np.testing.assert_array_equal(weights(model)[0], 0)
    model.train_on_batch(bits()[8:])
    same(model, fitted(self.make(), batch_size=16), rtol=1e-5)


class ConstrainedDecoder(tiny.BernoulliDecoder):
  """A decoder whose weights for a latent have a bounded norm."""

  def __init__(self, **kwargs):
    super().__init__(**kwargs)
    self.kernel.constraint = keras.constraints.MaxNorm(0.5, axis=1)


def test_constraints_hold_after_every_update():
  encoder, free = tiny.PairEncoder(), tiny.BernoulliDecoder()
  encoder.heads.bias_constraint = keras.constraints.NonNeg()
  model = fitted(make(encoder=encoder, decoder=ConstrainedDecoder(), run_eagerly=True), epochs=3)
  assert np.linalg.norm(free.kernel, axis=1).max() > 0.5
  np.testing.assert_array_less(np.linalg.norm(model.decoder.kernel, axis=1), 0.5 + 1e-5)
  bias = np.array(model.encoder.heads.bias)
  assert bias.min() == 0 and bias.max() > 0  # the constraint of a layer's weight holds some of them at 0


class StopsAfter(keras.callbacks.Callback):
  """Ends the process, as far as `fit` is concerned, when an epoch begins."""

  def __init__(self, epoch):
    super().__init__()
    self.epoch = epoch

  def on_epoch_begin(self, epoch, logs=None):
    if epoch == self.epoch:
      raise KeyboardInterrupt


class TestCallbacks:
  @pytest.mark.parametrize("method", ["vae", "savae"])
  def test_backup_and_restore_goes_on_as_if_nothing_had_happened(self, method, tmp_path):
    def model():
      return make(method, optimizer=keras.optimizers.Adam(0.05), run_eagerly=True)

    whole, broken, resumed = model(), model(), model()
    fitted(whole, epochs=3)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
    with pytest.raises(KeyboardInterrupt):
      fitted(broken, epochs=3, callbacks=[backup, StopsAfter(2)])
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    fitted(resumed, epochs=3, callbacks=[backup])
    assert int(broken.step) == 4 and int(resumed.step) == 6
    same(resumed, whole, rtol=1e-6, atol=1e-7)


class TestData:
  def test_validation_split_and_early_stopping_and_checkpoints(self, tmp_path):
    model = make("vae", optimizer=keras.optimizers.SGD(0.0))
    callbacks = [
      keras.callbacks.EarlyStopping("val_bound", patience=1, min_delta=0.1, mode="min"),
      keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", "val_bound", save_best_only=True, mode="min"),
      keras.callbacks.ModelCheckpoint(tmp_path / "last.weights.h5", save_weights_only=True),
      keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    history = model.fit(bits(), validation_split=0.5, epochs=5, verbose=0, callbacks=callbacks).history
    assert len(history["val_bound"]) == 2
    loaded = keras.models.load_model(tmp_path / "best.keras")
    same(loaded, model, rtol=0)
    other = make("vae", encoder=tiny.PairEncoder(seed=5))
    other.ensure_built(tf.constant(bits()))
    other.load_weights(tmp_path / "last.weights.h5")
    same(other, model, rtol=0)

  def test_py_dataset_and_generator_and_dataset_train_as_arrays(self):
    plain = fitted(make("savae"), batch_size=4)
    x = bits()
    generator = ((x[i : i + 4],) for i in range(0, 16, 4))
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(4)
    for data in (Batches(x), generator, dataset):
      same(fitted(make("savae"), data, batch_size=None), plain, rtol=1e-6)


class TestEncoders:
  def test_a_frozen_encoder_stays(self):
    inputs = keras.Input([6])
    hidden = keras.layers.Dense(4, "relu", kernel_regularizer="l2")(inputs)
    encoder = keras.Model(inputs, [keras.layers.Dense(2)(hidden), keras.layers.Dense(2)(hidden)])
    encoder.trainable = False
    before = [np.array(v) for v in encoder.weights]
    model = make("savae", encoder)
    logs = model.train_on_batch(bits(), return_dict=True)
    assert logs["loss"] == pytest.approx(logs["bound"], rel=1e-6)  # nothing to regularise
    for a, b in zip(encoder.weights, before, strict=True):
      np.testing.assert_array_equal(np.array(a), b)

  def test_a_functional_encoder_is_saved_with_the_model(self, tmp_path):
    inputs = keras.Input([6])
    hidden = keras.layers.Dense(4, "relu", kernel_regularizer="l2")(inputs)
    encoder = keras.Model(inputs, [keras.layers.Dense(2)(hidden), keras.layers.Dense(2)(hidden)])
    model = fitted(make("savae", encoder))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.elbo(bits()), model.elbo(bits()))


class TestExport:
  @pytest.mark.parametrize("method", ["savae", "svi"])
  def test_saved_model_gives_what_predict_gives_for_each_row(self, method, tmp_path):
    model = fitted(make(method))
    model.export(tmp_path / "model")
    loaded = tf.saved_model.load(tmp_path / "model")
    served = loaded.serve(tf.constant(bits()))
    assert ("mean_initial" in served) == (method == "savae")
    for row in (0, 5):
      alone = model.predict(bits()[row : row + 1], verbose=0)
      for name, value in alone.items():
        np.testing.assert_allclose(served[name][row], value[0], rtol=1e-4, atol=1e-5)

  def test_tensorflows_c_side_runs_it(self, tmp_path):
    model = fitted(make("savae"))
    model.export(tmp_path / "model")
    loaded = tf.saved_model.load(tmp_path / "model")
    expected = loaded.signatures["serving_default"](x=tf.constant(bits()))["mean"].numpy()
    session = c_loader.Session(tmp_path / "model")
    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((tmp_path / "model" / "saved_model.pb").read_bytes())
    found = proto.meta_graphs[0].signature_def["serving_default"]
    (got,) = session.run({found.inputs["x"].name: bits()}, [found.outputs["mean"].name])
    session.close()
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)

  def test_what_cannot_be_exported_says_why(self, tmp_path):
    with pytest.raises(UserError, match="call it on a batch first"):
      make("savae").export(tmp_path / "m")
    with pytest.raises(UserError, match="tf_saved_model"):
      fitted(make("vae")).export(tmp_path / "m", format="onnx")
    model = SAVAE(None, tiny.BernoulliDecoder(latent_dim=0), "autoreg")
    with pytest.raises(UserError, match="log p"):
      model.export(tmp_path / "m")

  def test_quantize_is_refused(self):
    with pytest.raises(UserError, match="quantised"):
      fitted(make("vae")).quantize("int8")


def python(code: str, tmp_path, **settings) -> subprocess.CompletedProcess:
  """A new interpreter whose keras.json holds `settings`; KERAS_BACKEND as given."""
  environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"} | {"KERAS_HOME": str(tmp_path)}
  if "KERAS_BACKEND" in settings:
    environment["KERAS_BACKEND"] = settings.pop("KERAS_BACKEND")
  (tmp_path / "keras.json").write_text(json.dumps(settings))
  command = [sys.executable, "-c", code] if code else [sys.executable, "train.py", "--max_steps=1"]
  return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


class TestConfigurationOfKeras:
  @pytest.mark.slow
  def test_keras_json_changes_nothing(self, tmp_path):
    code = """
import numpy as np
import tf_savae
from tf_savae import networks
encoder = networks.ResNetEncoder(2, (3, 4))
decoder = networks.GatedPixelCNN(2, 8, (3,), 2, (8, 8, 1))
model = tf_savae.SAVAE(encoder, decoder, "savae", tf_savae.SVISettings(2, 0.1))
model.compile("sgd", run_eagerly=True)
x = np.random.default_rng(0).integers(2, size=(4, 8, 8, 1)).astype("float32")
logs = model.train_on_batch(x, return_dict=True)
print({p.dtype.name for p in model.refine(x)}, {v.dtype for v in model.trainable_variables}, logs["bound"])
"""
    odd = {"floatx": "float16", "image_data_format": "channels_first", "backend": "jax", "epsilon": 1e-7}
    plain = {
      "floatx": "float32",
      "image_data_format": "channels_last",
      "backend": "tensorflow",
      "epsilon": 1e-7,
    }
    one, other = python(code, tmp_path, **odd), python(code, tmp_path, **plain)
    assert one.returncode == 0, one.stderr
    assert one.stdout == other.stdout and one.stdout.startswith("{'float32'} {'float32'}")

  @pytest.mark.parametrize("code", ["import tf_savae; tf_savae.SAVAE", ""], ids=["library", "command"])
  def test_another_backend_is_one_line(self, code, tmp_path):
    done = python(code, tmp_path, KERAS_BACKEND="jax")
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert "needs Keras on TensorFlow; received the backend 'jax'; set KERAS_BACKEND=tensorflow" in line
    if not code:
      assert "Traceback" not in done.stderr
