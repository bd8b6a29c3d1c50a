"""A RunConfig is valid or does not exist, and knows what may change when a run is resumed."""

import dataclasses
import json

import pytest

from tf_savae.data import DATASETS, register
from tf_savae.errors import UserError
from tf_savae.methods import METHODS
from tf_savae.runs import presets
from tf_savae.runs.config import RunConfig
from tf_savae.runs.presets import make_config
from tf_savae.runs.settings import PRESETS


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid_and_survives_json(dataset, preset):
  config = make_config(dataset=dataset, preset=preset)
  assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("model", METHODS)
def test_every_method_of_the_paper_has_a_configuration(model):
  assert make_config(preset="tiny", model=model).model == model


def test_k_is_20_with_every_preset_and_eval_k_is_left_to_the_method():
  for preset in PRESETS:
    assert make_config(preset=preset).k == 20
  assert make_config(preset="tiny", k=3).eval_k is None
  assert make_config(preset="tiny", k=3, eval_k=7).eval_k == 7


def test_paper_is_the_papers_image_model():
  paper = make_config(dataset="omniglot", preset="paper")
  assert paper.encoder_channels == (64, 64, 64)
  assert paper.decoder_kernels == (9,) * 3 + (7,) * 3 + (5,) * 3 + (3,) * 3
  assert (paper.latent_dim, paper.batch_size, paper.epochs, paper.learning_rate) == (32, 50, 100, 1e-3)
  # The paper steps on the mean over a batch of 50: 1/50 an example, and a clip of 5·√50.
  assert paper.svi_lr == pytest.approx(1 / 50)
  assert paper.svi_clip_norm == pytest.approx(5 * 50**0.5, rel=0.02)


@pytest.mark.parametrize("dataset", [name for name in DATASETS if DATASETS.get(name).kind == "text"])
def test_paper_is_the_papers_text_model(dataset):
  paper = make_config(dataset=dataset, preset="paper")
  assert (paper.hidden_dim, paper.embedding_dim, paper.latent_dim, paper.vocab_size) == (
    1024,
    512,
    32,
    20_000,
  )
  assert (paper.dropout, paper.word_dropout, paper.init_scale, paper.max_length) == (0.5, 0, 0.1, 200)
  assert (paper.optimizer, paper.learning_rate, paper.clip_norm) == ("sgd", 1.0, 5.0)
  assert (paper.batch_size, paper.epochs) == (32, 30)
  assert (paper.lr_patience, paper.lr_decay, paper.lr_decay_from, paper.lr_decay_mode) == (
    1,
    0.5,
    15,
    "every",
  )
  assert paper.min_learning_rate == 0.03
  assert (paper.beta_start, paper.beta_warmup_epochs, paper.beta_cycles) == (0.1, 10, 1)
  # The paper steps on the mean over a batch of 32: 1/32 an example, and a clip of 5·√32.
  assert paper.svi_lr == 1 / 32
  assert paper.svi_clip_norm == pytest.approx(5 * 32**0.5, rel=0.02)
  assert paper.svi_momentum == 0.5


def test_auto_is_the_data_sets_own_decoder():
  names = {dataset: make_config(dataset=dataset, preset="tiny").decoder_name for dataset in DATASETS}
  assert names == {
    "omniglot": "pixelcnn",
    "images": "pixelcnn",
    "mnist": "pixelcnn",
    "cifar10": "conv",
    "fashion_mnist": "pixelcnn",
    "yahoo": "lstm",
    "text": "lstm",
    "synthetic": "lstm",
  }
  assert make_config(dataset="yahoo", preset="tiny", decoder="dilated_conv").decoder_name == "dilated_conv"


def test_what_is_given_overrides_the_preset():
  assert make_config(preset="tiny", batch_size=7, decoder_kernels=[7, 3]).decoder_kernels == (7, 3)
  assert make_config(preset="tiny", batch_size=7).batch_size == 7
  assert make_config(preset="tiny").batch_size != 7


def test_auto_is_small_without_a_gpu_and_paper_with_one(monkeypatch):
  monkeypatch.setattr(presets, "_gpu_is_visible", lambda: False)
  assert make_config(preset="auto").preset == "small"
  monkeypatch.setattr(presets, "_gpu_is_visible", lambda: True)
  assert make_config(preset="auto").preset == "paper"


def test_the_run_directory_names_what_distinguishes_runs():
  config = make_config(preset="tiny", model="svi", k=5, seed=3)
  assert config.run_dir == "runs/omniglot-svi-k5-tiny-seed3"


