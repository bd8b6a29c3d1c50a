"""A file is replaced in one piece: no failure leaves half of it, or a second one beside it."""

import os
import resource
import signal

import pytest

from tf_savae import atomic_files
from tf_savae.atomic_files import atomic_write_text
from tf_savae.errors import UserError, reason


@pytest.fixture
def full_disk():
  """A disk that takes no file beyond 1 kB: the system itself refuses the write."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
  yield
  resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_keeps_the_old_file_and_leaves_no_other(tmp_path, full_disk):
  path = tmp_path / "results.json"
  atomic_write_text(path, "old")
  with pytest.raises(UserError) as caught:
    atomic_write_text(path, "new" * 10_000)
  assert str(path) in str(caught.value)
  assert "\n" not in str(caught.value)
  assert path.read_text() == "old"
  assert os.listdir(tmp_path) == ["results.json"]


@pytest.mark.parametrize("error", [OSError, RuntimeError, KeyboardInterrupt])
def test_whatever_is_raised_the_old_file_stays(tmp_path, error):
  path = tmp_path / "rows.npz"
  path.write_bytes(b"old")
  with pytest.raises(error), atomic_files.replacing(path) as new:
    new.write_bytes(b"half")
    assert path.read_bytes() == b"old"
    raise error
  assert path.read_bytes() == b"old"
  assert os.listdir(tmp_path) == ["rows.npz"]


def test_the_new_file_cannot_be_taken_for_the_old_one(tmp_path):
  with atomic_files.replacing(tmp_path / "events.out.tfevents.1") as new:
    new.write_bytes(b"x")
    assert not list(tmp_path.glob("*tfevents*"))
  assert [path.name for path in tmp_path.iterdir()] == ["events.out.tfevents.1"]


def test_a_written_file_has_the_permissions_of_any_other(tmp_path):
  atomic_write_text(tmp_path / "a", "é")
  (tmp_path / "b").write_text("é")
  assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode
  assert (tmp_path / "a").read_bytes() == "é".encode()


def test_an_error_is_told_in_one_short_line():
  assert reason(OSError(28, "No space left on device")) == "No space left on device"
  assert reason(ValueError("a\n  b")) == "a b"
  assert reason(KeyError()) == "KeyError"
  assert len(reason(ValueError("x" * 1000))) == 160
