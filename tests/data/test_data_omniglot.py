"""`--dataset=omniglot` takes the best source there is, says which, and never passes over a broken one."""

import io
import logging
import pathlib

import numpy as np
import pytest
from PIL import Image

from tf_savae import data
from tf_savae.data import omniglot, omniglot_release
from tf_savae.errors import UserError

NOWHERE = "http://127.0.0.1:9/chardata.mat"  # nothing listens there: refused at once


def load(folder, seed=0, **options):
  return data.load("omniglot", data_dir=folder.data_dir, seed=seed, url=NOWHERE, **options)


def everything(dataset):
  return [dataset.grey(split, 10**6) for split in data.SPLITS]


def rows_of(images):
  return {image.tobytes() for image in images}


def test_chardata_comes_before_zips(folder, columns):
  folder.zip("images_background.zip", folder.drawings("Greek", range(10)))
  folder.mat(data=columns(30), testdata=columns(7, seed=1))
  dataset = load(folder)
  assert "chardata.mat" in dataset.source and "release" not in dataset.source
  assert not dataset.is_stand_in


def test_zips_come_before_a_download_and_the_stand_in(folder):
  folder.zip("images_background_small1.zip", folder.drawings("Greek", range(10)))
  folder.zip("images_evaluation.zip", folder.drawings("Greek", range(8, 20)))
  dataset = load(folder, omniglot_split="random")
  assert dataset.source == (
    "Omniglot, original release (images_background_small1.zip, images_evaluation.zip) reduced from "
    "105×105 to 28×28 and split 80/10/10, 2 duplicates left out; not the chardata.mat of published results: "
    "16 train, 2 valid, 2 test images"
  )
  assert not dataset.is_stand_in
  assert (dataset.name, dataset.kind) == ("omniglot", "image")


def test_the_random_split_is_without_loss_or_overlap(folder):
  folder.zip("images_background.zip", folder.drawings("Greek", range(30)))
  train, valid, test = map(rows_of, everything(load(folder, omniglot_split="random")))
  assert (len(train), len(valid), len(test)) == (24, 3, 3)
  assert len(train | valid | test) == 30


def test_validation_is_the_last_part_of_the_shuffled_train_set_and_test_is_as_it_comes(folder, columns):
  drawn, held_out = columns(50), columns(9, seed=1)
  folder.mat(data=drawn, testdata=held_out)
  train, valid, test = everything(load(folder))
  upright = lambda c: c.T.reshape(-1, 28, 28).transpose(0, 2, 1)  # noqa: E731
  np.testing.assert_array_equal(test[..., 0], upright(held_out))
  assert (len(train), len(valid)) == (45, 5)
  assert rows_of(train) | rows_of(valid) == rows_of(upright(drawn)[..., np.newaxis])
  together = np.concatenate([train, valid])[..., 0]
  assert not np.array_equal(together, upright(drawn))  # shuffled


def test_validation_has_2000_examples_where_there_are_enough(folder):
  bits = np.zeros((784, 24345), np.uint8)
  folder.mat(data=bits, testdata=np.zeros((784, 8070), np.uint8))
  dataset = load(folder)
  assert [dataset.num_examples(s) for s in data.SPLITS] == [22345, 2000, 8070]
  assert dataset.source.startswith("Omniglot, chardata.mat of Burda et al. 2015: ")


def test_a_chardata_of_another_size_is_not_called_burdas(folder, columns):
  folder.mat(data=columns(30), testdata=columns(7))
  assert "of another size" in load(folder).source


def test_splits_do_not_depend_on_the_training_seed_but_training_batches_do(folder):
  folder.zip("images_background.zip", folder.drawings("Greek", range(30)))
  a, b = (load(folder, seed=seed, omniglot_split="random") for seed in (1, 2))
  for x, y in zip(everything(a), everything(b), strict=True):
    np.testing.assert_array_equal(x, y)
  np.testing.assert_array_equal(a.examples("test", 3), b.examples("test", 3))
  first = [next(iter(d.train_batches(24, 0, 1))).numpy() for d in (a, b)]
  assert not np.array_equal(*first)


def by_drawers(folder, characters, drawers=range(1, 21)):
  """A drawing of each drawer for each character; which, its image tells."""
  return {
    f"Greek/character{c:02d}/{c:04d}_{d:02d}.png": folder.png(folder.ink((7 * c + d) % 40))
    for c in characters
    for d in drawers
  }


def small(folder, members):
  """The 28×28 images of drawings."""
  ink = np.stack([np.asarray(Image.open(io.BytesIO(png)).convert("L")) for png in members.values()])
  return rows_of(omniglot_release.area_average(ink)[..., np.newaxis])


