"""Sets of `keras.datasets`, from files of its layout in a cache of the test's own."""

from __future__ import annotations

import functools
import gzip
import http.server
import io
import os
import pickle
import subprocess
import sys
import tarfile
import threading

import keras
import numpy as np
import pytest

from tf_savae import data
from tf_savae.errors import UserError


def write_fashion_mnist(home, num_train=30, num_test=5):
  """Files of Fashion-MNIST's layout; returns the training images."""
  folder = home / "datasets" / "fashion-mnist"
  folder.mkdir(parents=True)
  rng = np.random.default_rng(0)
  images = {}
  for part, n in (("train", num_train), ("t10k", num_test)):
    images[part] = rng.integers(0, 256, (n, 28, 28)).astype(np.uint8)
    (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(
      gzip.compress(bytes(8) + images[part][:, 0, 0].tobytes())
    )
    (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + images[part].tobytes()))
  return images["train"]


PROGRAM = """
import numpy, sys
from tf_savae import data
from tf_savae.errors import UserError
try:
  found = data.load(sys.argv[1], data_dir="unused", seed=0, download=sys.argv[2] == "download")
except UserError as error:
  print(error)
else:
  assert (found.labels["class"]["train"] == numpy.round(255 * found.grey("train", 99)[:, 0, 0, 0])).all()
  assert {name: len(part) for name, part in found.labels["class"].items()} == {"train": 27, "valid": 3, "test": 5}
  print(found.source)
  numpy.save(sys.argv[3], found.grey("train", 99))
"""


def load(name, home, download="no"):
  """The last line of a process that loads the set: Keras looks for its cache once, when it is imported."""
  environment = {
    **os.environ,
    "KERAS_HOME": str(home),
    "https_proxy": "http://127.0.0.1:9",
    "TF_CPP_MIN_LOG_LEVEL": "3",
  }
  words = [sys.executable, "-c", PROGRAM, name, download, str(home / "train.npy")]
  done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=True)
  return done.stdout.splitlines()[-1]


def test_fashion_mnist_comes_from_the_cache(tmp_path):
  images = write_fashion_mnist(tmp_path)
  assert load("fashion_mnist", tmp_path) == (
    "fashion_mnist of keras.datasets, grey values binarised dynamically: 27 train, 3 valid, 5 test images"
  )
  train = np.load(tmp_path / "train.npy")[..., 0]
  known = {image.tobytes() for image in np.float32(images) / 255}
  assert len(train) == 27 and all(image.tobytes() in known for image in train)


def test_a_failing_download_is_one_line(tmp_path):
  line = load("mnist", tmp_path, "download")
  assert line.startswith("no mnist: ") and f"put datasets/mnist.npz into {tmp_path}" in line


def test_a_damaged_file_is_one_line(tmp_path):
  write_fashion_mnist(tmp_path)
  (tmp_path / "datasets" / "fashion-mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
  assert load("fashion_mnist", tmp_path).startswith("no fashion_mnist: ")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_without_download_a_missing_set_is_one_line(name, tmp_path, monkeypatch):
  monkeypatch.setenv("KERAS_HOME", str(tmp_path))
  with pytest.raises(UserError, match=f"no {name} in .* download is switched off") as caught:
    data.load(name, data_dir="unused", seed=0, download=False)
  assert "\n" not in str(caught.value)


def write_mnist(home, num=20):
  rng = np.random.default_rng(0)
  (home / "datasets").mkdir(parents=True)
  parts = {"x_train": (num, 28, 28), "x_test": (4, 28, 28), "y_train": (num,), "y_test": (4,)}
  arrays = {name: rng.integers(0, 10, shape).astype(np.uint8) for name, shape in parts.items()}
  np.savez(home / "datasets" / "mnist.npz", **arrays)
  return arrays


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
  """A made-up set of the form that `keras.datasets.cifar10` gives; Keras checks the sum of the real file."""
  rng = np.random.default_rng(0)

  def pair(num):
    return rng.integers(0, 256, (num, 32, 32, 3)).astype(np.uint8), rng.integers(0, 10, (num, 1)).astype(
      np.uint8
    )

  pairs = pair(30), pair(5)
  monkeypatch.setenv("KERAS_HOME", str(tmp_path))
  (tmp_path / "datasets").mkdir()
  (tmp_path / "datasets" / "cifar-10-batches-py-target_archive").write_bytes(b"")
  monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: pairs)
  return pairs


