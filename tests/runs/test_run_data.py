"""The data of a run stay what they were when it began."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from tf_savae.errors import UserError
from tf_savae.runs import run_data
from tf_savae.runs.directory import RunDirectory
from tf_savae.runs.presets import make_config


@pytest.fixture
def config(tmp_path):
  """A run's settings, whose data are two characters of a made-up release of Omniglot."""
  rng = np.random.default_rng(0)
  (tmp_path / "data" / "omniglot").mkdir(parents=True)
  with zipfile.ZipFile(tmp_path / "data" / "omniglot" / "images_background.zip", "w") as archive:
    for character in (1, 2):
      for drawer in range(1, 21):
        png = io.BytesIO()
        Image.fromarray(rng.random((105, 105)) < 0.9).save(png, "PNG")
        archive.writestr(f"Greek/character{character:02d}/{character:04d}_{drawer:02d}.png", png.getvalue())
  return make_config(preset="tiny", data_dir=str(tmp_path / "data"), run_dir=str(tmp_path / "run"))


@pytest.fixture
def run(config):
  directory = RunDirectory(config.run_dir)
  directory.create()
  directory.write_config(config)
  return directory


def sizes(data):
  return [data.num_examples(split) for split in ("train", "valid", "test")]


def test_a_new_run_splits_the_release_by_drawer_and_keeps_that(config, run):
  assert sizes(run_data.load(config, run)) == [27, 3, 10]
  assert run.data_facts()["omniglot_split"] == "drawer"
  assert sizes(run_data.load(config, run)) == [27, 3, 10]


def test_a_run_that_began_before_there_was_a_choice_keeps_the_random_split(config, run):
  run.check_data({"is_stand_in": False, "train": 32, "valid": 4, "test": 4, "image_shape": [28, 28, 1]})
  assert sizes(run_data.load(config, run)) == [32, 4, 4]


def test_a_run_keeps_the_split_that_it_was_given(config, run):
  asked = make_config(**{**config.to_dict(), "omniglot_split": "random"})
  assert sizes(run_data.load(asked, run)) == [32, 4, 4]
  assert sizes(run_data.load(config, run)) == [32, 4, 4]


def test_a_run_is_not_evaluated_on_another_split(config, run):
  run_data.load(config, run)
  asked = make_config(**{**config.to_dict(), "omniglot_split": "random"})
  with pytest.raises(UserError, match="omniglot_split was drawer, now random") as caught:
    run_data.load(asked, run)
  assert "\n" not in str(caught.value)
