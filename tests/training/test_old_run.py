"""A run that an earlier version began loads, goes on where it stopped, and ends where that version ends."""

import dataclasses
import tarfile

import numpy as np
import pytest

from tests.training.runs import ROOT
from tf_savae.runs.directory import RunDirectory, RunStatus
from tf_savae.runs.restore import load_model
from tf_savae.training import loop

BLANK = np.zeros([3, 28, 28, 1], np.float32)


@pytest.fixture
def old_run(tmp_path):
  """Its directory, and λ as the earlier version had it, by "update_k_part"."""
  with tarfile.open(ROOT / "testdata" / "run_at_1a4b214.tar.gz") as archive:
    archive.extractall(tmp_path / "run", filter="data")
  return tmp_path / "run", dict(np.load(tmp_path / "run" / "expected.npz"))


def assert_posteriors(model, expected, update):
  for k in (0, 5):
    for name, value in model.refine(BLANK, k=k)._asdict().items():
      np.testing.assert_allclose(value, expected[f"{update}_{k}_{name}"], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_an_old_run_loads_and_goes_on_to_the_same_end(old_run, tmp_path, capsys):
  path, expected = old_run
  directory = RunDirectory(path)
  assert directory.status is RunStatus.RESUMABLE
  found = load_model(path)
  assert found.step == 13
  assert_posteriors(found.model, expected, 13)
  settings = dataclasses.replace(
    directory.read_config(), run_dir=str(path), data_dir=str(tmp_path / "none"), max_steps=20
  )
  results = loop.run(settings)
  assert "resumed at update 13 of 20" in capsys.readouterr().out
  assert (results["steps"], results["stopped_by"]) == (20, "max_steps")
  assert [row["step"] for row in directory.read_metrics()] == ["13", "20"]
  assert_posteriors(load_model(path).model, expected, 20)
