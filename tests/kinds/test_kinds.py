"""Every kind of data answers what the package asks; networks are built alike from data and from their outline."""

from __future__ import annotations

import numpy as np
import pytest

from tests import tiny_runs
from tf_savae.data import DATASETS
from tf_savae.kind import KINDS, Kind
from tf_savae.methods import METHODS
from tf_savae.networks import DECODERS, ENCODERS
from tf_savae.runs import run_data
from tf_savae.runs.build import make_networks
from tf_savae.runs.directory import RunDirectory
from tf_savae.training import make_config


@pytest.fixture(params=["omniglot", "yahoo", "synthetic"])
def run(request, tmp_path):
  """Settings, an empty run directory, and the data of it."""
  config = make_config(
    **{"dataset": request.param, "preset": "tiny", "train_examples": 30, "download": False},
    **{"data_dir": str(tmp_path / "none"), "run_dir": str(tmp_path / "run")},
  )
  directory = RunDirectory(config.run_dir)
  directory.create()
  directory.write_config(config)
  return config, directory, run_data.load(config, directory)


def test_every_data_set_is_of_a_known_kind_that_has_networks():
  for name in DATASETS:
    kind = DATASETS.get(name).kind
    assert isinstance(KINDS.get(kind), Kind)
    assert ENCODERS.names(kind) and DECODERS.names(kind)


def test_networks_of_the_outline_are_those_of_the_data(run):
  config, directory, data = run
  outline = KINDS.get(config.kind).outline(config, directory)
  assert outline.kind == data.kind
  for one, other in zip(
    *(make_networks(config, d, METHODS.get("savae")) for d in (data, outline)), strict=True
  ):
    assert _without_name(one) == _without_name(other)


def _without_name(network):
  return {key: value for key, value in network.get_config().items() if key != "name"}


def test_the_same_data_are_accepted_again_with_what_the_run_kept(run):
  config, directory, data = run
  again = run_data.load(config, directory)
  np.testing.assert_array_equal(again.examples("test", 3), data.examples("test", 3))
  assert directory.data_facts().items() >= KINDS.get(config.kind).facts(again).items()


def test_only_documents_have_lengths_and_write():
  kinds = {name: KINDS.get(name) for name in ("image", "tokens", "text")}
  assert [name for name, kind in kinds.items() if kind.writes] == ["text"]
  assert [name for name, kind in kinds.items() if not kind.has_one_shape] == ["text"]
  rows = np.array([[5, 6, 2, 0], [5, 2, 0, 0]], np.int32)
  assert kinds["tokens"].lengths(rows) is None
  np.testing.assert_array_equal(kinds["text"].lengths(rows), [3, 2])


def test_a_kind_that_defines_nothing_is_a_kind():
  plain = Kind()
  assert plain.facts(tiny_runs.token_data()) == plain.kept(None) == {}
  assert plain.outline(None, None) is plain.lengths(np.zeros([2, 3])) is plain.sprites(None) is None
  assert plain.xla_pays_from(on_gpu=True) == np.inf
  assert not list(plain.pictures(None, None, None, ""))
  with pytest.raises(NotImplementedError):
    plain.payloads(None, 0)
