"""The oracle as a decoder: p(x | z) is the oracle's, nothing of it is trained, and every method trains the rest."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.runs import CompiledOnce, tiny_config
from tf_savae import SAVAE, SVISettings, data, networks
from tf_savae.data.oracle import READINGS, Oracle
from tf_savae.errors import UserError
from tf_savae.networks.oracle_decoder import oracle_decoder
from tf_savae.training import loop

SIZES = {"vocab_size": 7, "length": 3, "hidden": 6, "embedding": 4}
every_reading = pytest.mark.parametrize("reading", READINGS)


def synthetic(reading="lstm_input", **options):
  return data.load("synthetic", data_dir="", seed=0, num_examples=16, oracle=reading, **(SIZES | options))


def make_model(dataset, method, decoder=None, **options):
  encoder = None if method == "svi" else networks.LSTMEncoder(7, 2, 4, 5, init_scale=0.8)
  decoder = decoder or oracle_decoder(dataset.oracle)
  return SAVAE(encoder, decoder, method, SVISettings(2, 0.1, clip_norm=3.0), **options)


@every_reading
def test_the_decoder_is_the_oracle(reading):
  dataset = synthetic(reading)
  decoder = oracle_decoder(dataset.oracle)
  x, z = dataset.examples("test", 16), np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
  np.testing.assert_allclose(
    decoder.log_prob(tf.constant(x), z, decoder.precompute(x)), dataset.oracle.log_prob(x, z), rtol=1e-5
  )
  assert decoder.trainable_variables == []
  assert not any(variable.value.trainable for variable in decoder.variables)  # no tape watches them


# Compiled where there is most to compile, and where nothing is trained.
@pytest.mark.parametrize(
  ("method", "reading", "jit_compile"),
  [
    ("vae", "lstm_input", False),
    ("svi", "lstm_input", True),
    ("vae_svi", "lstm_input", False),
    ("vae_svi_kl", "output_layer", False),
    ("savae", "output_layer", True),
  ],
)
def test_every_method_trains_its_inference_and_leaves_the_oracle_as_it_is(method, reading, jit_compile):
  dataset = synthetic(reading)
  learned = {"learn_step_size": "step", "initial_loss_weight": 0.5} if method == "savae" else {}
  model = make_model(dataset, method, **learned)
  model.compile(optimizer=keras.optimizers.Adam(0.05), jit_compile=jit_compile)
  x = dataset.examples("train", 16)
  model.ensure_built(x)
  before = {v.path: v.numpy() for v in model.variables}
  losses = [model.fit(x, batch_size=16, epochs=1, verbose=0).history["loss"][0] for _ in range(3)]
  assert np.all(np.isfinite(losses))
  changed = {v.path for v in model.variables if np.any(v.numpy() != before[v.path])}
  assert {v.path for v in model.trainable_variables} <= changed
  assert not {v.path for v in model.decoder.variables} & changed
  assert bool(model.trainable_variables) == (method != "svi")


def test_the_encoder_s_gradient_is_the_one_beside_a_decoder_that_is_trained():
  # The same decoder, once as a constant and once with weights that receive gradients, too.
  dataset = synthetic()
  constant = oracle_decoder(dataset.oracle)
  trained = networks.LSTMDecoder.from_config(constant.get_config() | {"trainable": True})
  trained.set_weights(constant.get_weights())
  x, gradients = tf.constant(dataset.examples("train", 16)), []
  for decoder in (constant, trained):
    model = make_model(dataset, "savae", decoder)
    model.ensure_built(x)
    inference = model.inference(x)
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(model.method.loss(model.infer(inference)))
    gradients.append(tape.gradient(loss, [v.value for v in model.encoder.trainable_variables]))
  for ours, reference in zip(*gradients, strict=True):
    ours, reference = tf.convert_to_tensor(ours), tf.convert_to_tensor(reference)
    np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=1e-5)
    assert np.any(reference)


@pytest.fixture(scope="module")
def once():
  with pytest.MonkeyPatch.context() as patch:
    yield CompiledOnce(patch)


def test_a_run_keeps_its_oracle_and_goes_on_with_no_other(once, tmp_path):
  config = tiny_config(tmp_path / "run", generator="oracle", oracle="output_layer", max_steps=2, model="vae")
  loop.run(config)
  kept = Oracle.load(tmp_path / "run" / "oracle.npz")
  assert kept.reading == "output_layer" and kept.vocab_size == 20
  results = json.loads((tmp_path / "run" / "results.json").read_text())
  assert np.isfinite(results["test"]["nll_bound"])
  Oracle.random(5, **SIZES, output_scale=1.0, reading="output_layer").save(tmp_path / "run" / "oracle.npz")
  evaluated = tiny_config(
    tmp_path / "run", generator="oracle", oracle="output_layer", max_steps=2, model="vae", eval_only=True
  )
  with pytest.raises(UserError, match=r"oracle\.npz is not the oracle"):
    loop.run(evaluated)


def test_a_run_with_nothing_to_train_ends_with_its_bounds(once, tmp_path):
  results = loop.run(tiny_config(tmp_path / "run", generator="oracle", max_steps=1, model="svi"))
  assert results["test"]["kl"] > 0 and results["steps"] == 1


@pytest.mark.parametrize("wrong", [{"model": "autoreg"}, {"latent_dim": 3}, {"dataset": "omniglot"}])
def test_an_oracle_where_there_can_be_none_is_refused(wrong, tmp_path):
  with pytest.raises(UserError, match="--generator=oracle is for --dataset=synthetic"):
    tiny_config(tmp_path / "run", **({"generator": "oracle"} | wrong))
