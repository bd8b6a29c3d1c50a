"""`python -m tf_savae generate` on a run of images: completion, lines between two images, walks along latents."""

import functools
import re

import numpy as np
import pytest
from PIL import Image

from tests.export.exports import make_run
from tf_savae import data, masks
from tf_savae.commands import generate as command_line
from tf_savae.errors import UserError
from tf_savae.evaluation import figures
from tf_savae.evaluation.posteriors import Inference
from tf_savae.generation import pictures, run_report
from tf_savae.generation.run_report import write as run
from tf_savae.generation.settings import GenerateSettings
from tf_savae.runs.restore import load_model

DATA = {"data_dir": "testdata/none", "download": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Runs of initial weights on the stand-in for Omniglot."""
  place = tmp_path_factory.mktemp("generate_images")
  for model in ("savae", "autoreg"):
    settings = {
      "decoder_channels": 2,
      "decoder_kernels": (3,),
      "encoder_channels": (2,),
      "decoder": "late_pixelcnn",
    }
    make_run(place / model, model=model, **settings, **DATA)
  return place


@pytest.fixture(scope="module", autouse=True)
def traced_once():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(run_report, "load_model", functools.cache(load_model))
    yield


@pytest.fixture(scope="module")
def x():
  return data.load("omniglot", seed=0, **DATA).examples("test", 4)


def asked(folder, model="savae", **options):
  return GenerateSettings(run_dir=str(folder / model), **{"split": "test", "num": 4, **options})


def test_everything_asked_for_is_a_picture_of_its_own(folder):
  shown = []
  path = run(asked(folder, complete="lower", interpolate=True, points=3, traverse=True), shown.append)
  assert path.name == "3.png" and len(shown) == 3
  for text, words in zip(
    shown, ("the lower half drawn; bound", "data at both ends", "from −3 to 3"), strict=True
  ):
    file = text.rpartition(": ")[2]
    assert words in text and np.asarray(Image.open(file)).min() < 200
  assert re.search(r"nats: \d+\.\d\d at λ₀, \d+\.\d\d at λ₂", shown[0])


def test_a_model_without_latent_completes(folder):
  shown = []
  run(asked(folder, "autoreg", complete="left"), shown.append)
  assert re.search(r"the left half drawn; bound on −log p of what was seen, nats: \d+\.\d\d:", shown[0])


@pytest.mark.parametrize("half", masks.HALVES)
def test_only_the_named_half_is_drawn(folder, x, half):
  model = load_model(folder / "savae").model
  rows = pictures.completion(model, x, half, seed=0).images
  assert list(rows) == ["data", "seen", "λ₀", "λ₂, draw 1", "λ₂, draw 2", "λ₂, draw 3"]
  seen = np.broadcast_to(masks.of_half(half, 28, 28)[np.newaxis, ..., np.newaxis] == 0, x.shape)
  for images in rows.values():
    np.testing.assert_array_equal(images[seen], x[seen])
  assert np.all(rows["seen"][~seen] == 0.5)
  assert np.any(rows["λ₂, draw 1"] != rows["λ₂, draw 2"])


def test_a_line_goes_from_one_image_to_the_next(folder, x):
  model = load_model(folder / "savae").model
  rows = pictures.interpolation(model, x, 3).images
  assert list(rows) == ["1 to 2", "3 to 4"]
  np.testing.assert_array_equal(rows["3 to 4"][[0, -1]], x[[2, 3]])
  means = Inference(model)(x).centers
  middle = np.stack([means[:2].mean(axis=0), means[2:].mean(axis=0)])
  np.testing.assert_array_equal(rows["3 to 4"][2], figures.draw(model, middle)[1])
  assert set(np.unique(rows["1 to 2"])) == {0.0, 1.0}


def test_walks_are_along_the_latents_that_vary_most(folder, x):
  model = load_model(folder / "savae").model
  rows = pictures.traversal(model, x).images
  assert len(rows) == model.latent_dim and all(len(images) == 7 for images in rows.values())


@pytest.mark.parametrize(
  ("model", "options", "message"),
  [
    ("savae", {}, "needs --complete, --interpolate or --traverse"),
    ("savae", {"split": None, "sentence": ("a",)}, "reads no sentences"),
    ("autoreg", {"traverse": True}, r"without latent \(autoreg\); leave --traverse out"),
    ("autoreg", {"interpolate": True}, r"without latent \(autoreg\); leave --interpolate out"),
    ("savae", {"interpolate": True, "num": 1}, "--interpolate needs two examples; received --num=1"),
  ],
)
def test_what_cannot_be_drawn_is_one_line(folder, model, options, message):
  with pytest.raises(UserError, match=message) as caught:
    run(asked(folder, model, **options), str)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("arguments", "words"),
  [
    (["--complete=lower"], "--complete needs images; received none: give --split=test"),
    (["--split=test", "--complete=top"], "--complete must be"),
    (["--plus=a"], "--plus needs --minus"),
    (["--plus=a", "--minus=b"], "move a sentence; received none"),
  ],
)
def test_a_wrong_flag_is_one_line_and_status_2(capsys, arguments, words):
  assert command_line.main(["generate", "--run_dir=a", *arguments]) == 2
  error = capsys.readouterr().err
  assert words in error and error.count("\n") == 1