def test_the_release_is_split_by_drawer_and_says_so(folder):
  folder.zip("images_background.zip", by_drawers(folder, [1, 2]))
  dataset = load(folder)
  assert [dataset.num_examples(split) for split in data.SPLITS] == [27, 3, 10]
  assert (
    "split by drawer (30 drawings by drawers 1 to 15 of each character to train and validate, 10"
    in dataset.source
  )
  assert dataset.facts == {"omniglot_split": "drawer"}
  train, valid, test = map(rows_of, everything(dataset))
  assert train | valid == small(folder, by_drawers(folder, [1, 2], range(1, 16)))
  assert test == small(folder, by_drawers(folder, [1, 2], range(16, 21)))


RELEASE = pathlib.Path(__file__).parents[3] / "shared" / "data"
needs_release = pytest.mark.skipif(not RELEASE.is_dir(), reason="the release is not at hand")


@needs_release
@pytest.mark.slow
def test_the_whole_release_has_the_published_number_of_training_images():
  dataset = data.load("omniglot", data_dir=RELEASE, seed=0, download=False)
  assert [dataset.num_examples(split) for split in data.SPLITS] == [24_345 - 1_300, 1_300, 8_115]
  assert "24345 drawings" in dataset.source and "8115 by the others" in dataset.source


def test_drawings_without_a_drawer_in_their_names_can_be_split_at_random(folder):
  members = {f"Greek/character01/{i}.png": folder.png(folder.ink(i)) for i in range(10)}
  folder.zip("images_background.zip", members)
  with pytest.raises(UserError, match="10 have no drawer in their names; --omniglot_split=random") as caught:
    load(folder)
  assert "\n" not in str(caught.value)
  assert load(folder, omniglot_split="random").num_examples("train") == 8


def test_a_split_by_drawer_needs_drawers_on_both_sides(folder):
  folder.zip("images_background.zip", by_drawers(folder, [1], range(1, 10)))
  with pytest.raises(UserError, match="9 are of drawers 1 to 15, 0 of later ones"):
    load(folder)


@pytest.mark.parametrize(
  "place",
  [
    "omniglot/images_background",
    "omniglot/images_background/images_background",
    "omniglot/python/images_background",
    "omniglot-py/images_background",
    "Omniglot/Images_Background",
    "images_background",
  ],
)
def test_the_release_may_be_unpacked_and_a_folder_too_deep(tmp_path, folder, place):
  packed, elsewhere = by_drawers(folder, [1, 2]), tmp_path / "elsewhere"
  folder.zip("images_background.zip", packed)
  for name, content in packed.items():
    file = elsewhere / place / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
  unpacked = data.load("omniglot", data_dir=elsewhere, seed=0, download=False)
  for x, y in zip(everything(load(folder)), everything(unpacked), strict=True):
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("place", ["omniglot-py", "OMNIGLOT", "omniglot/omniglot-py", "."])
def test_zips_are_found_in_every_place_and_case(tmp_path, folder, place):
  zipped = folder.zip("images_background.zip", by_drawers(folder, [1]))
  target = tmp_path / "elsewhere" / place / "Images_Background.ZIP"
  target.parent.mkdir(parents=True)
  zipped.rename(target)
  assert not data.load("omniglot", data_dir=tmp_path / "elsewhere", seed=0, download=False).is_stand_in


def test_a_folder_beside_its_own_zip_is_not_read_twice(folder):
  folder.zip("images_background.zip", by_drawers(folder, [1]))
  (folder.omniglot / "images_background").mkdir()
  assert "0 duplicates" in load(folder).source


def test_an_unpacked_folder_without_drawings_is_refused(folder):
  (folder.omniglot / "images_background").mkdir()
  with pytest.raises(UserError, match="images_background holds no PNG drawings"):
    load(folder)


def test_without_any_source_the_stand_in_is_used_and_called_so_in_one_line(folder, caplog):
  with caplog.at_level(logging.WARNING):
    dataset = load(folder, download=False)
  assert dataset.is_stand_in
  assert "stand-in" in dataset.source
  (record,) = caplog.records
  message = record.getMessage()
  assert "STAND-IN" in message and "download is switched off" in message
  assert str(folder.omniglot) in message
  assert "\n" not in message


def test_a_failed_download_is_said_and_leaves_nothing(folder, caplog):
  with caplog.at_level(logging.WARNING):
    dataset = load(folder)
  assert dataset.is_stand_in
  assert "download failed: no connection to 127.0.0.1:9" in caplog.text
  assert list(folder.omniglot.iterdir()) == []