@pytest.mark.parametrize(
  ("given", "words"),
  [
    ({"k": -1}, ["--k", "0 or more", "-1"]),
    ({"k": 2.5}, ["--k", "whole number", "2.5"]),
    ({"k": True}, ["--k", "whole number", "True"]),
    ({"eval_k": -2}, ["--eval_k", "-2"]),
    ({"model": "gan"}, ["--model", "savae", "gan"]),
    ({"dataset": "svhn"}, ["--dataset", "omniglot", "svhn"]),
    ({"preset": "huge"}, ["--preset", "tiny", "huge"]),
    ({"learning_rate": 0}, ["--learning_rate", "above 0", "0"]),
    ({"learning_rate": float("nan")}, ["--learning_rate", "nan"]),
    ({"svi_momentum": 1.0}, ["--svi_momentum", "below 1", "1.0"]),
    ({"decoder_kernels": (4,)}, ["--decoder_kernels", "odd", "4"]),
    ({"encoder_channels": ()}, ["--encoder_channels", "separated by commas"]),
    ({"seed": 2**31}, ["--seed", "2147483647"]),
    ({"run_dir": " "}, ["--run_dir", "not empty"]),
    ({"download": "yes"}, ["--download", "true or false", "yes"]),
    ({"learn_svi_lr": "always"}, ["--learn_svi_lr", "always", "block, latent"]),
    ({"batchsize": 3}, ["batchsize", "batch_size"]),
    ({"decoder": "transformer"}, ["--decoder", "dilated_conv", "transformer"]),
    ({"decoder": "dilated_conv"}, ["--decoder", "--dataset=omniglot", "auto, pixelcnn", "dilated_conv"]),
    ({"dataset": "text", "decoder": "pixelcnn"}, ["--decoder", "auto, lstm, dilated_conv", "pixelcnn"]),
    ({"dilations": "huge"}, ["--dilations", "small, medium, large", "huge"]),
    ({"dilations": (1, 0)}, ["--dilations", "at least 1", "1,0"]),
    ({"vocab_size": 0}, ["--vocab_size", "1 or more", "0"]),
    ({"min_count": 0}, ["--min_count", "1 or more", "0"]),
    ({"max_length": 0}, ["--max_length", "1 or more", "0"]),
    ({"word_dropout": 1.0}, ["--word_dropout", "below 1", "1.0"]),
    ({"conv_channels": 0}, ["--conv_channels", "1 or more", "0"]),
    ({"init_scale": 0.0}, ["--init_scale", "above 0", "0.0"]),
    ({"beta_cycles": 0}, ["--beta_cycles", "1 or more", "0"]),
    ({"free_bits": -0.1}, ["--free_bits", "at least 0", "-0.1"]),
    ({"lr_decay_from": 0}, ["--lr_decay_from", "1 or more", "0"]),
    ({"lr_decay_mode": "never"}, ["--lr_decay_mode", "once, every", "never"]),
    ({"min_learning_rate": -1}, ["--min_learning_rate", "at least 0", "-1"]),
    (
      {"min_learning_rate": 0.1, "learning_rate": 0.01},
      ["--min_learning_rate", "--learning_rate=0.01", "received 0.1"],
    ),
    ({"k_warmup_epochs": -0.5}, ["--k_warmup_epochs", "at least 0", "-0.5"]),
    ({"svi_noise": "odd"}, ["--svi_noise", "independent, antithetic", "odd"]),
    ({"svi_noise": "antithetic", "svi_samples": 3}, ["even --svi_samples", "such as 4", "=3"]),
    ({"svi_noise": "signs", "svi_samples": 1}, ["signs", "even --svi_samples", "such as 2", "=1"]),
    ({"adjoint": "implicit"}, ["--adjoint=implicit", "--initial_loss_weight=1", "=0"]),
    (
      {"adjoint": "implicit", "initial_loss_weight": 1.0, "learn_svi_lr": "step"},
      ["--adjoint=implicit", "--learn_svi_lr=none", "=step"],
    ),
    (
      {"svi_rule": "learned", "model": "vae_svi"},
      ["--svi_rule=learned", "--model=savae", "received --model=vae_svi"],
    ),
    ({"posterior": "gamma"}, ["--posterior", "diagonal, full, iaf", "gamma"]),
    ({"posterior": "full", "model": "autoreg"}, ["--posterior=full", "with a latent", "--model=autoreg"]),
    ({"posterior": "full", "svi_noise": "quadrature"}, ["--posterior=diagonal", "received --posterior=full"]),
    ({"posterior": "iaf", "svi_noise": "mean"}, ["--posterior=iaf", "use --svi_noise=antithetic"]),
    (
      {"posterior": "iaf", "free_bits": 0.5},
      ["--free_bits=0.5", "received --posterior=iaf", "--free_bits=0"],
    ),
    (
      {"posterior": "full", "svi_rule": "natural_multiplicative"},
      ["natural_multiplicative", "received --posterior=full", "use --svi_rule=natural"],
    ),
    ({"objective": "iwea"}, ["--objective", "elbo, iwae, buffered", "iwea"]),
    ({"iwae_samples": 0}, ["--iwae_samples", "1 or more", "0"]),
    ({"objective": "iwae", "model": "autoreg"}, ["--objective=iwae", "with a latent", "--model=autoreg"]),
    ({"objective": "buffered", "model": "vae"}, ["--objective=buffered", "refines", "--model=vae"]),
    ({"objective": "buffered", "k": 0}, ["--objective=buffered", "--k=1 or more", "--k=0"]),
    ({"objective": "iwae", "free_bits": 0.1}, ["--free_bits", "--objective=iwae", "=0.1"]),
    ({"objective": "iwae", "svi_noise": "quadrature"}, ["--objective=iwae", "such as independent"]),
    ({"lagging_updates": 9, "model": "svi"}, ["--lagging_updates", "an encoder", "=9 --model=svi"]),
    ({"lagging_updates": 9, "precision": "mixed_float16"}, ["--lagging_updates", "=9", "mixed_bfloat16"]),
    ({"init_networks": "encoder", "model": "svi"}, ["--init_networks=encoder", "--model=svi"]),
    ({"bn_gamma": -0.5}, ["--bn_gamma", "at least 0", "-0.5"]),
    ({"beta": -1.0}, ["--beta", "at least 0", "-1.0"]),
    ({"bound_samples": 3}, ["--bound_samples", "1 or even", "3"]),
    ({"svi_noise": "mean", "svi_samples": 2}, ["--svi_noise=mean", "--svi_samples=1", "=2"]),
    ({"svi_noise": "quadrature", "svi_samples": 2}, ["--svi_noise=quadrature", "--svi_samples=1", "=2"]),
    ({"model": "vae", "learn_svi_lr": "block"}, ["--learn_svi_lr=block", "such as savae", "--model=vae"]),
    (
      {"initial_loss_trains": "both"},
      ["--initial_loss_trains=both", "--initial_loss_weight=1", "--model=savae --initial_loss_weight=0"],
    ),
    ({"initial_loss_trains": "decoder"}, ["--initial_loss_trains", "encoder, both", "decoder"]),
    (
      {"model": "vae_svi", "initial_loss_weight": 0.5},
      ["--initial_loss_weight", "such as savae", "--model=vae_svi --initial_loss_weight=0.5"],
    ),
    ({"model": "autoreg", "eval_k": 3}, ["--eval_k=3", "--model=autoreg has no latent"]),
    ({"run_dir": "runs/\udcff"}, ["--run_dir", "in UTF-8", "runs/"]),
    ({"max_minutes": -1}, ["--max_minutes", "at least 0", "-1"]),
    ({"logit_positions": -1}, ["--logit_positions", "0 or more", "-1"]),
    ({"init_from": ""}, ["--init_from", "not empty"]),
    ({"profile": "5"}, ["--profile", "first and the last", "such as 100:110", "received 5"]),
    ({"profile": "0:3"}, ["--profile", "counted from 1", "received 0:3"]),
    ({"profile": "7:3"}, ["--profile", "received 7:3"]),
    ({"profile": "1:²"}, ["--profile", "received 1:²"]),
    ({"dataset": "text", "eval_file": "a.txt"}, ["--eval_file", "--eval_only", "a.txt"]),
    ({"eval_only": True, "eval_file": "a.txt"}, ["--eval_file", "text", "a.txt", "omniglot"]),
  ],
)
def test_a_wrong_value_gives_one_line_with_the_name_and_what_was_received(given, words):
  with pytest.raises(UserError) as caught:
    make_config(**{"preset": "tiny", **given})
  message = str(caught.value)
  assert "\n" not in message
  for word in words:
    assert word in message


