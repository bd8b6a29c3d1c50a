"""The command that compares updates runs, and a VAE is the unit of every row."""

import json
import pathlib
import subprocess
import sys

import pytest

from benchmarks import updates

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("rows", updates.ROWS.values(), ids=list(updates.ROWS))
def test_every_row_is_divided_by_a_vae_of_the_same_decoder(rows):
  settings = {row.name: row.settings for row in rows}
  for row in rows:
    base = settings[row.base]
    assert base["model"] == "vae"
    for name in ("decoder", "latent_to"):
      assert row.settings.get(name) == base.get(name)


def test_a_ratio_is_the_median_over_rounds_of_paired_times():
  rows = [updates.Row("VAE", "VAE", {}), updates.Row("SA-VAE", "VAE", {})]
  seconds = {"VAE": [0.1, 0.2, 0.1], "SA-VAE": [0.2, 0.4, 0.5]}
  lines = updates.table(rows, seconds).splitlines()
  assert lines[2:] == ["| VAE | 100.0 | 1.00 |", "| SA-VAE | 400.0 | 2.00 |"]


@pytest.mark.parametrize(
  "workload, only, names", [("text", "SA-VAE, K=4", 3), ("image", "without L(λ_0)", 3)]
)
def test_the_command_prints_a_ratio_for_every_row(workload, only, names):
  flags = [
    f"--workload={workload}",
    "--sizes=tiny",
    "--batch=2",
    "--tokens=6",
    "--rounds=1",
    f"--only={only}",
  ]
  done = subprocess.run(
    [sys.executable, "-m", "benchmarks.update_cost", *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  *table, last = done.stdout.splitlines()
  ratios = {line.split("|")[1].strip(): float(line.split("|")[3]) for line in table[2:]}
  assert len(ratios) == names and list(ratios) == list(json.loads(last)["seconds"])
  assert all(
    ratio == 1.0 if name.startswith("VAE") and "K" not in name else ratio > 0
    for name, ratio in ratios.items()
  )
