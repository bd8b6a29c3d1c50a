"""Any legal path is a run's directory: TensorFlow takes some characters of a path for a pattern."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.runs import CompiledOnce, Died, dying, tiny_config
from tf_savae.literal_paths import LiteralPath
from tf_savae.runs.restore import load_model
from tf_savae.serving.exporter import export
from tf_savae.training import loop


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
  with pytest.MonkeyPatch.context() as patch:
    yield CompiledOnce(patch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x=[1] and ü", "a*b?\\c"])
def test_a_run_is_trained_resumed_begun_from_and_exported(name, tmp_path):
  straight = loop.run(tiny_config(tmp_path / "straight", max_steps=6, checkpoint_every=2))
  folder = tmp_path / name
  with dying("save", 3), pytest.raises(Died):  # the second after the first one, which precedes all updates
    loop.run(tiny_config(folder / "run", max_steps=6, checkpoint_every=2))
  resumed = loop.run(tiny_config(folder / "run", max_steps=6, checkpoint_every=2))
  assert resumed["steps"] == 6 and resumed["test"]["nll_bound"] == straight["test"]["nll_bound"]
  assert len(list((folder / "run" / "checkpoints").glob("ckpt-*.index"))) == 2  # the older ones went
  config = tiny_config(folder / "other", init_from=str(folder / "run"), max_steps=1)
  assert loop.run(config)["init_from"] == str(folder / "run")
  found, plain = load_model(folder / "run").model, load_model(tmp_path / "straight").model
  for ours, theirs in zip(found.trainable_variables, plain.trainable_variables, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  assert export(folder / "run", folder / "models").name == "1"


def test_a_plain_path_is_its_own(tmp_path):
  assert LiteralPath(tmp_path).path == tmp_path


def test_a_special_one_has_another_name_while_it_is_needed(tmp_path):
  folder = tmp_path / "x=[1]"
  folder.mkdir()
  (folder / "file").write_text("there")
  literal = LiteralPath(folder)
  name = literal.path
  assert "[" not in str(name) and (name / "file").read_text() == "there"
  del literal
  assert not name.exists() and (folder / "file").exists()