def test_a_run_that_began_before_a_setting_existed_goes_on_with_its_default():
  config = make_config(preset="tiny")
  stored = config.to_dict()
  del stored["svi_noise"], stored["k_warmup_epochs"]
  assert RunConfig.from_dict(stored) == config
  assert (config.svi_noise, config.k_warmup_epochs) == ("independent", 0.0)


def test_a_data_set_of_an_unknown_kind_is_refused_in_one_line(monkeypatch):
  monkeypatch.setattr(DATASETS, "_parts", dict(DATASETS._parts))
  register("odd", lambda **_: None, kind="smell")
  with pytest.raises(UserError, match=r"--dataset=odd is of the kind 'smell'.*image, text, tokens"):
    make_config(dataset="odd", preset="tiny")


def test_clips_of_zero_or_less_are_off():
  assert make_config(preset="tiny", svi_clip_norm=0).svi_clip is None
  assert make_config(preset="tiny", clip_norm=-1).outer_clip is None
  assert make_config(preset="tiny", svi_clip_norm=3.5).svi_clip == 3.5


def test_a_change_of_identity_is_a_difference_and_a_change_of_comfort_is_not():
  config = make_config(preset="tiny")
  assert config.differences(dataclasses.replace(config, svi_lr=0.5)) == [("svi_lr", config.svi_lr, 0.5)]
  comfort = dataclasses.replace(
    config, eval_k=99, data_dir="elsewhere", download=False, checkpoint_every=1, iw_samples=9, run_dir="moved"
  )
  assert config.differences(comfort) == []


