"""`--dataset=images`: the user's pictures become a data set, and whatever is wrong with them is said in one line."""

from __future__ import annotations

import logging
import os
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_savae import data, training
from tf_savae.data import image_arrays
from tf_savae.data.images import split_rows
from tf_savae.errors import UserError
from tf_savae.runs.presets import make_config


def load(path, **options):
  return data.load("images", data_dir=path, seed=0, **options)


def sizes(dataset):
  return [dataset.num_examples(split) for split in data.SPLITS]


def refusal(path, **options):
  """The one line that the images are refused with."""
  with pytest.raises(UserError) as caught:
    load(path, **options)
  assert "\n" not in str(caught.value)
  return str(caught.value)


def grey(number, height=28, width=28):
  """A made-up grey picture, uint8; 0 is black."""
  return np.random.default_rng(number).integers(0, 256, (height, width)).astype(np.uint8)


def save(path, pixels, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def pictures(tmp_path):
  """A folder of twenty pictures in folders of their own."""
  for i in range(20):
    save(tmp_path / "pictures" / f"of{i % 3}" / f"{i:02d}.png", grey(i))
  return tmp_path / "pictures"


def test_a_folder_of_png_files_is_read_and_split_by_a_fixed_seed(pictures):
  dataset = load(pictures)
  assert sizes(dataset) == [16, 2, 2]
  assert (dataset.name, dataset.kind, dataset.image_shape) == ("images", "image", (28, 28, 1))
  in_order = sorted(pictures.rglob("*.png"))
  ink = np.stack([1 - np.asarray(Image.open(path)) / 255 for path in in_order])
  parts = split_rows(20, 16, 2, 2)
  for split, rows in zip(data.SPLITS, parts, strict=True):
    np.testing.assert_allclose(dataset.grey(split, 99)[..., 0], ink[rows], atol=1e-6)
  assert dataset.source == (
    "images in pictures: 16 train, 2 valid, 2 test; valid and test divided off by a fixed seed; grey values are"
    " probabilities of ink, binarised dynamically"
  )


def test_a_zip_is_its_folder(pictures, tmp_path):
  zipped = shutil.make_archive(str(tmp_path / "packed"), "zip", pictures)
  for split in data.SPLITS:
    np.testing.assert_array_equal(load(zipped).grey(split, 99), load(pictures).grey(split, 99))


@pytest.mark.parametrize(
  "names", [("train", "valid", "test"), ("Training", "dev", "TEST"), ("train", "val", "test")]
)
@pytest.mark.parametrize("parent", ["", "mine"])
def test_folders_are_the_splits(tmp_path, names, parent):
  for i, (name, n) in enumerate(zip(names, (3, 2, 1), strict=True)):
    for j in range(n):
      save(tmp_path / parent / name / "deep" / f"{j}.png", grey(10 * i + j))
  dataset = load(tmp_path)
  assert sizes(dataset) == [3, 2, 1]
  assert "split as given" in dataset.source
  np.testing.assert_allclose(dataset.grey("test", 1)[0, ..., 0], 1 - grey(20) / 255, atol=1e-6)


def test_a_missing_split_is_divided_off_the_training_images(tmp_path):
  for name, n in (("train", 20), ("test", 3)):
    for j in range(n):
      save(tmp_path / name / f"{j}.png", grey(j))
  dataset = load(tmp_path)
  assert sizes(dataset) == [18, 2, 3]
  assert "valid divided off by a fixed seed" in dataset.source


def test_binary_pictures_stay_as_they_are(tmp_path):
  ink = np.random.default_rng(0).random((10, 28, 28)) < 0.3
  for i, each in enumerate(ink):
    save(tmp_path / f"{i}.png", ~each)
  dataset = load(tmp_path)
  assert dataset.source.endswith("; binary")
  np.testing.assert_array_equal(dataset.examples("train", 9)[..., 0], ink[split_rows(10, 8, 1, 1)[0]])


def test_jpeg_files_16_bits_and_transparency(tmp_path):
  save(tmp_path / "a.jpg", np.full((28, 28), 51, np.uint8))
  save(
    tmp_path / "b.JPEG", np.full((28, 28, 3), 51, np.uint8), format="JPEG"
  )  # grey, though stored in colour
  save(tmp_path / "c.png", np.full((28, 28), 51 * 257, np.uint16))
  save(tmp_path / "d.png", np.full((28, 28, 4), (51, 51, 51, 255), np.uint8))
  save(tmp_path / "e.png", np.zeros((28, 28, 4), np.uint8))  # nothing on transparent ground
  dataset = load(tmp_path)
  found = np.concatenate([dataset.grey(split, 9)[:, 0, 0, 0] for split in data.SPLITS])
  np.testing.assert_allclose(sorted(found), [0, 0.8, 0.8, 0.8, 0.8], atol=1e-6)


def test_a_mixture_of_sizes_is_resized_with_one_line(tmp_path, caplog):
  save(tmp_path / "0.png", np.zeros((32, 48), np.uint8))
  for i in range(1, 5):
    save(tmp_path / f"{i}.png", grey(i, 64, 96))
  with caplog.at_level(logging.WARNING):
    dataset = load(tmp_path)
  assert dataset.image_shape == (32, 48, 1)
  assert "resized from 2 different sizes to 32×48" in dataset.source
  assert len(caplog.records) == 1 and "2 different sizes" in caplog.records[0].getMessage()
  by_area = [(1 - grey(i, 64, 96) / 255).reshape(32, 2, 48, 2).mean((1, 3)) for i in range(1, 5)]
  order = split_rows(5, 3, 1, 1)
  expected = np.stack([np.ones((32, 48)), *by_area])
  np.testing.assert_allclose(dataset.grey("train", 3)[..., 0], expected[order[0]], atol=1e-5)


def test_image_size_resizes_all(pictures):
  dataset = load(pictures, image_size=14)
  assert dataset.image_shape == (14, 14, 1)
  assert "resized from 28×28 to 14×14" in dataset.source


def test_a_large_first_image_asks_for_a_size(tmp_path):
  save(tmp_path / "0.png", grey(0, 200, 300))
  assert "200×300 pixels" in refusal(tmp_path) and "--image_size" in refusal(tmp_path)


def test_colour_is_seen_or_made_grey(pictures):
  pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3)).astype(np.uint8)
  save(pictures / "colour.png", pixels)
  dataset = load(pictures)
  assert "in colour, 256 levels" in dataset.source
  assert (dataset.pixels, dataset.image_shape, sum(sizes(dataset))) == ("levels", (28, 28, 3), 21)
  everything = np.concatenate([dataset.examples(split, 99) for split in data.SPLITS])
  assert np.any(
    np.all(np.round(255 * everything) == pixels, axis=(1, 2, 3))
  )  # as it is, light where it is light
  grey_ones = [image for image in everything if not np.any(np.ptp(image, axis=-1))]
  assert len(grey_ones) == 20
  made_grey = load(pictures, image_channels="grey")
  assert "made grey" in made_grey.source and made_grey.pixels == "binary" and sum(sizes(made_grey)) == 21


