"""The page of a table: paired differences, spreads and honest labels; and the command that fills it."""

import json

import numpy as np
import pytest

from experiments import comparison, comparison_command, comparison_figure, comparison_report
from experiments.comparison import Files
from tests.experiments import fabricated
from tests.experiments.test_comparison import table_of
from tf_savae.evaluation import per_example

TABLE = table_of("text", "--budget_s=90")


@pytest.fixture
def out(tmp_path):
  """Two seeds of a language model and a VAE, whose values differ by 1 and by 3 nats from each other's."""
  files = Files(tmp_path)
  base = np.array([100.0, 200.0, 300.0], np.float32)
  for seed, gain in ((0, 1.0), (1, 3.0)):
    fabricated.write_evaluation(files, TABLE, "vae-lstm", seed, base)
    fabricated.write_evaluation(files, TABLE, "autoreg", seed, base - gain, kl=None)
  return tmp_path


def cell_of(found, key):
  return next(cell for cell in found["rows"] if cell["row"] == key)


def test_differences_are_paired_by_example_with_their_spread_between_seeds(out):
  found = comparison_report.collect(TABLE, Files(out))
  difference = cell_of(found, "autoreg")["nll_iw_difference"]
  assert difference == {"mean": -2.0, "se": 0.0, "sd_seeds": pytest.approx(2**0.5), "seeds": 2}
  assert cell_of(found, "vae-lstm")["nll_iw_difference"] is None
  assert cell_of(found, "autoreg")["nll_iw"]["mean"] == 198.0
  assert cell_of(found, "vae-bow")["seeds"] == []


def test_results_about_other_examples_are_not_compared(out):
  fabricated.write_evaluation(Files(out), TABLE, "autoreg", 0, np.zeros(3, np.float32), digest=7)
  found = comparison_report.collect(TABLE, Files(out))
  assert cell_of(found, "autoreg")["nll_iw_difference"]["seeds"] == 1


def test_the_page_says_what_the_numbers_are_about(out):
  page = comparison_report.page(comparison_report.collect(TABLE, Files(out)))
  for words in (
    "Data: fabricated;",
    "a subset of the test, 3 of 10 examples, spread evenly",
    "generated stand-in data",
    "90 seconds of processor time",
    "preset `small`, not the paper's",
    "not comparable with published ones",
    "| Language model | 2 | – |",
    "Differences are to **VAE, LSTM encoder**",
    "Not done: VAE, LSTM encoder, 2 natural steps at test time; VAE, bag",
  ):
    assert words in page
  assert "-2.00 ± 0.00; 1.41" in page


def test_nothing_done_is_a_page_without_a_figure(tmp_path):
  found = comparison_report.collect(table_of("images"), Files(tmp_path))
  assert "Nothing is done yet" in comparison_report.page(found)
  assert comparison_figure.draw(found) is None


def test_the_figure_has_a_line_for_each_row_that_is_done(out):
  axes = comparison_figure.draw(comparison_report.collect(TABLE, Files(out))).axes[0]
  assert [label.get_text() for label in axes.get_yticklabels()] == ["Language model", "VAE, LSTM encoder"]


def test_workers_do_what_is_left_and_failures_are_tried_again(tmp_path, capsys):
  table = table_of("text", "--only=autoreg,vae-bow,vae-lstm", "--seeds=2")
  pretend = (fabricated.pretend_task, fabricated.prepare)
  comparison_command.run(tmp_path, table, 2, *pretend)
  assert "6/6 " in capsys.readouterr().out
  files = Files(tmp_path)
  assert json.loads(files.failure(comparison.Task("vae-bow", 0, 0)).read_text())["reason"] == "diverged"
  comparison_command.run(tmp_path, table, 1, *pretend)
  done = (tmp_path / "done.txt").read_text().split()
  assert done.count("vae-bow.c0.s0") == 2 and done.count("vae-lstm.c0.s1") == 1
  assert "## Failed" in (tmp_path / "table.md").read_text()


def test_a_page_alone_needs_no_training(out, capsys):
  from experiments import text

  assert text.main(["text", f"--out={out}", "--jobs=0", "--budget_s=90"]) == 0
  assert "Made by `python -m experiments.text --budget_s=90`." in (out / "table.md").read_text()
  assert "| Language model | 2 |" in capsys.readouterr().out
  assert (out / "table.png").exists() and (out / "table.md").exists() and (out / "results.json").exists()
  assert not (out / "runs").exists()


def test_values_survive_their_file(tmp_path):
  fabricated.write_evaluation(Files(tmp_path), TABLE, "autoreg", 0, np.array([1.5], np.float32))
  assert per_example.load(Files(tmp_path).values("autoreg", 0))["nll_bound"].tolist() == [1.5]
