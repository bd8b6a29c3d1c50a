"""Rounds alternate between programs, are cached when complete, and are run again when a program is missing.

The interpreter of the peers is a shell script here, which notes what it is asked and prints a line of figures.
"""

from __future__ import annotations

import json
import os

import pytest

from benchmarks import rounds
from benchmarks.programs import Program, Setting

SETTING = Setting("synthetic", 2, 3)
HVP, UNROLLED, DIFFERENCES = map(Program.parse, ("hvp", "unrolled", "finite_difference"))


@pytest.fixture
def bench(tmp_path):
  script = tmp_path / "python"
  script.write_text(
    f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n'
    "case \"$*\" in *finite_difference*) echo 'Error: too large' >&2; exit 1;; esac\n"
    'echo \'{"step_seconds": 1.5, "peak_rss_mb": 10}\'\n'
  )
  script.chmod(0o755)
  core = min(os.sched_getaffinity(0))
  return rounds.Bench(tmp_path / "cache", (core,), str(script), say=lambda line: None)


def asked(bench) -> list[str]:
  """The algorithms, in the order in which they ran."""
  path = bench.folder.parent / "asked"
  lines = path.read_text().splitlines() if path.exists() else []
  return [word.partition("=")[2] for line in lines for word in line.split() if "--algorithm" in word]


def test_programs_take_turns(bench):
  for index in range(2):
    found = bench.round(SETTING, index, [HVP, UNROLLED])
    assert found["unrolled"] == {"step_seconds": 1.5, "peak_rss_mb": 10}
  assert asked(bench) == ["hvp", "unrolled", "hvp", "unrolled"]


def test_a_complete_round_is_not_run_again(bench):
  first = bench.round(SETTING, 0, [HVP, UNROLLED])
  assert bench.round(SETTING, 0, [HVP, UNROLLED]) == first
  assert bench.round(SETTING, 0, [UNROLLED]) == {"unrolled": first["unrolled"]}
  assert len(asked(bench)) == 2


def test_a_round_that_lacks_a_program_is_run_again_as_a_whole(bench):
  bench.round(SETTING, 0, [HVP])
  bench.round(SETTING, 0, [HVP, UNROLLED])
  assert asked(bench) == ["hvp", "hvp", "unrolled"]


def test_another_setting_is_another_round(bench):
  bench.round(SETTING, 0, [HVP])
  bench.round(Setting("synthetic", 2, 4), 0, [HVP])
  assert len(asked(bench)) == 2


def test_a_failure_is_a_result_and_does_not_end_the_round(bench):
  found = bench.round(SETTING, 0, [DIFFERENCES, HVP])
  assert found["finite_difference"] == {"failed": "Error: too large"}
  assert found["hvp"]["step_seconds"] == 1.5
  bench.round(SETTING, 0, [DIFFERENCES, HVP])
  assert len(asked(bench)) == 2


def test_cached_gradient_errors_are_taken(bench):
  errors = {"hvp": {"all": 1e-7}, "unrolled": {"all": 2e-7}}
  rounds.write(bench.folder / f"{SETTING.name}-gradients.json", errors)
  assert bench.gradient_errors(SETTING, [UNROLLED]) == {"unrolled": {"all": 2e-7}}
  assert asked(bench) == []


def test_a_file_is_written_as_a_whole_or_not_at_all(tmp_path):
  path = tmp_path / "folder" / "a.json"
  rounds.write(path, {"a": 1})
  with pytest.raises(TypeError):
    rounds.write(path, {"a": object()})
  assert json.loads(path.read_text()) == rounds.read(path) == {"a": 1}