def test_colour_has_no_bernoulli_likelihood(pictures):
  save(pictures / "colour.png", np.random.default_rng(0).integers(0, 256, (28, 28, 3)).astype(np.uint8))
  message = refusal(pictures, likelihood="bernoulli")
  assert "colour.png" in message and "--likelihood=logistic_mixture, or --image_channels=binary" in message
  assert load(pictures, likelihood="bernoulli", image_channels="binary").pixels == "binary"


def test_grey_values_are_seen_where_the_likelihood_is_of_levels(pictures):
  dataset = load(pictures, likelihood="logistic_mixture")
  assert dataset.source.endswith("; grey values, 256 levels")
  np.testing.assert_array_equal(dataset.examples("train", 99), dataset.grey("train", 99))
  assert load(pictures, likelihood="logistic_mixture", image_channels="binary").pixels == "binary"
  assert load(pictures, image_channels="colour").image_shape == (28, 28, 3)


def test_resized_colours_are_levels(tmp_path):
  rng = np.random.default_rng(0)
  for i in range(5):
    save(tmp_path / f"{i}.png", rng.integers(0, 256, (20, 24, 3)).astype(np.uint8))
  levels = 255 * load(tmp_path, image_size=10).examples("train", 9)
  np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)


class TestLabels:
  def test_are_the_names_of_folders(self, pictures):
    dataset = load(pictures)
    assert dataset.condition_on("label") is dataset and dataset.label_names == ("of0", "of1", "of2")
    label_of = {(255 - grey(i)).tobytes(): i % 3 for i in range(20)}
    for split in data.SPLITS:
      x = dataset.examples(split, 99)
      for image, label in zip(np.round(255 * dataset.grey(split, 99)), x["label"], strict=True):
        assert label_of[np.uint8(image).tobytes()] == label
    (batch,) = dataset.train_batches(16, 0, 1)
    assert batch["image"].shape == (16, 28, 28, 1) and batch["label"].dtype == "int32"

  def test_are_arrays_beside_the_images(self, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 9, 9)).astype(np.uint8)
    for names in (("train_images", "train_labels"), ("images", "labels"), ("x_train", "y_train")):
      np.savez(tmp_path / "x.npz", **{names[0]: images, names[1]: np.arange(12)[:, np.newaxis] % 11})
      assert load(tmp_path / "x.npz").condition_on().label_names == tuple(map(str, range(11)))

  def test_missing_ones_are_one_line(self, pictures, tmp_path):
    save(pictures / "top.png", grey(0))
    with pytest.raises(UserError, match="'images' has no labels; pictures have one in folders named"):
      load(pictures).condition_on("label")
    np.savez(tmp_path / "x.npz", x_train=np.zeros([4, 8, 8]), y_train=np.arange(3))
    assert "y_train must have one label for each of 4 images" in refusal(tmp_path / "x.npz")


