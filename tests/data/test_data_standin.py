"""The stand-in is what its committed generator draws, and looks like Omniglot to the program."""

from pathlib import Path

import numpy as np
import pytest

from tf_savae.data import chardata, omniglot

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generator(loaded):
  return loaded(ROOT / "testdata" / "make_omniglot_standin.py")


@pytest.fixture(scope="module")
def committed():
  return chardata.read(omniglot.STAND_IN)


@pytest.mark.parametrize("character", [0, 41, 99])
def test_the_generator_draws_the_committed_characters(generator, committed, character):
  drawings = generator.character_drawings(character)
  split = generator.TRAIN_DRAWINGS
  expected = [
    stored[character * n : (character + 1) * n]
    for stored, n in zip(committed, (split, generator.TEST_DRAWINGS), strict=True)
  ]
  for drawn, stored in zip((drawings[:split], drawings[split:]), expected, strict=True):
    # A sine that another machine rounds the other way may move one of 16 sub-pixels across the pen's edge.
    np.testing.assert_allclose(drawn, stored, atol=1 / 16)
    assert np.mean(drawn != stored) < 1e-3


def test_columns_are_what_the_reader_undoes(generator, folder):
  images = np.random.default_rng(0).uniform(size=(3, 28, 28)).astype(np.float32)
  columns = generator.as_columns(images)
  np.testing.assert_array_equal(chardata.read(folder.mat(data=columns, testdata=columns))[0], images)


def test_it_is_small_grey_and_as_inky_as_the_real_one(committed):
  train, test = committed
  assert (len(train), len(test)) == (2000, 400)
  assert omniglot.STAND_IN.stat().st_size < 400_000
  for images in committed:
    assert 0.05 < images.mean() < 0.1  # the real drawings: 0.08
    assert 0.1 < np.mean(images > 0) < 0.2  # 0.14
    assert len(np.unique(images)) == 17
    assert (images.max(axis=(1, 2)) > 0.5).all()  # no blank sheet


def test_drawings_of_a_character_resemble_each_other_and_none_is_repeated(committed):
  train = committed[0].reshape(100, 20, -1)
  centred = train - train.mean(axis=(0, 1))
  unit = centred / np.linalg.norm(centred, axis=-1, keepdims=True)
  alike = np.einsum("cip,cjp->cij", unit, unit)
  np.testing.assert_array_less(alike[:, ~np.eye(20, dtype=bool)], 0.9999)
  same = alike[:, ~np.eye(20, dtype=bool)].mean()
  other = np.einsum("cp,dp->cd", unit[:, 0], unit[:, 1])[~np.eye(100, dtype=bool)].mean()
  assert same > other + 0.2
