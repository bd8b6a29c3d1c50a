"""What `benchmarks.distributed` makes of its measurements, and its arithmetic."""

import pytest

from benchmarks import scaling
from benchmarks.scaling import Machine


def test_speed_is_the_median_over_rounds_of_what_the_first_arrangement_took_in_the_same_round():
  rounds = [{"one": (0.4, 0.4), "two": (0.2, 0.5)}, {"one": (0.8, 0.4), "two": (0.2, 0.6)}]
  rounds.append({"one": (0.3, 0.4), "two": (0.3, 0.4)})  # the machine was busy
  facts = {"one": {"bytes": 0}, "two": {"bytes": 4000}}
  lines = scaling.table(rounds, facts, batch=8).splitlines()
  assert lines[2:] == [
    "| one | 20.0 | 26.7 | 1.00 | 400 | 0 |",
    "| two | 40.0 | 40.0 | 2.00 | 500 | 4,000 |",
  ]


def test_a_ring_sends_almost_twice_the_bytes_and_waits_for_each_neighbour():
  assert scaling.all_reduce_seconds(1e9, Machine("", 2, 1e9, 0.0)) == pytest.approx(1.0)
  assert scaling.all_reduce_seconds(1e9, Machine("", 4, 1e9, 1.0)) == pytest.approx(1.5 + 6.0)


def test_limits_have_a_row_for_each_machine_and_update():
  assert len(scaling.limits().splitlines()) == 2 + len(scaling.MACHINES) * len(scaling.STEPS)
