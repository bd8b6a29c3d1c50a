"""The command that compares updates runs, and the VAE is its unit."""

import pathlib
import subprocess
import sys

import pytest

from benchmarks import update_cost

ROOT = pathlib.Path(__file__).parents[2]


def test_the_vae_is_the_unit_and_every_k_of_savae_has_a_row():
  assert update_cost.rows([4, 20]) == [("vae", 0), ("vae_svi", 4), ("savae", 4), ("savae", 20)]


@pytest.mark.parametrize("latent_to", ["softmax", "state"])
def test_the_command_prints_a_ratio_for_every_method(latent_to):
  flags = ["--sizes=tiny", "--batch=2", "--tokens=6", "--k=1,2", "--updates=1", f"--latent_to={latent_to}"]
  done = subprocess.run(
    [sys.executable, "-m", "benchmarks.update_cost", *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  lines = [line.split() for line in done.stdout.splitlines()]
  assert [line[:2] for line in lines] == [
    ["vae", "K=0"],
    ["vae_svi", "K=1"],
    ["savae", "K=1"],
    ["savae", "K=2"],
  ]
  assert float(lines[0][4]) == 1.0
