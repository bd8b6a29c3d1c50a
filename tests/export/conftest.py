"""One export of images and one of text for all tests, whatever process they run in."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
from exports import Exported, Served


@pytest.fixture(scope="session")
def folder(tmp_path_factory, worker_id):
  base = tmp_path_factory.getbasetemp()
  return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def exported(folder, tmp_path_factory) -> Exported:
  return Exported.make(folder / "export", "omniglot", tmp_path_factory.mktemp("export_run") / "run")


@pytest.fixture(scope="session")
def served(exported) -> Served:
  return Served(exported.path, exported.interfaces)


@pytest.fixture(scope="session")
def exported_text(folder, tmp_path_factory) -> Exported:
  return Exported.make(folder / "export_text", "text", tmp_path_factory.mktemp("export_text_run") / "run")


@pytest.fixture(scope="session")
def served_text(exported_text) -> Served:
  return Served(exported_text.path, exported_text.interfaces)