def test_epochs_and_steps_may_only_grow_and_no_limit_is_the_largest():
  config = make_config(preset="tiny", epochs=3, max_steps=20)
  assert config.differences(dataclasses.replace(config, epochs=4, max_steps=21)) == []
  assert config.differences(dataclasses.replace(config, max_steps=0)) == []
  assert [d.name for d in config.differences(dataclasses.replace(config, epochs=2))] == ["epochs"]
  hour = make_config(preset="tiny", max_minutes=60)
  assert hour.differences(dataclasses.replace(hour, max_minutes=61.5)) == []
  assert hour.differences(dataclasses.replace(hour, max_minutes=0)) == []
  assert [d.name for d in hour.differences(dataclasses.replace(hour, max_minutes=1))] == ["max_minutes"]
  unlimited = dataclasses.replace(config, max_steps=0)
  assert [d.name for d in unlimited.differences(config)] == ["max_steps"]


STEPS = {"svi_rule": "natural", "svi_noise": "mean", "svi_lr": 0.7, "svi_tolerance": 0.1}


def test_steps_may_differ_when_a_run_is_evaluated_and_not_when_it_is_trained():
  config = RunConfig(dataset="omniglot", model="vae")
  assert config.differences(dataclasses.replace(config, **STEPS, eval_only=True)) == []
  names = {difference.name for difference in config.differences(dataclasses.replace(config, **STEPS))}
  assert names == set(STEPS)


@pytest.mark.parametrize("name", ["svi_rule", "svi_lr"])
def test_learned_step_sizes_belong_to_their_rule(name):
  learned = RunConfig(dataset="omniglot", model="savae", learn_svi_lr="auto")
  other = dataclasses.replace(learned, **{name: STEPS[name]}, eval_only=True)
  with pytest.raises(UserError, match=f"--{name}=.* has learned its steps"):
    learned.check_steps(other, "here")
  learned.check_steps(dataclasses.replace(learned, svi_noise="mean", eval_only=True), "here")
  vae = RunConfig(dataset="omniglot", model="vae", learn_svi_lr="auto")
  vae.check_steps(dataclasses.replace(vae, **STEPS, eval_only=True), "here")


def test_preset_small_trains_the_encoder_to_be_good_alone_where_the_method_can():
  assert make_config(preset="small").initial_loss_weight == 3.0
  assert make_config(preset="small", dataset="text").initial_loss_weight == 1.0
  assert make_config(preset="small", initial_loss_weight=0.2).initial_loss_weight == 0.2
  assert make_config(preset="small", model="vae_svi").initial_loss_weight == 0.0
  assert make_config(preset="paper").initial_loss_weight == 0.0


def test_preset_small_of_images_fits_the_decoder_to_the_encoder_wherever_the_loss_looks_at_it():
  assert make_config(preset="small").initial_loss_trains == "both"
  for other in (
    {"initial_loss_weight": 0.0},
    {"model": "vae_svi"},
    {"dataset": "text"},
    {"preset": "paper"},
    {"initial_loss_trains": "encoder"},
  ):
    assert make_config(**{"preset": "small", **other}).initial_loss_trains == "encoder"


def test_preset_small_takes_the_noise_that_suits_the_decoder():
  omniglot = make_config(preset="small")
  assert (omniglot.decoder, omniglot.svi_noise) == ("late_pixelcnn", "quadrature")
  assert make_config(preset="small", decoder="pixelcnn").svi_noise == "independent"
  assert make_config(preset="small", svi_noise="signs", svi_samples=2).svi_noise == "signs"
  assert make_config(preset="small", dataset="mnist").decoder == "auto"
  assert make_config(preset="small", dataset="mnist", decoder="late_pixelcnn").svi_noise == "quadrature"
  paper = make_config(preset="paper")
  assert (paper.decoder, paper.svi_noise) == ("auto", "independent")