def test_a_data_directory_that_does_not_exist_is_said_and_not_made(tmp_path, caplog):
  missing = tmp_path / "typo"
  with caplog.at_level(logging.WARNING):
    dataset = data.load("omniglot", data_dir=missing, seed=0, url=NOWHERE)
  assert dataset.is_stand_in
  assert f"{missing}/omniglot (which does not exist)" in caplog.text
  assert not missing.exists()


@pytest.mark.parametrize("download", [False, True])
def test_strict_data_makes_the_stand_in_an_error(folder, download):
  with pytest.raises(UserError, match=r"no Omniglot in .*; only the stand-in is left") as caught:
    load(folder, strict=True, download=download)
  assert "\n" not in str(caught.value)


def test_a_broken_chardata_is_an_error_even_with_good_zips_beside_it(folder):
  folder.zip("images_background.zip", folder.drawings("Greek", range(10)))
  (folder.omniglot / "chardata.mat").write_bytes(b"not a mat file")
  with pytest.raises(UserError, match=r"chardata\.mat"):
    load(folder)


def test_a_dangling_link_is_a_broken_source_not_a_missing_one(folder):
  (folder.omniglot / "chardata.mat").symlink_to(folder.omniglot / "gone.mat")
  with pytest.raises(UserError, match=r"chardata\.mat cannot be read"):
    load(folder)


def test_one_broken_zip_is_an_error_even_with_a_good_one_beside_it(folder):
  folder.zip("images_background_small1.zip", folder.drawings("Greek", range(10)))
  (folder.omniglot / "images_background_small2.zip").write_bytes(b"PK\x03\x04 cut off")
  with pytest.raises(UserError, match=r"small2\.zip cannot be read"):
    load(folder)


def test_a_data_directory_that_is_a_file_is_an_error(tmp_path):
  path = tmp_path / "data"
  path.write_text("")
  with pytest.raises(UserError, match=r"data directory .*/data cannot be read"):
    data.load("omniglot", data_dir=path, seed=0, download=False)


@pytest.mark.parametrize("drawings", [1, 2])
def test_too_few_drawings_for_three_splits_are_an_error(folder, drawings):
  folder.zip("images_background.zip", folder.drawings("Greek", range(drawings)))
  with pytest.raises(UserError, match=f"at least 3 drawings.*Received: {drawings}"):
    load(folder, omniglot_split="random")


def test_a_single_training_image_is_an_error(folder, columns):
  folder.mat(data=columns(1), testdata=columns(1))
  with pytest.raises(UserError, match=r"at least 2 training images are needed. Received: 1"):
    load(folder)


def test_an_unknown_data_set_is_an_error_that_names_the_known(tmp_path):
  with pytest.raises(UserError, match=r"omniglot, .*synthetic.*Received: 'svhn'"):
    data.load("svhn", data_dir=tmp_path, seed=0)
  assert {"omniglot", "synthetic"} <= set(data.DATASETS)


def test_the_split_and_the_evaluation_bits_are_pinned():
  # Results are compared across runs, machines and releases: these must never change.
  assert omniglot.split_rows(10, 10)[0].tolist() == [7, 2, 4, 0, 3, 1, 5, 9, 6, 8]
  stand_in = data.load("omniglot", data_dir="nowhere", seed=0, download=False)
  assert [int(stand_in.examples(split, 100).sum()) for split in data.SPLITS] == [4907, 5128, 5042]


def test_alphabets_go_with_their_drawings(folder, columns):
  images = columns(20), columns(2, seed=1)
  alphabets = [np.arange(20) % 5, np.array([3, 1])]
  one_hot = [np.eye(50)[:, numbers] for numbers in alphabets]
  folder.mat(data=images[0], testdata=images[1], target=one_hot[0], testtarget=one_hot[1])
  data = load(folder)
  found = data.labels["alphabet"]
  known = {columns(20)[:, i].tobytes(): i % 5 + 1 for i in range(20)}
  for split in ("train", "valid"):
    drawn = data.grey(split, 99)[..., 0].transpose(0, 2, 1).reshape(-1, 784)
    assert [known[image.tobytes()] for image in drawn] == list(found[split])
  assert list(found["test"]) == [4, 2]


def test_the_release_names_its_alphabets(folder):
  greek = by_drawers(folder, [1])
  latin = {name.replace("Greek", "Latin"): png for name, png in greek.items()}
  folder.zip("images_background.zip", greek | latin)
  found = load(folder).labels["alphabet"]
  assert sorted(found["test"]) == ["Greek"] * 5 + ["Latin"] * 5
  assert {name: len(part) for name, part in found.items()} == {
    split: load(folder).num_examples(split) for split in ("train", "valid", "test")
  }
