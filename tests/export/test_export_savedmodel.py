"""What is served is the Keras model, row by row."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from exports import SEED, K, Served, make_run

from tf_savae.errors import UserError
from tf_savae.inference import Inference
from tf_savae.posterior import GaussianParams
from tf_savae.runs.restore import load_model
from tf_savae.serving import c_loader, exporter, gate, signatures
from tf_savae.serving.serving_batch import ServingBatch, SharedNoise
from tf_savae.serving.version_dir import new_version, versions
from tf_savae.svi.noise import Antithetic, Independent

ROOT = Path(__file__).parents[2]

NAMES = ("encode", "encode_refined", "elbo", "reconstruct")


def images(n):
  return (np.random.default_rng(1).random([n, 28, 28, 1]) < 0.3).astype(np.float32)


def test_signatures_have_the_names_that_clients_know(exported):
  png = {f"{name}_png" for name in NAMES}
  assert exported.interfaces.keys() == {"serving_default", "decode", *NAMES, *png}
  assert exported.interfaces["encode_refined"].outputs.keys() == {
    "mean",
    "log_var",
    "elbo_initial",
    "elbo_refined",
  }
  assert exported.interfaces["elbo"].outputs.keys() == {"elbo", "nll", "kl"}
  assert exported.interfaces["encode_png"].inputs.keys() == {"image_bytes"}


def test_serving_default_is_encode(served, exported):
  x = images(3)
  mean, log_var = exported.model.encode(x)
  for name in ("serving_default", "encode"):
    answer = served(name, x)
    np.testing.assert_allclose(answer["mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(answer["log_var"], log_var, rtol=1e-5, atol=1e-6)


def test_refined_posterior_is_that_of_the_model_under_noise_shared_by_rows(served, exported):
  model, x = exported.model, tf.constant(images(3))
  noise = SharedNoise.draw(SEED, K, model.latent_dim, Independent())
  batch = Inference(model.encoder, model.decoder, x, model.step_sizes.settings(K))
  batch.__dict__["noise"] = tf.tile(np.concatenate([noise.steps[:, 0], noise.bound]), [1, 3, 1])
  start = batch.encode()
  params, _, _ = batch.refine(start, adjoint="exact")
  answer = served("encode_refined", x.numpy())
  np.testing.assert_allclose(answer["mean"], params.mean, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(answer["log_var"], params.log_var, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(answer["elbo_refined"], -batch.bound(params).neg_elbo, rtol=1e-5)
  np.testing.assert_allclose(answer["elbo_initial"], -batch.bound(start).neg_elbo, rtol=1e-5)


def test_several_k_have_a_signature_each_and_share_their_first_steps(exported):
  made = signatures.signatures(exported.trained, signatures.Options((1, 0)))
  assert made["encode_refined"] is made["encode_refined_1"]
  assert {"encode_refined_1_png", "encode_refined_0", "encode_refined_0_png"} <= made.keys()
  answer = made["encode_refined_0"].function(tf.constant(images(2)))
  np.testing.assert_array_equal(answer["elbo_initial"], answer["elbo_refined"])
  few, many = (SharedNoise.draw(SEED, k, 3, Independent()) for k in (1, 4))
  np.testing.assert_array_equal(few.steps, many.steps[:1])


def test_elbo_is_that_of_the_refined_posterior_and_has_two_parts(served):
  x = images(2)
  answer = served("elbo", x)
  np.testing.assert_allclose(answer["elbo"], -answer["nll"] - answer["kl"], rtol=1e-6)
  np.testing.assert_allclose(answer["elbo"], served("encode_refined", x)["elbo_refined"], rtol=1e-6)


def test_reconstruct_decodes_the_refined_mean(served):
  x = images(2)
  mean = served("encode_refined", x)["mean"]
  image = served("reconstruct", x)["image"]
  np.testing.assert_allclose(image, served("decode", mean)["probabilities"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["encode", "encode_refined", "elbo"])
def test_a_row_s_answer_depends_on_that_row_alone(name, served):
  x = images(5)
  together = served(name, x)
  order = np.array([3, 0, 4, 1, 2])
  for key, value in served(name, x[order]).items():
    np.testing.assert_allclose(value, together[key][order], rtol=1e-6, atol=1e-6)
  for i in (0, 4):
    for key, value in served(name, x[i : i + 1]).items():
      np.testing.assert_allclose(value[0], together[key][i], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["encode", "encode_refined", "reconstruct"])
def test_an_empty_batch_has_an_empty_answer(name, served):
  assert all(len(value) == 0 for value in served(name, images(0)).values())


@pytest.mark.parametrize(
  ("signature", "value", "message"),
  [
    ("encode", np.zeros([2, 27, 28, 1], np.float32), "x must have the shape"),
    ("encode_refined", np.zeros([28, 28, 1], np.float32), "x must have the shape"),
    ("decode", np.zeros([2, 4], np.float32), "z must have the shape"),
    ("encode", np.zeros([2, 28, 28, 1], np.int32), "to be float but int32"),
    ("encode_png", np.array([b"no picture"], object), "image_bytes must be PNG"),
  ],
)
def test_a_bad_request_gets_a_clear_error_and_the_next_one_its_answer(signature, value, message, served):
  with pytest.raises(c_loader.SessionError, match=message) as caught:
    served(signature, value)
  assert caught.value.code == 3  # INVALID_ARGUMENT
  assert served("encode", images(1))["mean"].shape == (1, 3)


def test_the_card_says_what_was_served_and_that_the_data_is_a_stand_in(exported):
  card = (exported.path / "assets.extra" / "README.md").read_text(encoding="utf-8")
  for part in (
    "method `savae`",
    "STAND-IN",
    "made-up drawings",
    "123.46",
    "K = 2 SVI",
    "Apache-2.0",
    "TensorFlow 2.",
  ):
    assert part in card
  assert all(f"| `{name}` |" in card for name in exported.interfaces)


def test_more_noise_draws_are_averaged(exported):
  model = exported.model
  x = tf.constant(images(2))
  elbo = [signatures.signatures(exported.trained, signatures.Options((0,), 0, s))["elbo"] for s in (1, 4)]
  one, four = (s.function(x) for s in elbo)
  noise = SharedNoise.draw(0, 0, model.latent_dim, Independent(4))
  start = model.encode(x)
  batch = Inference(model.encoder, model.decoder, x, model.step_sizes.settings(0))
  by_hand = [
    batch.objective.bound(GaussianParams(*start), draw, x, batch.context).nll for draw in noise.bound
  ]
  np.testing.assert_allclose(four["nll"], np.mean(by_hand, axis=0), rtol=1e-5)
  assert np.abs(one["nll"] - four["nll"]).max() > 1e-3


def test_noise_is_antithetic_where_that_of_training_is(tmp_path):
  run = make_run(tmp_path / "run", svi_noise="antithetic", svi_samples=2)
  noise = SharedNoise.draw(SEED, K, 3, Antithetic(4))
  assert noise.steps.shape == (K, 4, 1, 3) and noise.bound.shape == (4, 1, 3)
  for draws in (*noise.steps, noise.bound):
    np.testing.assert_array_equal(draws[:2], -draws[2:])
  found = load_model(run, precision="float32")
  endpoint = signatures.signatures(found, signatures.Options((K,), SEED, 4))["encode_refined"]
  batch = ServingBatch(found.model, tf.constant(images(2)), K, noise)
  np.testing.assert_allclose(endpoint.function(images(2))["mean"], batch.posterior().mean, rtol=1e-5)
  with pytest.raises(UserError, match=r"--num_samples must be even .* received 3"):
    exporter.export(run, tmp_path / "models", num_samples=3)


def test_steps_of_other_settings_than_in_training_are_served(tmp_path):
  steps = {"svi_rule": "natural", "svi_noise": "mean", "svi_lr": 0.5}
  run = make_run(tmp_path / "run", model="vae")
  path = exporter.export(run, tmp_path / "models", k=(2,), steps=steps)
  model, x = load_model(run, **steps).model, images(3)
  answer = Served(path, gate.interfaces(gate.read_meta_graph(path)))("encode_refined", x)
  params = model.refine(x, k=2)
  np.testing.assert_allclose(answer["mean"], params.mean, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(answer["log_var"], params.log_var, rtol=1e-5, atol=1e-5)
  assert np.max(np.abs(params.mean - load_model(run).model.refine(x, k=2).mean)) > 0.01


def test_steps_by_quadrature_are_served_without_noise(tmp_path):
  settings = {"decoder": "late_pixelcnn", "position_maps": 2, "svi_rule": "natural", "svi_lr": 0.5}
  run = make_run(tmp_path / "run", svi_noise="quadrature", **settings)
  path = exporter.export(run, tmp_path / "models")
  model, x = load_model(run).model, images(3)
  answer = Served(path, gate.interfaces(gate.read_meta_graph(path)))("encode_refined", x)
  params = model.refine(x)  # whatever the noise
  np.testing.assert_allclose(answer["mean"], params.mean, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(answer["log_var"], params.log_var, rtol=1e-5, atol=1e-5)
  assert np.max(np.abs(params.mean - model.encode(x).mean)) > 0.01


def test_svi_is_served_without_encoder_and_starts_every_row_alike(tmp_path):
  found = load_model(make_run(tmp_path / "run", "svi"))
  made = signatures.signatures(found, signatures.Options((0, 1)))
  assert made["serving_default"] is made["encode_refined"]
  assert "encode" not in made
  mean = made["encode_refined"].function(tf.constant(images(3)))["mean"].numpy()
  np.testing.assert_array_equal(mean, np.tile(mean[:1], [3, 1]))
  assert np.abs(mean).max() > 0


def test_a_model_without_latent_is_served_as_a_density_and_a_sampler(tmp_path):
  found = load_model(make_run(tmp_path / "run", "autoreg"))
  made = signatures.signatures(found, signatures.Options((0,)))
  assert made.keys() == {"serving_default", "elbo", "elbo_png", "sample"}
  x = tf.constant(images(2))
  np.testing.assert_allclose(made["elbo"].function(x)["elbo"], found.model.elbo(x), rtol=1e-6)
  three = made["sample"].traced(tf.constant([5, 6, 5]))["x"].numpy()
  np.testing.assert_array_equal(three[0], three[2])
  assert (three[0] != three[1]).any()
  np.testing.assert_array_equal(made["sample"].traced(tf.constant([6]))["x"][0], three[1])


def test_versions_count_up_and_are_complete_when_they_appear(tmp_path):
  model_dir = tmp_path / "model"
  (model_dir / "7").mkdir(parents=True)
  (model_dir / ".new-killed").mkdir()
  with new_version(model_dir) as (number, path):
    assert number == 8
    (path / "file").touch()
    assert versions(model_dir) == [7]
    with pytest.raises(UserError, match="under way"), new_version(model_dir):
      pass
  assert versions(model_dir) == [7, 8]
  assert (model_dir / "8" / "file").exists()
  assert not (model_dir / ".new-killed").exists()


def test_an_export_killed_at_its_worst_moment_leaves_nothing_that_a_server_would_load(tmp_path):
  code = (
    "import pathlib, signal, sys, os; from tf_savae.serving.version_dir import new_version\n"
    "with new_version(pathlib.Path(sys.argv[1])) as (_, path):\n"
    "  (path / 'saved_model.pb').touch(); os.kill(os.getpid(), signal.SIGKILL)"
  )
  killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False)
  assert killed.returncode == -signal.SIGKILL
  assert [path.name[0] for path in tmp_path.iterdir()] == [
    ".",
    ".",
  ]  # the lock and what is left of the export
  assert versions(tmp_path) == []
  with new_version(tmp_path) as (number, _):
    assert number == 1
  assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "1"]


def test_an_export_that_fails_leaves_nothing(tmp_path):
  with pytest.raises(ZeroDivisionError), new_version(tmp_path) as (_, path):
    (path / "saved_model.pb").touch()
    raise ZeroDivisionError
  assert [p.name for p in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
  ("prepare", "message"),
  [
    (lambda path: None, "is no directory"),
    (lambda path: path.mkdir(), "holds no run"),
  ],
)
def test_what_is_no_run_is_said_to_be_none(prepare, message, tmp_path):
  prepare(tmp_path / "run")
  with pytest.raises(UserError, match=message):
    exporter.export(tmp_path / "run", tmp_path / "models")
  assert not (tmp_path / "models").exists()


def test_a_keras_model_held_by_a_module_is_refused_as_a_server_would_refuse_it(tmp_path, exported):
  """The trap that `exporter.save` goes around: TensorFlow's Python loads such an export, its C++ does not."""
  module = tf.Module()
  module.model = exported.model.encoder
  encode = _encode_alone(exported)
  tf.saved_model.save(module, str(tmp_path), signatures={"encode": encode["encode"].traced})
  with pytest.raises(UserError, match="gate: "):
    gate.check(tmp_path, encode)


def test_an_export_that_fails_its_gate_is_not_there(tmp_path, exported, monkeypatch):
  encode, save = _encode_alone(exported), exporter.save
  kernel = exported.model.encoder.mean_head.kernel
  before = kernel.numpy()

  def save_and_alter(model, made, path):
    save(model, made, path)
    kernel.assign(before + 1e-2)

  found = exported.trained
  monkeypatch.setattr(exporter, "save", save_and_alter)
  monkeypatch.setattr(exporter, "of_model", lambda *_: encode)
  monkeypatch.setattr(exporter, "load_model", lambda *_, **__: found)
  try:
    with pytest.raises(UserError, match=r"^gate: signature encode, output mean differs"):
      exporter.export(exported.run_dir, tmp_path / "models", k=(1,))
  finally:
    kernel.assign(before)
  assert [path.name for path in (tmp_path / "models").iterdir()] == [".lock"]


def _encode_alone(exported):
  return {"encode": signatures.signatures(exported.trained, signatures.Options((0,)))["encode"]}