def test_cifar10_is_in_colour_with_the_labels_of_its_images(cifar10):
  found = data.load("cifar10", data_dir="unused", seed=0, download=False).condition_on()
  assert (found.pixels, found.image_shape, found.num_labels) == ("levels", (32, 32, 3), 10)
  made = "cifar10 of keras.datasets, 256 levels: 27 train, 3 valid, 5 test images"
  assert found.source == f"{made}; given the class, one of 10"
  (train, labels), _ = cifar10
  known = {image.tobytes(): label for image, label in zip(train, labels[:, 0], strict=True)}
  x = found.examples("train", 99)
  for image, label in zip(x["image"], x["label"], strict=True):
    assert known[np.uint8(np.round(255 * image)).tobytes()] == label


class _Quiet(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *args):
    pass


@pytest.fixture
def over_loopback(tmp_path, monkeypatch):
  """Keras downloads files of its sets' layout from a folder here; `(folder, close)`."""
  folder, home = tmp_path / "served", tmp_path / "home"
  folder.mkdir()
  home.mkdir()  # Keras takes another place if it cannot write here
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder))
  threading.Thread(target=server.serve_forever, daemon=True).start()

  def get_file(*args, origin, file_hash=None, **options):
    del file_hash  # of the real file
    where = f"http://127.0.0.1:{server.server_port}/{origin.rpartition('/')[2]}"
    return keras.utils.get_file(*args, origin=where, cache_dir=str(home), **options)

  for name in ("mnist", "cifar10"):
    monkeypatch.setattr(sys.modules[f"keras.src.datasets.{name}"], "get_file", get_file)
  monkeypatch.setenv("KERAS_HOME", str(home))
  monkeypatch.setenv("NO_PROXY", "127.0.0.1")

  def close():
    server.shutdown()
    server.server_close()

  yield folder, close
  close()


def test_mnist_is_downloaded_once(over_loopback):
  folder, close = over_loopback
  arrays = write_mnist(folder)
  (folder / "datasets" / "mnist.npz").rename(folder / "mnist.npz")
  found = data.load("mnist", data_dir="unused", seed=0)
  assert (
    found.source
    == "mnist of keras.datasets, grey values binarised dynamically: 18 train, 2 valid, 4 test images"
  )
  np.testing.assert_array_equal(found.grey("test", 9)[..., 0], np.float32(arrays["x_test"]) / 255)
  close()
  assert data.load("mnist", data_dir="unused", seed=0, download=False).source == found.source


def test_cifar10_is_downloaded_and_unpacked(over_loopback, monkeypatch):
  """Each file has one image, which Keras repeats 10,000 times; a few of them are enough."""
  folder, close = over_loopback
  pixels = np.random.default_rng(0).integers(0, 256, (6, 3 * 32 * 32)).astype(np.uint8)
  with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for i, name in enumerate(names):
      content = pickle.dumps({b"data": pixels[i : i + 1], b"labels": [i]})
      entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
      entry.size = len(content)
      archive.addfile(entry, io.BytesIO(content))
  download = keras.datasets.cifar10.load_data

  def thinned():
    (train, classes), test = download()
    assert train.shape == (50_000, 32, 32, 3)
    return (train[::2500], classes[::2500]), test

  monkeypatch.setattr(keras.datasets.cifar10, "load_data", thinned)
  found = data.load("cifar10", data_dir="unused", seed=0)
  assert found.source == "cifar10 of keras.datasets, 256 levels: 18 train, 2 valid, 1 test images"
  expected = pixels[5].reshape(3, 32, 32).transpose(1, 2, 0)
  np.testing.assert_array_equal(255 * found.examples("test", 1)[0], expected)
  known = {pixels[i].reshape(3, 32, 32).transpose(1, 2, 0).tobytes(): i for i in range(5)}
  for image, label in zip(found.examples("train", 99), found.labels["class"]["train"], strict=True):
    assert known[np.uint8(np.round(255 * image)).tobytes()] == label
  close()
  assert data.load("cifar10", data_dir="unused", seed=0, download=False).source == found.source


def test_cifar10_has_no_bernoulli_likelihood_and_is_missing_in_one_line(cifar10, tmp_path):
  with pytest.raises(UserError, match="cifar10 is in colour, and --likelihood=bernoulli"):
    data.load("cifar10", data_dir="unused", seed=0, download=False, likelihood="bernoulli")
  (tmp_path / "datasets" / "cifar-10-batches-py-target_archive").unlink()
  with pytest.raises(UserError, match=r"no cifar10 in .* download is switched off"):
    data.load("cifar10", data_dir="unused", seed=0, download=False)


def test_grey_values_stay_for_a_likelihood_of_levels(monkeypatch, tmp_path):
  arrays = write_mnist(tmp_path)
  monkeypatch.setenv("KERAS_HOME", str(tmp_path))
  pairs = (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
  monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: pairs)
  found = data.load("mnist", data_dir="unused", seed=0, download=False, likelihood="logistic_mixture")
  np.testing.assert_array_equal(found.examples("test", 9)[..., 0], np.float32(arrays["x_test"]) / 255)
