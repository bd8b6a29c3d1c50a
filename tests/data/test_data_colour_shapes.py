"""The generator of pictures in colour writes a set that `--dataset=images` reads."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tf_savae import data

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generator(loaded):
  return loaded(ROOT / "testdata" / "make_colour_shapes.py")


def test_a_picture_is_a_function_of_its_number(generator):
  pixels, shape = generator.picture(5, side=16)
  assert (pixels.shape, pixels.dtype, shape) == ((16, 16, 3), np.uint8, "ring")
  np.testing.assert_array_equal(generator.picture(5, side=16)[0], pixels)
  assert np.any(generator.picture(9, side=16)[0] != pixels)
  assert np.ptp(pixels.astype(int), axis=-1).max() > 50  # it is in colour


def test_the_program_writes_a_data_set_with_splits_and_labels(generator, tmp_path):
  generator.main([str(tmp_path / "shapes"), "80", "12"])
  found = data.load("images", data_dir=tmp_path / "shapes", seed=0)
  assert [found.num_examples(split) for split in data.SPLITS] == [64, 8, 8]
  assert (found.pixels, found.image_shape) == ("levels", (12, 12, 3))
  for split in data.SPLITS:
    assert len(set(Counter(found.labels["label"][split]).values())) == 1  # all shapes alike
  assert found.condition_on("label").label_names == generator.SHAPES


def test_wrong_words_are_one_line(generator):
  with pytest.raises(SystemExit, match="FOLDER"):
    generator.main([])
