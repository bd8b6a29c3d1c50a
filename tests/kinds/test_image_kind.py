"""Runs on pictures in colour, with labels and without: their networks, facts, pictures, export and resumption."""

from __future__ import annotations

import json
import types

import keras
import numpy as np
import pytest
from PIL import Image

from tests.training.runs import CompiledOnce
from tf_savae import training
from tf_savae.errors import UserError
from tf_savae.kind import KINDS
from tf_savae.likelihoods import LogisticMixture
from tf_savae.methods import METHODS
from tf_savae.networks import ConditionalDecoder, ConvDecoder, GatedPixelCNN, MLPDecoder
from tf_savae.runs import run_data
from tf_savae.runs.build import build_model, make_networks
from tf_savae.runs.directory import RunDirectory
from tf_savae.serving import images
from tf_savae.training import make_config, projector

KIND = KINDS.get("image")


@pytest.fixture
def folder(tmp_path):
  """Thirty pictures in colour, in folders of three labels."""
  rng = np.random.default_rng(0)
  for i in range(30):
    path = tmp_path / "mine" / f"label{i % 3}" / f"{i:02d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((12, 10, 3), rng.integers(0, 256, 3))
    pixels[:, :5] = 255 - pixels[:, :5]
    Image.fromarray(np.uint8(pixels)).save(path)
  return tmp_path / "mine"


def begun(folder, name="run", **settings):
  """Settings, run directory and data of a run that has begun."""
  options = {"k": 2, "encoder_channels": (3,), "decoder_channels": 3, "mixture_components": 2, **settings}
  run = folder.parent / name
  config = make_config(dataset="images", data_dir=str(folder), run_dir=str(run), preset="tiny", **options)
  directory = RunDirectory(config.run_dir)
  directory.create()
  directory.write_config(config)
  return config, directory, run_data.load(config, directory)


def plain_config(network):
  """Without the names that Keras numbers."""
  text = json.dumps(network.get_config(), default=str)
  return {k: v for k, v in json.loads(text).items() if k not in ("name", "decoder", "encoder")}


