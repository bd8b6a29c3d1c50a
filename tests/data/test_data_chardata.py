"""chardata.mat: columns are images stored column by column; anything else is refused by name."""

import numpy as np
import pytest
import scipy.sparse

from tf_savae.data import chardata
from tf_savae.errors import UserError


def test_images_come_out_upright(folder, columns):
  image = np.zeros((28, 28))
  image[:20, 3] = 0.5  # a bar down the left side, from the top
  column = image.flatten(order="F")[:, np.newaxis]  # as MATLAB stores it
  train, test = chardata.read(folder.mat(data=column, testdata=columns(2)))
  np.testing.assert_array_equal(train, image[np.newaxis])
  assert train.dtype == test.dtype == np.float32
  assert test.shape == (2, 28, 28)


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.float64, np.float32])
def test_any_number_type_will_do(folder, dtype):
  bits = np.random.default_rng(0).integers(0, 2, (784, 3)).astype(dtype)
  train, _ = chardata.read(folder.mat(data=bits, testdata=bits))
  np.testing.assert_array_equal(train.transpose(0, 2, 1).reshape(3, 784).T, bits)


def test_other_variables_in_the_file_are_ignored(folder, columns):
  train, test = chardata.read(folder.mat(data=columns(3), testdata=columns(2), target=np.eye(3)))
  assert (len(train), len(test)) == (3, 2)


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({"testdata": 1}, r"no variable 'data'"),
    ({"data": 1}, r"no variable 'testdata'"),
    ({"data": np.zeros((3, 784)), "testdata": 1}, r"'data' must have shape \[784, n\]. Received: \[3, 784\]"),
    ({"data": 1, "testdata": np.zeros((28, 28, 5))}, r"'testdata' must have shape.*\[28, 28, 5\]"),
    ({"data": np.zeros((784, 0)), "testdata": 1}, r"'data'.* (empty|shape)"),
    ({"data": np.full((784, 2), 255, np.uint8), "testdata": 1}, r"\[0, 1\]. Received: from 255 to 255"),
    ({"data": np.full((784, 2), -0.5), "testdata": 1}, r"from -0.5 to -0.5"),
    ({"data": np.full((784, 2), np.nan), "testdata": 1}, r"nan"),
    ({"data": np.full((784, 2), 1j), "testdata": 1}, r"real numbers. Received: complex"),
    ({"data": "drawings", "testdata": 1}, r"real numbers. Received: <U8"),
    ({"data": {"a": 1.0}, "testdata": 1}, r"real numbers"),
    ({"data": scipy.sparse.eye_array(784), "testdata": 1}, r"real numbers"),
  ],
)
def test_another_layout_is_refused_in_one_line(folder, columns, arrays, message):
  path = folder.mat(**{k: columns(2) if isinstance(v, int) else v for k, v in arrays.items()})
  with pytest.raises(UserError, match=message) as caught:
    chardata.read(path)
  assert str(path) in str(caught.value)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "directory", "absent"])
def test_a_file_that_is_no_mat_is_refused_in_one_line(folder, columns, damaged, damage):
  path = folder.mat(data=columns(5), testdata=columns(5))
  damaged(path, damage)
  with pytest.raises(UserError, match=r"chardata\.mat cannot be read as a MATLAB file") as caught:
    chardata.read(path)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", np.linspace(0.05, 0.999, 12))
def test_a_file_cut_anywhere_is_refused(folder, columns, keep):
  path = folder.mat(data=columns(3), testdata=columns(3))
  content = path.read_bytes()
  path.write_bytes(content[: int(keep * len(content))])
  with pytest.raises(UserError, match=r"chardata\.mat"):
    chardata.read(path)


def test_only_the_published_size_is_taken_for_the_published_file(folder, columns):
  path = folder.mat(data=columns(3), testdata=columns(2))
  with pytest.raises(UserError, match=r"24345 and 8070 images. Received: 3 and 2"):
    chardata.verify(path)


def test_alphabets_are_read_where_they_are_as_published(folder, columns):
  images = {"data": columns(3), "testdata": columns(2)}
  one_hot = {"target": np.eye(50)[:, [4, 0, 49]], "testtarget": np.eye(50)[:, [7, 7]]}
  train, test = chardata.read_alphabets(folder.mat(**images, **one_hot))
  assert (train.tolist(), test.tolist()) == ([5, 1, 50], [8, 8])
  assert chardata.read_alphabets(folder.mat(**images)) is None
  assert chardata.read_alphabets(folder.mat(**images, target=np.eye(3), testtarget=np.zeros([3, 2]))) is None
