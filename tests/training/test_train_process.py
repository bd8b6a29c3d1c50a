"""train.py as a user starts it, stops it and kills it."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import train
from tests.training.runs import (
  ROOT,
  CompiledOnce,
  Outcome,
  assert_same_outcome,
  command_line,
  read_rows,
  tiny_config,
)

SMALLEST = ("--encoder_channels=2", "--decoder_channels=2", "--decoder_kernels=3", "--eval_batch_size=50")


class Process:
  """`python train.py` with its output in files."""

  def __init__(self, directory: Path, *arguments: str):
    self.run_dir = directory / "run"
    self._out, self._err = directory / "stdout", directory / "stderr"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
    with open(self._out, "w") as out, open(self._err, "w") as err:
      self._process = subprocess.Popen(
        [sys.executable, "train.py", *arguments], cwd=ROOT, env=environment, stdout=out, stderr=err
      )

  def wait_for(self, event) -> None:
    """Until `event()` is true; it must be so while the process is running."""
    end = time.monotonic() + 200
    while not event():
      assert self._process.poll() is None, f"ended too early: {self.stderr}"
      assert time.monotonic() < end
      time.sleep(0.002)

  def send(self, number: int) -> int:
    """Sends a signal; returns the exit status."""
    self._process.send_signal(number)
    return self.status()

  def status(self) -> int:
    return self._process.wait(timeout=200)

  @property
  def stdout(self) -> list[str]:
    return self._out.read_text().splitlines()

  @property
  def stderr(self) -> list[str]:
    return self._err.read_text().splitlines()


@pytest.mark.slow
def test_killed_in_an_epoch_in_a_validation_and_at_the_end_it_ends_where_it_would_have(tmp_path):
  arguments = ["--dataset=omniglot", "--model=vae", "--preset=tiny", "--k=2", "--batch_size=60", *SMALLEST]
  arguments += ["--epochs=2", "--max_steps=45", "--checkpoint_every=4", "--nodownload"]
  where = [f"--run_dir={tmp_path / 'run'}", f"--data_dir={tmp_path / 'none'}"]

  def start():
    return Process(tmp_path, *arguments, *where)

  # While a checkpoint is being written.
  process = start()
  process.wait_for(lambda: list((tmp_path / "run").glob("checkpoints/ckpt-8*")))
  assert process.send(signal.SIGKILL) == -signal.SIGKILL
  assert process.stdout[0].startswith("train vae on omniglot, K = 2, preset tiny")

  # In the validation after the first epoch.
  process = start()
  process.wait_for(lambda: (tmp_path / "run" / "checkpoints" / "ckpt-30.index").exists())
  assert process.send(signal.SIGINT) == 130
  assert len(process.stderr) == 2, process.stderr  # the warning of the stand-in, and:
  assert process.stderr[-1].startswith("interrupted: update 3")
  assert any(f"resumed at update {step} of 45" in process.stdout for step in (4, 8, 12))

  # When all updates are done and the last evaluation begins.
  process = start()
  process.wait_for(
    lambda: (tmp_path / "run" / "metrics.csv").exists() and len(read_rows(tmp_path / "run")) == 2
  )
  assert process.send(signal.SIGKILL) == -signal.SIGKILL
  assert not (tmp_path / "run" / "results.json").exists()
  assert any(line.startswith("resumed at update 3") for line in process.stdout)

  def run_here(directory):
    places = [f"--run_dir={directory}", f"--data_dir={tmp_path / 'none'}"]
    return train.main(["train.py", *arguments, *places])

  with pytest.MonkeyPatch.context() as patch:
    CompiledOnce(patch)
    assert run_here(tmp_path / "run") == 0
    assert run_here(tmp_path / "whole") == 0
  # This graph does not repeat its last bits.
  assert_same_outcome(Outcome.of(tmp_path / "whole"), Outcome.of(tmp_path / "run"), rtol=1e-4)


def test_what_cannot_work_is_answered_with_one_line_and_status_1(tmp_path, capfd):
  (tmp_path / "file").write_text("mine")
  folder = tmp_path / "broken" / "omniglot"
  folder.mkdir(parents=True)
  with zipfile.ZipFile(folder / "images_background.zip", "w") as archive:
    archive.writestr("images_background/a/b/0001_01.png", b"no image" * 100)
  whole = (folder / "images_background.zip").read_bytes()
  cut = tmp_path / "cut" / "omniglot"
  cut.mkdir(parents=True)
  (cut / "images_background.zip").write_bytes(whole[: len(whole) // 2])
  (tmp_path / "mat" / "omniglot").mkdir(parents=True)
  (tmp_path / "mat" / "omniglot" / "chardata.mat").write_bytes(b"MATLAB 5.0" + bytes(300))
  omniglot = tiny_config(tmp_path / "run", "omniglot")
  for arguments, words in (
    (["--run_dir=/proc/none/run"], "/proc/none/run"),
    ([f"--run_dir={tmp_path / 'file'}"], "is a file"),
    ([f"--run_dir={tmp_path / 'file' / 'run'}"], "file/run"),
    ([f"--data_dir={tmp_path / 'broken'}"], "images_background"),
    ([f"--data_dir={tmp_path / 'cut'}"], "images_background.zip"),
    ([f"--data_dir={tmp_path / 'mat'}"], "chardata.mat"),
    (["--strict_data"], "stand-in"),
    (["--eval_only", f"--run_dir={tmp_path / 'nothing'}"], "evaluation needs a trained run"),
    (["--model=autoreg", "--eval_k=3"], "eval_k"),
  ):
    assert train.main([*command_line(omniglot), *arguments]) == 1
    assert not (tmp_path / "run" / "config.json").exists()  # the next try may have other settings
    err = capfd.readouterr().err.splitlines()
    errors = [line for line in err if line.startswith("error: ")]
    assert len(errors) == 1, err
    assert err[-1] == errors[0]
    assert words in errors[0]
    assert all(line.startswith("WARNING:absl:no Omniglot in") or line in errors for line in err), err
  assert (tmp_path / "file").read_text() == "mine"


def test_a_wrong_flag_has_status_2(capfd):
  assert train.main(["train.py", "--k=-1"]) == 2
  assert capfd.readouterr().err.splitlines() == ["error: --k must be a whole number, 0 or more; received -1"]
