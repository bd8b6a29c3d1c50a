"""The peers compute our gradients. Needs an interpreter with PyTorch, which the tests' own need not be."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks import check_peers, workloads

PYTHON = os.environ.get("TF_SAVAE_TORCH_PYTHON", sys.executable)


@pytest.fixture(scope="module")
def torch_python() -> str:
  if subprocess.run([PYTHON, "-c", "import torch"], capture_output=True, check=False).returncode:
    pytest.skip(f"{PYTHON} has no PyTorch: set TF_SAVAE_TORCH_PYTHON (benchmarks/peers/requirements.txt)")
  return PYTHON


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["tiny", "small"])
@pytest.mark.parametrize("workload", list(workloads.WORKLOADS))
def test_peers_compute_our_gradients(workload, sizes, torch_python):
  found = check_peers.check(workload, 2, True, torch_python, sizes)
  assert {program for program, _ in found} == set(check_peers.TOLERANCE)
  assert all(error <= check_peers.TOLERANCE[program] for (program, _), error in found.items()), found


def test_a_peer_that_cannot_run_is_an_error():
  with pytest.raises(RuntimeError, match="no/such/python"):
    check_peers.succeed(["no/such/python"])