def write_records(path, contents, **features):
  path.parent.mkdir(parents=True, exist_ok=True)
  with tf.io.TFRecordWriter(str(path)) as writer:
    for i, content in enumerate(contents):
      made = {"image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))}
      made["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[i % 4]))
      writer.write(tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString())


class TestRecords:
  @pytest.fixture
  def contents(self, pictures):
    return [path.read_bytes() for path in sorted(pictures.rglob("*.png"))]

  def test_a_file_is_its_pictures(self, contents, pictures, tmp_path):
    write_records(tmp_path / "x.tfrecord", contents)
    dataset = load(tmp_path / "x.tfrecord")
    assert set(dataset.labels["label"]["train"]) == set("0123")
    for split in data.SPLITS:
      np.testing.assert_array_equal(dataset.grey(split, 99), load(pictures).grey(split, 99))

  def test_files_are_splits_by_name(self, contents, tmp_path):
    names = (
      "train.tfrecord-00000-of-00002",
      "train.tfrecord-00001-of-00002",
      "my_valid.tfrecord",
      "test.tfrecords",
    )
    for i, name in enumerate(names):
      write_records(tmp_path / "records" / name, contents[4 * i : 4 * i + 4])
    dataset = load(tmp_path / "records")
    assert sizes(dataset) == [8, 4, 4] and "split as given" in dataset.source

  def test_damage_is_counted_and_named(self, contents, tmp_path):
    path = tmp_path / "x.tfrecord"
    write_records(path, [*contents[:8], b"no picture", *contents[8:]])
    path.write_bytes(path.read_bytes()[:-40])
    dataset = load(path)
    assert sum(sizes(dataset)) == 19
    assert "2 unreadable files left out: x.tfrecord from record 20 on (truncated record" in dataset.source
    assert "x.tfrecord record 8 (" in dataset.source and "\n" not in dataset.source

  def test_records_of_something_else_are_one_line(self, tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord")) as writer:
      writer.write(b"\xff\xff no message")
      writer.write(tf.train.Example().SerializeToString())
    message = refusal(tmp_path / "x.tfrecord")
    assert "no usable image in" in message and "no feature image or image/encoded" in message
    (tmp_path / "y.tfrecord").write_bytes(b"no record")
    assert "y.tfrecord from record 0 on (cut off)" in refusal(tmp_path / "y.tfrecord")

  @pytest.mark.parametrize("form", ["GZIP", "ZLIB"])
  def test_compressed_ones_say_so(self, form, tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord"), form) as writer:
      writer.write(b"anything" * 20)
    assert "x.tfrecord from record 0 on (compressed; unpack it first)" in refusal(tmp_path / "x.tfrecord")


class TestOnDisk:
  """Sets that do not fit into memory are the same sets."""

  @pytest.fixture(autouse=True)
  def small_memory(self, monkeypatch):
    monkeypatch.setattr(image_arrays, "IN_MEMORY_BYTES", 1000)

  def test_training_batches_are_those_in_memory(self, pictures, monkeypatch):
    on_disk = load(pictures)
    assert on_disk.source.endswith("; kept on disk")
    monkeypatch.undo()
    in_memory = load(pictures)
    assert "on disk" not in in_memory.source
    for ours, theirs in zip(on_disk.train_batches(5, 2, 4), in_memory.train_batches(5, 2, 4), strict=True):
      np.testing.assert_array_equal(ours, theirs)

  def test_evaluation_images_are_fixed_whatever_the_batch(self, pictures):
    dataset = load(pictures, image_size=14)
    assert dataset.examples("valid", 2).shape == (2, 14, 14, 1)
    assert set(np.unique(dataset.examples("test", 2))) == {0, 1}
    one, two = (np.concatenate(list(dataset.eval_batches("test", size))) for size in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.any(dataset.examples("valid", 2) != dataset.examples("test", 2))

  def test_a_full_disk_is_one_line(self, pictures, monkeypatch):
    def full(*args, **kwargs):
      raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "memmap", full)
    assert "No space left on device; set TMPDIR" in refusal(pictures)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_damaged_files_are_counted_and_named(pictures, damaged, damage, caplog):
  damaged(pictures / "of0" / "00.png", damage)
  with caplog.at_level(logging.WARNING):
    dataset = load(pictures)
  assert sum(sizes(dataset)) == 19
  assert "1 unreadable file left out: of0/00.png (" in dataset.source
  assert "of0/00.png" in caplog.text
  assert "\n" not in dataset.source


def test_many_damaged_files_are_counted_and_some_are_named(pictures, damaged):
  for path in sorted(pictures.rglob("*.png"))[:6]:
    damaged(path, "text")
  assert "6 unreadable files left out" in load(pictures).source and "and 3 more" in load(pictures).source


def test_pictures_that_are_no_png_or_jpeg_are_counted_and_named(tmp_path):
  for i in range(4):
    save(tmp_path / f"{i}.png", grey(i))
  for name, form in (("a.gif", "GIF"), ("b.bmp", "BMP"), ("c.png", "GIF")):
    save(tmp_path / name, grey(0), format=form)
  (tmp_path / os.fsdecode(b"d\xff\n.png")).write_bytes(b"")
  (tmp_path / ".DS_Store").write_bytes(b"x")
  source = load(tmp_path).source
  assert "4 unreadable files left out: a.gif (neither PNG nor JPEG), b.bmp (neither" in source
  (tmp_path / "a.gif").unlink()
  assert "c.png (neither PNG nor JPEG), d\\udcff\\n.png (empty file)" in load(tmp_path).source


def test_linked_folders_are_searched_once(pictures, tmp_path):
  folder = tmp_path / "mine"
  save(folder / "own.png", grey(99))
  for name, target in (("a", pictures), ("b", pictures), ("self", "."), ("up", ".."), ("nothing", "gone")):
    (folder / name).symlink_to(target)
  dataset = load(folder)
  assert sum(sizes(dataset)) == 21 and "left out" not in dataset.source


def test_an_encrypted_zip_says_so(pictures, tmp_path):
  path = pathlib.Path(shutil.make_archive(str(tmp_path / "x"), "zip", pictures))
  content = bytearray(path.read_bytes())
  at = -1
  while (at := content.find(b"PK\x01\x02", at + 1)) >= 0:
    content[at + 8] |= 1  # the flag in the directory of members
  path.write_bytes(content)
  assert "of0/00.png (encrypted; unpack the zip)" in refusal(path)


def test_only_damaged_files_are_refused(tmp_path):
  (tmp_path / "a.png").write_bytes(b"no image")
  assert "no usable image" in refusal(tmp_path) and "a.png" in refusal(tmp_path)


def test_files_outside_the_splits_are_named(tmp_path):
  for name in ("train/a", "train/b", "train/c", "other/d"):
    save(tmp_path / f"{name}.png", grey(0))
  assert "other/d.png (outside train/, valid/ and test/)" in load(tmp_path).source


def test_no_image_at_all_is_one_line(tmp_path):
  assert "no images in" in refusal(tmp_path)
  (tmp_path / "notes.txt").write_text("hello")
  assert "received 1 other files, such as notes.txt" in refusal(tmp_path)
  assert "does not exist" in refusal(tmp_path / "typo")
  assert "holds no images that can be read" in refusal(tmp_path / "notes.txt")


def test_too_few_images_are_one_line(tmp_path):
  save(tmp_path / "a.png", grey(0))
  assert "at least 3 images are needed to divide" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["x.zip", "x.npz", "x.npy"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x93NUMPY cut off"])
def test_a_damaged_archive_is_one_line(tmp_path, name, content):
  (tmp_path / name).write_bytes(content)
  assert f"{name} cannot be read as a" in refusal(tmp_path / name)


def test_macos_resource_forks_are_no_images(pictures):
  (pictures / "__MACOSX").mkdir()
  (pictures / "__MACOSX" / "00.png").write_bytes(b"fork")
  (pictures / "._00.png").write_bytes(b"fork")
  assert "unreadable" not in load(pictures).source


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_an_npy_file_is_split(tmp_path, dtype, channels):
  values = np.random.default_rng(0).integers(0, 256, (20, 12, 16)).astype(np.uint8)
  array = (
    np.broadcast_to(values[..., np.newaxis], (20, 12, 16, 3))
    if channels == (3,)
    else values.reshape(20, 12, 16, *channels)
  )
  np.save(tmp_path / "x.npy", array if dtype == np.uint8 else array.astype(np.float32) / 255)
  dataset = load(tmp_path / "x.npy")
  assert sizes(dataset) == [16, 2, 2]
  np.testing.assert_allclose(
    dataset.grey("train", 16)[..., 0], values[split_rows(20, 16, 2, 2)[0]] / 255, atol=1e-5
  )


def test_an_npz_file_has_splits_by_name(tmp_path):
  parts = [np.full((n, 28, 28), n * 10, np.uint8) for n in (5, 2, 1)]
  np.savez(tmp_path / "x.npz", x_train=parts[0], val=parts[1], test_images=parts[2], y_train=np.arange(5))
  dataset = load(tmp_path / "x.npz")
  assert sizes(dataset) == [5, 2, 1]
  assert dataset.grey("valid", 1).max() == pytest.approx(20 / 255)


@pytest.mark.parametrize(
  ("arrays", "words"),
  [
    ({"a": np.zeros([4, 8, 8]), "b": np.zeros([4, 8, 8])}, "has several arrays; .* Received: a, b"),
    ({}, "holds no array"),
    ({"x": np.zeros([9, 64])}, r"x must be numbers of shape .* Received: float64 \[9, 64\]"),
    ({"x": np.zeros([0, 8, 8])}, "n above 0"),
    ({"x": np.full([9, 8, 8], 2.5)}, "from 2.5 to 2.5"),
    ({"x": np.full([9, 8, 8], np.nan)}, "from nan to nan"),
    ({"x": np.full([9, 8, 8], 300)}, "from 300 to 300"),
    ({"x": np.full([9, 8, 8], "a")}, "must be numbers"),
    ({"x": np.array([None] * 3)}, "cannot be read as a NumPy file"),
  ],
  ids=lambda value: value if isinstance(value, str) else "",
)
def test_unusable_arrays_are_one_line(tmp_path, arrays, words):
  np.savez(tmp_path / "x.npz", **arrays)
  assert re.search(words, refusal(tmp_path / "x.npz"))


@pytest.mark.slow
def test_a_run_trains_on_a_folder_and_says_so(tmp_path):
  for i in range(30):
    save(tmp_path / "mine" / f"{i}.png", grey(i, 16, 12))
  results = training.run(
    make_config(
      dataset="images",
      data_dir=str(tmp_path / "mine"),
      run_dir=str(tmp_path / "run"),
      preset="tiny",
      max_steps=2,
      k=2,
    )
  )
  assert results["dataset"] == "images" and "images in mine: 24 train" in results["dataset_source"]
