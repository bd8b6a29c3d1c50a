"""A configuration becomes the model that it describes."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_savae import data, networks
from tf_savae.data.oracle import READINGS
from tf_savae.errors import UserError
from tf_savae.networks import dilated_conv
from tf_savae.runs.adjoint_choice import of_name
from tf_savae.runs.build import BetaWarmup, build_model, svi_settings, use_xla
from tf_savae.runs.config import RunConfig
from tf_savae.runs.model_settings import DILATIONS
from tf_savae.runs.settings import ORACLES
from tf_savae.svi import adjoint
from tf_savae.training import make_config


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
  np.testing.assert_allclose([BetaWarmup(0.1, 10, end=0.5)(step) for step in (0, 2, 5)], [0.1, 0.3, 0.5])
  assert float(BetaWarmup(0.1, 10, end=0.0)(0)) == float(BetaWarmup(0.1, 0, end=0.0)(0)) == 0
  assert float(beta(tf.constant(10, tf.int64))) == pytest.approx(0.35)
  again = BetaWarmup.from_config(beta.get_config())
  assert float(again(10)) == float(beta(10))


def test_cyclical_beta_rises_in_the_first_half_of_every_cycle_and_ends_at_one():
  beta = BetaWarmup(0.0, 4, cycles=3)
  one_cycle = [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
  np.testing.assert_allclose([beta(step) for step in range(30)], [*one_cycle * 3, *[1] * 6])
  assert float(beta(tf.constant(17, tf.int64))) == 0.25
  # A ramp that does not begin at 0 is as steep, and a cycle of 7.5 updates takes 8.
  np.testing.assert_allclose(
    [BetaWarmup(0.2, 3.75, 2)(step) for step in (0, 3, 7, 8, 9)], [0.2, 1, 1, 0.2, 7 / 15]
  )
  again = BetaWarmup.from_config(beta.get_config())
  assert [float(again(step)) for step in range(30)] == [float(beta(step)) for step in range(30)]
  assert float(BetaWarmup(0.1, 0, cycles=4)(0)) == 1.0


def test_the_bound_the_lag_and_the_normalised_encoder_are_those_of_the_flags(tokens):
  model = build_model(
    config(model="vae_svi", objective="iwae", iwae_samples=3, lagging_updates=7, bn_gamma=0.4), tokens
  )
  assert (model.objective, model.iwae_samples, model.lagging.limit) == ("iwae", 3, 7)
  assert model.encoder.gamma == 0.4
  plain = build_model(config(), tokens)
  assert (plain.objective, plain.lagging) == ("elbo", None) and not hasattr(plain.encoder, "gamma")


def test_beta_is_that_of_the_step_within_an_epoch(tokens):
  model = build_model(config(batch_size=10, beta_start=0.2, beta_warmup_epochs=2.0), tokens)
  # 4 batches per epoch, so 1 / 8 per update.
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
  assert settings.tolerance == 0 and svi_settings(config(svi_tolerance=0.5)).tolerance == 0.5
  assert not settings.antithetic
  assert svi_settings(config(svi_noise="antithetic", svi_samples=2)).antithetic
  assert svi_settings(config(k=0, svi_schedule="linear")).num_steps == 0


def test_step_sizes_fall_as_the_schedule_says_and_log_var_may_have_its_own():
  both = svi_settings(config(k=3, svi_lr=0.8, svi_lr_log_var=0.3, svi_schedule="harmonic"))
  falling = np.array([1, 1 / 1.3, 1 / 1.6])
  np.testing.assert_allclose(both.step_size, np.stack([0.8 * falling, 0.3 * falling], 1)[..., np.newaxis])
  constant = svi_settings(config(k=2, svi_lr=0.8, svi_lr_log_var=0.3))
  np.testing.assert_allclose(constant.step_size, [[[0.8], [0.3]]] * 2)
  assert svi_settings(config(k=2, svi_lr=0.8)).step_size == 0.8


def test_the_steps_of_an_update_rise_over_the_warm_up_where_the_method_refines(tokens):
  settings = config(k=3, batch_size=10, k_warmup_epochs=1.5)  # 4 batches per epoch
  schedule = build_model(settings, tokens).k_schedule
  assert [int(schedule(step)) for step in range(8)] == [1, 1, 1, 2, 2, 2, 3, 3]
  for without in ({"k_warmup_epochs": 0.0}, {"model": "vae"}, {"k": 0}):
    assert build_model(dataclasses.replace(settings, **without), tokens).k_schedule is None


@pytest.mark.slow
@pytest.mark.parametrize("name", adjoint.ADJOINTS)
def test_every_adjoint_trains_with_the_parameters_of_its_flags(name, tokens):
  settings = config(k=1, adjoint=name, adjoint_steps=3, fd_radius=0.5, initial_loss_weight=1.0)
  mode = of_name(settings, name)
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
  with pytest.raises(UserError, match="--learn_svi_lr=step"):
    config(learn_svi_lr="step", model="vae")


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
  assert model.optimizer.clipnorm is model.optimizer.global_clipnorm is model.global_clip_norm is None
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
    assert not use_xla(config(dataset="text", epochs=1000), _Text())
  assert not use_xla(
    config(dataset="text", epochs=1000, deterministic=True), _Text()
  )  # a compilation a shape
  assert use_xla(config(dataset="text", jit_compile="true"), _Text())
  assert use_xla(config(deterministic=True, jit_compile="false"), tokens)
  assert use_xla(config(jit_compile="true"), tokens)
  assert not use_xla(config(max_steps=0, epochs=1000, jit_compile="false"), tokens)


class _Images:
  kind = "image"

  def steps_per_epoch(self, batch_size):
    return 100


class _Text:
  """What networks of text are built from."""

  kind = "text"
  vocab_size, max_length = 11, 7

  def steps_per_epoch(self, batch_size):
    return 100

  def eval_batches(self, split, batch_size):
    return tf.data.Dataset.from_generator(
      lambda: iter(()), output_signature=tf.TensorSpec([None, None], tf.int32)
    )


def text_config(**changes):
  return config(dataset="text", hidden_dim=4, embedding_dim=3, latent_dim=2, free_bits=0.5, **changes)


def test_networks_of_text_are_those_of_the_flags_and_take_any_length():
  model = build_model(text_config(dropout=0.25, word_dropout=0.125, logit_positions=5), _Text())
  assert isinstance(model.encoder, networks.TextLSTMEncoder)
  decoder = model.decoder
  assert isinstance(decoder, networks.TextLSTMDecoder)
  assert (decoder.vocab_size, decoder.max_length, decoder.embedding_dim, decoder.hidden_dim) == (11, 7, 3, 4)
  assert (decoder.dropout, decoder.word_dropout, decoder.logit_positions) == (0.25, 0.125, 5)
  assert model.free_bits == 0.5
  assert model.get_build_config()["shape"] == [None, None]
  for length in (8, 16):
    assert model.encode(tf.fill([2, length], 5)).mean.shape == (2, 2)


def test_the_settings_name_every_oracle():
  assert tuple(READINGS) == ORACLES


def test_the_dilated_decoder_has_the_stack_that_is_named_or_listed():
  assert tuple(dilated_conv.DILATIONS) == DILATIONS
  for dilations, expected in (("small", (1, 2, 4)), ((1, 3), (1, 3))):
    model = build_model(
      text_config(model="vae", decoder="dilated_conv", dilations=dilations, conv_channels=6), _Text()
    )
    assert isinstance(model.decoder, networks.DilatedConvDecoder)
    assert (model.decoder.dilations, model.decoder.channels) == (expected, 6)
    assert isinstance(model.encoder, networks.TextLSTMEncoder)


@pytest.mark.parametrize(
  ("decoder", "inner"), [("lstm", networks.TextLSTMDecoder), ("dilated_conv", networks.DilatedConvDecoder)]
)
def test_z_enters_text_where_latent_to_says(decoder, inner):
  changes = {"decoder": decoder, "conv_channels": 6, "latent_l2": 0.1, "logit_positions": 5}
  late = build_model(text_config(latent_to="softmax", **changes), _Text())
  assert isinstance(late.decoder, networks.LateSoftmaxDecoder)
  assert isinstance(late.decoder.language_model, inner)
  assert (late.decoder.latent_dim, late.decoder.latent_l2, len(late.losses)) == (2, 0.1, 1)
  assert late.decoder.language_model.logit_positions == 5
  early = build_model(text_config(latent_to="state", **changes), _Text())
  without = build_model(text_config(latent_to="softmax", model="autoreg", **changes), _Text())
  for model in (early, without):
    assert type(model.decoder) is inner and not model.losses


def test_presets_say_where_z_enters_and_a_run_from_before_the_setting_has_it_in_the_state():
  def of(preset):
    return make_config(dataset="text", preset=preset)

  assert (of("paper").latent_to, of("small").latent_to) == ("state", "softmax")
  before = {name: value for name, value in of("small").to_dict().items() if not name.startswith("latent_")}
  assert RunConfig.from_dict(before).latent_to == "state"


def test_bow_is_an_encoder_of_text():
  model = build_model(text_config(encoder="bow", model="vae"), _Text())
  assert isinstance(model.encoder, networks.BagOfWordsEncoder)
  assert (model.encoder.embedding_dim, model.encoder.hidden_dim) == (3, 4)


def test_all_weights_of_the_lstms_begin_within_init_scale():
  model = build_model(text_config(init_scale=0.01), _Text())
  largest = [float(np.max(np.abs(v.numpy()))) for v in model.trainable_variables]
  assert max(largest) <= 0.01
  assert min(largest) > 0
