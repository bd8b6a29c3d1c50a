"""Tables, figures and page say what the rounds say."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image

from benchmarks import results_page, tables
from benchmarks.programs import Program, Setting

PROGRAMS = [Program.parse(name) for name in ("ours", "hvp", "unrolled")]
FAILED = {"failed": "more than 100 MB (it had 101)"}
MACHINE = {
  "processor": "Some Processor",
  "family_model": "1/2",
  "flags": "avx2 avx512f",
  "cores": 2,
  "memory_gb": 24.0,
  "python": "3.11",
  "tensorflow": "2.21",
  "used": "0",
}
PEAKS = {"gemm_float32": 100.0, "convolution_float32": 200.0}


def result(seconds: float, rss: int = 100) -> dict:
  return {"step_seconds": seconds, "peak_rss_mb": rss}


ROUNDS = [
  {"ours": result(1.0), "hvp": result(2.0), "unrolled": FAILED},
  {"ours": result(2.0, 120), "hvp": result(3.0), "unrolled": FAILED},
  {"ours": result(1.5), "hvp": result(6.0), "unrolled": FAILED},
]


@pytest.fixture(scope="module")
def rows() -> list[tables.Row]:
  gradients = {"ours": {"all": 1e-7, "lambda_0": 2e-7, "decoder_second_order": 3e-6}, "hvp": FAILED}
  return tables.rows_of(PROGRAMS, ROUNDS, gradients, k=5, work=lambda program: 1e9)


def test_medians_and_ranges(rows):
  assert rows[0].seconds == (1.5, 1.0, 2.0)
  assert rows[1].seconds == (3.0, 2.0, 6.0)
  assert rows[0].peak_rss_mb == 120


def test_ratios_are_of_pairs_within_a_round(rows):
  assert rows[0].ratio == (1.0, 1.0, 1.0)
  assert rows[1].ratio == (2.0, 1.5, 4.0)


def test_passes_a_second_are_those_of_the_median(rows):
  assert rows[0].passes_per_second == pytest.approx(43 / 1.5)
  assert rows[0].gflops == pytest.approx(43 / 1.5)


def test_a_program_that_always_failed_says_why(rows):
  assert rows[2].seconds is None and rows[2].failed == FAILED["failed"]


def test_a_round_in_which_the_first_failed_gives_no_ratio():
  found = [{"ours": FAILED, "hvp": result(2.0)}, {"ours": result(1.0), "hvp": result(3.0)}]
  first, second = tables.rows_of(PROGRAMS[:2], found, {}, k=5, work=lambda program: 1e9)
  assert second.ratio == (3.0, 3.0, 3.0)
  assert first.seconds == (1.0, 1.0, 1.0)
  assert tables.rows_of(PROGRAMS[:2], found[:1], {}, 5, lambda program: 1e9)[1].ratio is None


def test_the_table_has_a_line_a_program_and_equal_columns(rows):
  lines = tables.table(rows, peak=100.0).splitlines()
  assert len(lines) == 2 + len(PROGRAMS)
  assert len({line.count("|") for line in lines}) == 1
  cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
  assert cells == [
    "tf_savae", "1.5 (1–2)", "1.00 (1.00–1.00)", "120", "1.0e-07", "2.0e-07", "3.0e-06", "28.7", "29%",
  ]  # fmt: skip
  assert FAILED["failed"] in lines[4]


def test_rows_can_be_written_as_json(rows):
  found = json.loads(json.dumps([row.as_dict() for row in rows]))
  assert [row["program"] for row in found] == ["ours", "hvp", "unrolled"]
  assert found[1]["ratio"] == [2.0, 1.5, 4.0]


def test_the_peak_is_that_of_the_kind_of_work():
  assert tables.peak_of("image", PEAKS) == 200.0
  assert tables.peak_of("text", PEAKS) == tables.peak_of("synthetic", PEAKS) == 100.0
  assert tables.peak_of("image", {}) is None


def test_the_page_names_the_machine_and_shows_every_figure(tmp_path, rows):
  over_k, over_batch = results_page.curves(10, "image")
  settings = dict.fromkeys([*over_k, *over_batch, Setting("image", 5, 10)], rows)
  main = [Setting("image", 5, 10)]
  page = tmp_path / "RESULTS.md"
  results_page.write(page, settings, main, {"image": (over_k, over_batch)}, MACHINE, PEAKS)
  text = page.read_text(encoding="utf-8")
  assert "Some Processor" in text and "avx512f" in text and "convolution float32 200 GFLOP/s" in text
  assert tables.table(rows, 200.0) in text
  figures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
  assert len(figures) == 4
  for name in figures:
    with Image.open(tmp_path / name) as figure:
      assert figure.size[0] > 300 and len(figure.convert("L").getcolors()) > 10  # something is drawn


def test_curves_cross_at_the_settings_of_the_tables():
  for workload, steps in results_page.MAIN.items():
    assert set(steps) <= set(results_page.STEPS)
    assert results_page.GRADIENTS_AT[workload] in steps
    assert results_page.K_OF_BATCHES[workload] in results_page.STEPS


def test_a_program_named_twice_is_run_once():
  assert [p.name for p in results_page.programs_of(["ours", "hvp", "ours"])] == ["ours", "hvp"]


def test_peers_whose_step_takes_minutes_are_left_out():
  programs = results_page.programs_of(["ours", "ours:precision=bfloat16_adjoint", "hvp", "finite_difference"])

  def names(k, **options):
    return [p.name for p in results_page.programs_at(Setting("text", k, 4), programs, **options)]

  assert names(5) == [p.name for p in programs]
  assert names(20) == ["ours", "ours:precision=bfloat16_adjoint", "finite_difference"]
  assert names(5, of_curve=True) == ["ours", "finite_difference"]
  assert names(40, of_curve=True) == ["ours"]
