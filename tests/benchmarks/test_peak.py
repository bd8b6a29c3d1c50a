"""The probe of the machine's peak gives a rate for every kind of product."""

from __future__ import annotations

from benchmarks import processes


def test_every_probe_gives_a_rate():
  command = [*processes.PYTHON, "benchmarks.peak", "--size=256", "--seconds=0.05"]
  found = processes.run(command, max_seconds=300)
  assert found.pop("threads") == 1
  kinds = {f"{kind}_{dtype}" for kind in ("gemm", "convolution") for dtype in ("float32", "bfloat16")}
  assert found.keys() == kinds, found
  assert all(0 < rate < 1e5 for rate in found.values()), found
