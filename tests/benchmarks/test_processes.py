"""A measured program runs on its cores and threads, and one that fails or takes too much says so in one line."""

from __future__ import annotations

import os
import sys
import time

import pytest

from benchmarks import processes


def python(program: str, **limits) -> dict:
  return processes.run([sys.executable, "-c", program], **limits)


def test_the_last_json_line_is_the_result():
  found = python("print('chatter'); print('{\"a\": 1}'); print('{\"a\": 2}'); print('more')")
  assert found == {"a": 2}


def test_a_program_runs_on_its_cores_with_its_threads():
  core = min(os.sched_getaffinity(0))
  program = "import json, os; print(json.dumps([*os.sched_getaffinity(0), os.environ['OMP_NUM_THREADS']]))"
  found = python(
    program.replace("print(", "print('{\"a\":', ").replace("]))", "]), '}')"), cores=[core], threads=3
  )
  assert found == {"a": [core, "3"]}


def test_a_program_that_fails_gives_its_last_line():
  assert python("raise ValueError('too small')") == {"failed": "ValueError: too small"}
  assert python("raise SystemExit(3)") == {"failed": "exit status 3"}
  assert python("print('no figures')") == {"failed": "exit status 0"}


def test_a_program_that_does_not_exist_is_a_failure():
  assert processes.run(["no/such/python"]) == {"failed": "no/such/python: No such file or directory"}


@pytest.mark.parametrize("limits", [{"max_seconds": 0.5}, {"max_rss_mb": 1.0}])
def test_a_program_that_takes_too_much_is_ended(limits):
  start = time.monotonic()
  found = python("import time; time.sleep(60)", **limits)
  assert time.monotonic() - start < 30
  assert found["failed"].startswith("more than ")


def test_this_process_has_memory_and_an_ended_one_has_none():
  assert 1 < processes.resident_mb(os.getpid()) < 1e5
  assert processes.resident_mb(2**30) == 0


def test_the_machine_is_named():
  machine = processes.machine()
  assert machine["cores"] >= 1 and machine["memory_gb"] > 0 and machine["processor"]
