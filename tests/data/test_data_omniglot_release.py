"""The release's drawings: exact area averaging, upright, ink = 1, each drawing once."""

import zipfile

import numpy as np
import pytest

from tf_savae.data import omniglot_release
from tf_savae.errors import UserError


def area_average_by_definition(ink):
  """105 · 4 = 28 · 15: cut every large pixel in 4 × 4 and every small one holds 15 × 15 of the pieces."""
  return ink.repeat(4, axis=0).repeat(4, axis=1).reshape(28, 15, 28, 15).mean(axis=(1, 3))


def test_reduction_is_the_exact_area_average():
  ink = np.random.default_rng(0).integers(0, 256, (3, 105, 105)).astype(np.uint8)
  expected = [area_average_by_definition(1 - drawing / 255) for drawing in ink]
  np.testing.assert_allclose(omniglot_release.area_average(ink), expected, atol=1e-6)


def test_blank_paper_is_0_and_all_ink_is_1():
  paper = np.stack([np.full((105, 105), 255, np.uint8), np.zeros((105, 105), np.uint8)])
  small = omniglot_release.area_average(paper)
  np.testing.assert_array_equal(small[0], 0)
  np.testing.assert_allclose(small[1], 1, atol=1e-6)
  assert small.max() <= 1  # a probability


def test_drawings_are_upright_with_ink_1(folder):
  ink = np.zeros((105, 105), bool)
  ink[:30, :8] = True  # a bar down the left side, from the top
  path = folder.zip("images_background.zip", {"A/character01/0001_01.png": folder.png(ink)})
  (image,) = omniglot_release.read([path]).images
  np.testing.assert_allclose(image, area_average_by_definition(ink), atol=1e-6)
  assert image[0, 0] == pytest.approx(1) and image[0, 27] == 0 and image[27, 0] == 0


def test_duplicates_across_zips_are_left_out_and_counted(folder):
  one = folder.zip("images_background_small1.zip", folder.drawings("Greek", range(4)))
  two = folder.zip(
    "images_background_small2.zip",
    folder.drawings("Greek", range(2, 4)) | folder.drawings("Hebrew", range(3)),
  )
  read = omniglot_release.read([one, two])
  assert read.duplicates == 2
  assert len(read.images) == 7


def test_neither_equal_pixels_nor_an_equal_name_alone_make_a_duplicate(folder):
  drawn = lambda n: folder.png(folder.ink(n))  # noqa: E731
  one = folder.zip("images_background_small1.zip", {"A/character01/0001_01.png": drawn(1)})
  two = folder.zip(
    "images_background_small2.zip",
    {"A/character01/0001_01.png": drawn(2), "A/character01/0001_02.png": drawn(1)},
  )
  read = omniglot_release.read([one, two])
  assert read.duplicates == 0
  assert len(read.images) == 3


def test_the_result_does_not_depend_on_the_order_of_zips_and_members(folder):
  drawings = folder.drawings("Greek", range(5)) | folder.drawings("Hebrew", range(5, 9))
  one = folder.zip("images_background_small1.zip", drawings)
  two = folder.zip("images_background_small2.zip", dict(reversed(drawings.items())))
  np.testing.assert_array_equal(omniglot_release.read([one]).images, omniglot_release.read([two]).images)
  both = omniglot_release.read([two, one])
  np.testing.assert_array_equal(both.images, omniglot_release.read([one]).images)
  assert both.duplicates == 9


def test_other_members_and_macos_resource_forks_are_ignored(folder):
  members = folder.drawings("Greek", range(2))
  path = folder.zip(
    "images_background.zip", members | {"README.txt": b"hello", "Greek/character01/._0001_01.png": b"fork"}
  )
  assert len(omniglot_release.read([path]).images) == 2


def test_only_the_names_of_the_release_are_parts_of_it(tmp_path):
  names = ["images_evaluation.zip", "images_background_small2.zip", "Images_Background"]
  others = ["strokes_background.zip", "images_background.zip.part", "images_evaluation2.zip", "x.png"]
  assert omniglot_release.find(tmp_path, names + others) == sorted(tmp_path / name for name in names)


def test_a_png_of_another_size_is_named_with_its_size(folder):
  path = folder.zip(
    "images_background.zip", {"A/character01/0001_01.png": folder.png(folder.ink(1, side=64))}
  )
  with pytest.raises(UserError, match=r"images_background\.zip: .*0001_01\.png .*105×105.*Received: 64×64"):
    omniglot_release.read([path])


@pytest.mark.parametrize("keep", [0, 20, 60, 90])
def test_a_damaged_png_is_named(folder, keep):
  members = folder.drawings("Greek", range(2))
  members["Greek/character01/0001_01.png"] = members["Greek/character01/0001_01.png"][:keep]
  path = folder.zip("images_background.zip", members)
  with pytest.raises(UserError, match=r"Greek/character01/0001_01\.png is damaged") as caught:
    omniglot_release.read([path])
  assert "\n" not in str(caught.value)


def test_a_member_with_flipped_bytes_is_named(folder):
  path = folder.zip("images_background.zip", folder.drawings("Greek", range(1)))
  with zipfile.ZipFile(path) as archive:
    (info,) = [i for i in archive.infolist() if not i.is_dir()]
  content = bytearray(path.read_bytes())
  middle = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
  content[middle] ^= 0xFF
  path.write_bytes(content)
  with pytest.raises(UserError, match=r"0000_01\.png is damaged"):
    omniglot_release.read([path])


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "directory"])
def test_a_file_that_is_no_zip_is_named(folder, damaged, damage):
  path = folder.zip("images_background.zip", folder.drawings("Greek", range(3)))
  damaged(path, damage)
  with pytest.raises(UserError, match=r"images_background\.zip cannot be read as a zip") as caught:
    omniglot_release.read([path])
  assert "\n" not in str(caught.value)


def test_a_zip_without_drawings_is_refused(folder):
  path = folder.zip("images_evaluation.zip", {"README.txt": b"nothing here"})
  with pytest.raises(UserError, match=r"images_evaluation\.zip holds no PNG"):
    omniglot_release.read([path])
