"""One export for all tests, whatever process they run in."""

import fcntl
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
from exports import SEED, Exported, K, Served, make_run

from export import exporter, gate
from tf_savae.training.restore import load_model


@pytest.fixture(scope="session")
def exported(tmp_path_factory, worker_id) -> Exported:
  base = tmp_path_factory.getbasetemp()
  folder = (base if worker_id == "master" else base.parent) / "export"
  folder.mkdir(exist_ok=True)
  run_dir, models = folder / "run", folder / "models" / "savae"
  with open(folder / "lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # the first of several workers makes it
    if not (models / "1").exists():
      exporter.export(make_run(run_dir), models, k=(K,), seed=SEED)
    model = load_model(run_dir).model
  return Exported(models / "1", run_dir, model, gate.interfaces(gate.read_meta_graph(models / "1")))


@pytest.fixture(scope="session")
def served(exported) -> Served:
  return Served(exported.path, exported.interfaces)
