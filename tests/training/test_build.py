"""A configuration becomes the model that it describes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_savae import adjoint, data, networks
from tf_savae.errors import UserError
from tf_savae.training import make_config
from tf_savae.training.build import BetaWarmup, build_model, make_adjoint, svi_settings, use_xla


@pytest.fixture(scope="module")
def tokens():
  return data.load(
    "synthetic", data_dir="", seed=0, num_examples=40, vocab_size=6, length=3, hidden=4, embedding=4
  )


def config(**changes):
  return make_config(**{"dataset": "synthetic", "preset": "tiny", "run_dir": "unused", "k": 2, **changes})


def test_beta_rises_by_one_over_the_warm_up_and_stays_at_one():
  beta = BetaWarmup(0.1, 40)
  np.testing.assert_allclose(
    [beta(step) for step in (0, 1, 10, 35, 36, 1000)], [0.1, 0.125, 0.35, 0.975, 1, 1]
  )
  assert float(BetaWarmup(0.1, 0)(0)) == 1.0
  assert float(beta(tf.constant(10, tf.int64))) == pytest.approx(0.35)
  again = BetaWarmup.from_config(beta.get_config())
  assert float(again(10)) == float(beta(10))


def test_beta_is_that_of_the_step_within_an_epoch(tokens):
  model = build_model(config(batch_size=10, beta_start=0.2, beta_warmup_epochs=2.0), tokens)
  # 4 batches an epoch, so 1 / 8 an update.
  assert [float(model.beta(step)) for step in range(3)] == pytest.approx([0.2, 0.325, 0.45])


def test_the_refinement_is_the_one_asked_for():
  settings = svi_settings(config(k=4, svi_lr=0.4, svi_schedule="linear", svi_momentum=0.3, svi_samples=3))
  np.testing.assert_allclose(settings.step_size, [0.4, 0.3, 0.2, 0.1])
  assert (settings.num_steps, settings.momentum, settings.num_samples, settings.clip_norm) == (
    4,
    0.3,
    3,
    35.0,
  )
  assert svi_settings(config(svi_clip_norm=-1.0)).clip_norm is None
  assert svi_settings(config(k=0, svi_schedule="linear")).num_steps == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", adjoint.ADJOINTS)
def test_every_adjoint_trains_with_the_parameters_of_its_flags(name, tokens):
  settings = config(k=1, adjoint=name, adjoint_steps=3, fd_radius=0.5)
  mode = make_adjoint(settings)
  assert isinstance(mode, adjoint.ADJOINTS[name])
  assert getattr(mode, "steps", 3) == 3
  assert getattr(mode, "radius", 0.5) == 0.5
  model = build_model(settings, tokens)
  before = [v.numpy() for v in model.trainable_variables]
  logs = model.train_step(tf.constant(tokens.examples("train", 4)))
  assert np.isfinite(float(logs["loss"]))
  assert any(np.any(v.numpy() != old) for v, old in zip(model.trainable_variables, before, strict=True))


def test_step_sizes_are_trained_where_asked_for_and_possible(tokens):
  assert build_model(config(), tokens).step_sizes.log_sizes is None
  assert build_model(config(learn_svi_lr="step"), tokens).step_sizes.log_sizes.shape == (2, 1)
  assert build_model(config(learn_svi_lr="latent"), tokens).step_sizes.log_sizes.shape == (2, 2)
  assert build_model(config(learn_svi_lr="auto"), tokens).step_sizes.log_sizes.shape == (2, 1)
  assert build_model(config(learn_svi_lr="auto", model="vae"), tokens).step_sizes.log_sizes is None
  with pytest.raises(UserError) as caught:
    build_model(config(learn_svi_lr="step", model="vae"), tokens)
  assert "\n" not in str(caught.value)
  assert "'step'" in str(caught.value)


def test_optimizer_precision_and_sizes_are_those_of_the_flags(tokens):
  model = build_model(
    config(
      optimizer="sgd",
      learning_rate=0.5,
      clip_norm=0.0,
      precision="mixed_bfloat16",
      hidden_dim=5,
      latent_dim=7,
    ),
    tokens,
  )
  assert isinstance(model.optimizer, keras.optimizers.SGD)
  assert float(model.optimizer.learning_rate) == 0.5
  assert model.optimizer.clipnorm is model.optimizer.global_clipnorm is model.clip_norm is None
  assert model.decoder.compute_dtype == "bfloat16"
  assert {v.dtype for v in model.trainable_variables} == {"float32"}
  assert isinstance(model.encoder, networks.LSTMEncoder)
  assert model.latent_dim == 7
  assert model.encode(tokens.examples("valid", 3)).mean.dtype == tf.float32
  assert model.optimizer.built


def test_equal_seeds_make_equal_weights(tokens):
  one, same, other = (build_model(config(seed=seed), tokens).trainable_variables for seed in (1, 1, 2))
  assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
  assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_xla_is_used_where_it_pays_or_must_be(tokens):
  short, long = config(max_steps=20), config(max_steps=0, epochs=1000, batch_size=20)
  if not tf.config.list_physical_devices("GPU"):
    assert not use_xla(short, tokens)  # it compiles for longer than such a run takes
    assert use_xla(long, tokens)
    assert not use_xla(config(dataset="omniglot", epochs=1000), _Images())
  assert use_xla(config(deterministic=True, jit_compile="false"), tokens)
  assert use_xla(config(jit_compile="true"), tokens)
  assert not use_xla(config(max_steps=0, epochs=1000, jit_compile="false"), tokens)


class _Images:
  kind = "image"

  def steps_per_epoch(self, batch_size):
    return 100
