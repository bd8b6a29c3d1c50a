"""Numbers of the synthetic table against calculations by hand, on files written by hand."""

import csv
import json

import numpy as np
import pytest

from experiments import report, results, rows, trials
from experiments.trials import FIRST_READING, Trial
from tests.experiments.fabricated import small_plan, write_trial, write_truth

NLL = {0: np.array([10.0, 12.0, 20.0, 30.0]), 1: np.array([11.0, 13.0, 9.0, 9.0])}
GAPS = {  # of savae-paper at (data seed, training seed): −ELBO above the truth
  (0, 0): np.array([1.0, 2.0, 3.0, 6.0]),
  (0, 1): np.array([3.0, 2.0, 1.0, 2.0]),
  (1, 0): np.array([0.0, 1.0, 1.0, 2.0]),
}


@pytest.fixture
def table(tmp_path):
  """Rows vae-adam and savae-paper, Oracle Gen, first reading: the latter's gaps are GAPS, the other's 2 more."""
  plan = small_plan("vae-adam", "savae-paper")
  for data_seed, nll in NLL.items():
    write_truth(tmp_path, FIRST_READING, data_seed, nll)
  for row, better, more in (("vae-adam", 2, 2.0), ("savae-paper", 0, 0.0)):
    for candidate in range(3):
      bound = [20.0 if candidate == better else 21.0 + candidate] * 4
      write_trial(tmp_path, Trial(row, candidate, "oracle"), "valid", bound)
    for (data_seed, seed), gaps in GAPS.items():
      trial = Trial(row, better, "oracle", data_seed=data_seed, seed=seed)
      bound = NLL[data_seed] + gaps + more
      write_trial(
        tmp_path, trial, "test", bound, kl=seed, bound_initial=bound + 10, seconds=1 + data_seed + 10 * seed
      )
  return tmp_path, plan


def cell(found, row):
  return next(
    c for c in found["rows"] if c["row"] == row and c["reading"] == FIRST_READING and c["column"] == "oracle"
  )


def test_gaps_are_paired_with_the_truth_and_averaged_over_seeds_and_oracles(table):
  found = results.Table(*table).collect()
  ours = cell(found, "savae-paper")
  # Of the first oracle over training seeds: points [2, 2, 2, 4].
  assert ours["gap"]["mean"] == pytest.approx((2.5 + 1.0) / 2)
  errors = [np.std([2, 2, 2, 4], ddof=1) / 2, np.std([0, 1, 1, 2], ddof=1) / 2]
  assert ours["gap"]["se"] == pytest.approx(np.hypot(*errors) / 2)
  assert ours["gap"]["sd_seeds"] == pytest.approx(np.std([3, 2], ddof=1))  # the second has one seed
  assert ours["gap"]["sd_oracles"] == pytest.approx(np.std([2.5, 1.0], ddof=1))
  assert ours["gap_initial"]["mean"] == pytest.approx(11.75)
  assert ours["bound"]["mean"] == pytest.approx((18 + 2.5 + 10.5 + 1.0) / 2)
  assert ours["kl"]["mean"] == pytest.approx((0.5 + 0.0) / 2)
  assert ours["seconds_per_step"] == pytest.approx(np.median([1, 11, 2]))
  assert ours["paper"] == 20.13 and ours["trials"] == 3 and not ours["failed"]


def test_spreads_between_seeds_are_pooled_over_oracles():
  values = {(0, 0): [1.0, 1.0], (0, 1): [3.0, 3.0], (1, 0): [5.0, 5.0], (1, 1): [5.0, 5.0]}
  found = results.summary(values)
  assert found["sd_seeds"] == pytest.approx(np.sqrt((2.0 + 0.0) / 2))
  assert found["mean"] == 3.5 and found["sd_oracles"] == pytest.approx(np.std([2.0, 5.0], ddof=1))


def test_one_oracle_and_one_seed_have_no_spread():
  alone = results.summary({(0, 0): np.array([1.0, 3.0])})
  assert alone == {"mean": 2.0, "se": 1.0, "sd_seeds": None, "sd_oracles": None}


def test_differences_to_the_best_vae_are_paired(table):
  found = results.Table(*table).collect()
  (line,) = [one for one in found["differences"] if one["reading"] == FIRST_READING]
  assert (line["row"], line["against"]) == ("savae-paper", "vae-adam")
  assert line["bound"]["mean"] == pytest.approx(-2.0)
  assert line["bound"]["se"] == pytest.approx(0.0, abs=1e-6)  # the same on every point
  assert line["bound_initial"]["mean"] == pytest.approx(8.0)  # λ_0 against the VAE's bound


def test_the_truth_comes_with_the_gap_of_the_best_gaussian(table):
  truth = results.Table(*table).collect()["truth"]
  assert [one["nll"]["mean"] for one in truth] == [18.0, 10.5]
  assert truth[0]["gaussian_gap"]["mean"] == pytest.approx(0.25) and truth[0]["gaussian_examples"] == 2


def test_all_files_say_the_same(table):
  out, plan = table
  text = report.write(out, plan)
  assert (out / "table.md").read_text() == text + "\n"
  assert "| SA-VAE K=20, as in the paper | 16.00 | 1.750 ± " in text and "| 20.13 |" in text
  found = json.loads((out / "results.json").read_text())
  assert found["chosen"]["vae-adam"] == {"oracle": 2, "learned": None}
  with open(out / "table.csv", newline="") as file:
    lines = {(r["row"], r["column"], r["reading"]): r for r in csv.DictReader(file)}
  assert float(lines["savae-paper", "oracle", FIRST_READING]["gap_mean"]) == pytest.approx(1.75)
  with open(out / "search.csv", newline="") as file:
    searched = [r for r in csv.DictReader(file) if r["column"] == "oracle"]
  assert [float(r["bound"]) for r in searched] == [21, 22, 20, 20, 22, 23]
  assert [r["chosen"] for r in searched] == ["False", "False", "True", "True", "False", "False"]
  names = [final["name"] for final in found["finals"]]
  assert f"savae-paper.c0.oracle.{FIRST_READING}.d1.s0" in names and len(names) == 6


def test_what_failed_is_in_the_table(table):
  out, plan = table
  lost = Trial("savae-paper", 0, "oracle", data_seed=1)
  for file in trials.run_dir(out, lost).iterdir():
    file.unlink()
  trials.write_failure(out, lost, "diverged: it did")
  diverged = Trial("vae-adam", 0, "oracle")
  for file in trials.run_dir(out, diverged).iterdir():
    file.unlink()
  trials.write_failure(out, diverged, "diverged, too")
  text = report.write(out, plan)
  assert "SA-VAE K=20, as in the paper (1 of 3 failed)" in text
  assert f"* {lost.name}: diverged: it did" in text
  settings = results.settings_in_words(rows.get("vae-adam").candidates[0])
  assert f"| VAE (Adam) | Oracle Gen | {settings} | FAILED |  |" in text