SETTINGS = {
  "colour": {},
  "grey values": {"image_channels": "grey", "likelihood": "logistic_mixture"},
  "labels": {"condition": "label"},
  "binary with labels": {"condition": "label", "image_channels": "binary"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_networks_of_the_outline_are_those_of_the_data(folder, settings):
  config, directory, data = begun(folder, **settings)
  outline = KIND.outline(config, directory)
  assert (outline.pixels, outline.image_shape) == (data.pixels, data.image_shape)
  assert outline.label_names == data.label_names
  assert KIND.facts(outline) == KIND.facts(data)
  spec, of_outline = (d.eval_batches("valid", 1).element_spec for d in (data, outline))
  assert spec == of_outline
  for ours, theirs in zip(
    *(make_networks(config, d, METHODS.get("savae")) for d in (data, outline)), strict=True
  ):
    assert plain_config(ours) == plain_config(theirs)
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]


def test_auto_is_a_decoder_that_has_a_likelihood_for_the_pixels(folder):
  def decoder(**settings):
    config, _, data = begun(folder, name=str(settings), **settings)
    return make_networks(config, data, METHODS.get("savae"))[1]

  assert isinstance(decoder(), ConvDecoder)
  assert isinstance(decoder(image_channels="binary"), GatedPixelCNN)
  assert isinstance(decoder(decoder="mlp"), MLPDecoder)
  conditional = decoder(condition="label")
  assert isinstance(conditional, ConditionalDecoder) and conditional.num_labels == 3
  assert conditional.latent_dim == 3 and conditional.decoder.latent_dim == 6
  colour = decoder(decoder="pixelcnn")
  assert isinstance(colour, GatedPixelCNN) and isinstance(colour.likelihood, LogisticMixture)
  with pytest.raises(UserError, match="--likelihood=bernoulli is of binary images"):
    decoder(decoder="pixelcnn", likelihood="bernoulli")
  with pytest.raises(
    UserError, match="--decoder=late_pixelcnn is of binary images, and images has grey values or colour"
  ):
    decoder(decoder="late_pixelcnn")


def test_other_labels_are_other_data(folder):
  config, directory, _ = begun(folder, condition="label")
  (folder / "label0").rename(folder / "another")
  with pytest.raises(UserError, match="the data set changed since this run began: label_names was"):
    run_data.load(config, directory)


@pytest.mark.parametrize("settings", [{}, {"condition": "label"}], ids=["colour", "labels"])
def test_pictures_are_in_colour(folder, settings, tmp_path):
  config, _, data = begun(folder, model="vae", k=0, **settings)
  model = build_model(config, data)
  x = data.examples("valid", 3)
  KIND.save_pictures(model, data, tmp_path)
  shown = np.asarray(Image.open(tmp_path / "overview.png"))
  assert np.ptp(shown.astype(int), axis=-1).max() > 50
  columns, sprites = KIND.projector_columns(x, data), KIND.sprites(x)
  assert len(columns["mean value"]) == 3 and sprites.shape == (3, 12, 10, 3)
  sheet = projector.sprite_sheet(sprites)
  assert sheet.shape == (24, 20, 3)
  np.testing.assert_array_equal(sheet[:12, 10:], np.round(255 * sprites[1]))
  np.testing.assert_array_equal(sheet[12:, 10:], 255)


def payloads(folder, **settings):
  config, _, data = begun(folder, model="vae", k=0, **settings)
  return KIND.payloads(types.SimpleNamespace(config=config, model=build_model(config, data)), 0), data


def test_colours_are_served_as_they_were_trained_on(folder):
  form, data = payloads(folder)
  files = sorted(folder.rglob("*.png"))
  served = form.inputs["_png"].to_x(np.array([path.read_bytes() for path in files], dtype=object)).numpy()
  known = {image.tobytes() for split in ("train", "valid", "test") for image in data.examples(split, 99)}
  assert {image.tobytes() for image in served} == known
  assert form.x.examples(2).shape == (2, 12, 10, 3)
  made = form.inputs["_png"].to_x(form.inputs["_png"].examples(2)).numpy()
  assert made.shape == (2, 12, 10, 3) and len(np.unique(made)) > 2
  assert form.from_latent.output == "expected"
  assert form.from_latent.of_z(np.zeros([2, 3], np.float32)).shape == (2, 12, 10, 3)


def test_grey_values_are_served_as_they_were_trained_on(folder):
  form, data = payloads(folder, image_channels="grey", likelihood="gaussian")
  files = sorted(folder.rglob("*.png"))
  served = form.inputs["_png"].to_x(np.array([path.read_bytes() for path in files], dtype=object)).numpy()
  known = np.concatenate([data.examples(split, 99) for split in ("train", "valid", "test")])
  order = [np.abs(known - image).max(axis=(1, 2, 3)).min() for image in served]
  assert max(order) < 1e-6


def test_a_file_that_is_no_png_fails_its_request():
  with pytest.raises(Exception, match="image_bytes must be PNG files"):
    images.levels_from_png(np.array([b"no picture"], dtype=object), (8, 8, 3))


def test_labels_are_served_beside_the_image_with_their_names(folder):
  form = payloads(folder, condition="label")[0]
  assert [list(given.specs) for given in form.inputs.values()] == [
    ["image", "label"],
    ["image_bytes", "label"],
  ]
  assert form.condition.text.endswith("from 0 to 2, int32: 0 label0, 1 label1, 2 label2")
  x = form.x.to_x(form.x.examples(4))
  assert x["image"].shape == (4, 12, 10, 3) and x["label"].numpy().tolist() == [0, 1, 2, 0]
  assert form.drawn.spec.shape == (12, 10, 3)
  with pytest.raises(Exception, match="label must be from 0 to 2; received some from"):
    form.condition.to_x(np.array([0, 3]))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"condition": "label"}], ids=["colour", "labels"])
def test_a_run_that_is_resumed_ends_where_it_would_have(folder, settings):
  common = {
    "dataset": "images",
    "data_dir": str(folder),
    "preset": "tiny",
    "k": 2,
    "batch_size": 8,
    "epochs": 3,
  }
  small = {"encoder_channels": (3,), "decoder_channels": 3, "mixture_components": 2, "checkpoint_every": 2}

  def run(name, callbacks=()):
    config = make_config(**common, **small, **settings, max_steps=5, run_dir=str(folder.parent / name))
    return training.run(config, callbacks=callbacks)

  class Dies(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
      if int(self.model.step.value) == 4:
        raise KeyboardInterrupt

  with pytest.MonkeyPatch.context() as patch:
    CompiledOnce(patch)
    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
      run("parts", [Dies()])
    resumed = run("parts")
  assert resumed["test"] == whole["test"] and resumed["valid"] == whole["valid"]
  test = whole["test"]
  assert test["bits_bound"] == pytest.approx(test["nll_bound"] / (360 * np.log(2)))
  assert "256 levels" in whole["dataset_source"]
  assert ("given the label, one of 3" in whole["dataset_source"]) == bool(settings)
