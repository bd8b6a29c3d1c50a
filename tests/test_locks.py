"""One process at a time holds a directory; where a file system has no locks, a warning takes their place."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from tf_savae import locks
from tf_savae.errors import UserError
from tf_savae.runs.directory import RunDirectory
from tf_savae.serving.version_dir import new_version

HOLDER = """
import pathlib, sys
from tf_savae import locks
with locks.take(pathlib.Path(sys.argv[1])):
  print("held", flush=True)
  sys.stdin.read()
"""


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path):
  path = tmp_path / ".lock"
  with subprocess.Popen(
    [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
  ) as other:
    assert other.stdout.readline() == "held\n"
    with pytest.raises(locks.InUse, match=f"^process {other.pid} on {os.uname().nodename}$"):
      locks.take(path)
    other.kill()
  with locks.take(path):
    pass


def _refusing(monkeypatch, number):
  def flock(*_):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_runs_and_exports_go_on_with_a_warning(tmp_path, monkeypatch, capsys, number):
  _refusing(monkeypatch, number)
  with RunDirectory(tmp_path) as run:
    run.lock()
    assert capsys.readouterr().err.startswith(f"warning: {tmp_path} is on a file system without locks")
  with new_version(tmp_path / "model") as (version, path):
    assert capsys.readouterr().err.startswith(f"warning: {tmp_path / 'model'} is on a file system without")
    (path / "saved_model.pb").touch()
  assert (tmp_path / "model" / str(version) / "saved_model.pb").exists()


def test_any_other_failure_to_lock_is_one_line(tmp_path, monkeypatch):
  _refusing(monkeypatch, errno.EIO)
  with pytest.raises(UserError, match=r"cannot lock --run_dir=.*: Input/output error"):
    RunDirectory(tmp_path).lock()
  with (
    pytest.raises(UserError, match=r"cannot write in --output=.*: Input/output error"),
    new_version(tmp_path),
  ):
    pass
