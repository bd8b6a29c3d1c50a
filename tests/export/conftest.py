"""One export for all tests of a process."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
from exports import SEED, Exported, K, Served, make_run

from export import exporter, gate
from tf_savae.training.restore import load_model


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Exported:
  folder = tmp_path_factory.mktemp("export")
  run_dir = make_run(folder / "run")
  path = exporter.export(run_dir, folder / "models" / "savae", k=(K,), seed=SEED)
  model = load_model(run_dir).model
  return Exported(path, run_dir, model, gate.interfaces(gate.read_meta_graph(path)))


@pytest.fixture(scope="session")
def served(exported) -> Served:
  return Served(exported.path, exported.interfaces)
