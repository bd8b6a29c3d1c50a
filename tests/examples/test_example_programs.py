"""The programs of examples/ run, with small budgets, and do what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted((ROOT / "examples").glob("*.py"))


def load(name):
  spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / f"examples/{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_each_program_is_short_and_has_a_test():
  tests = Path(__file__).read_text(encoding="utf-8")
  assert len(PROGRAMS) == 4
  for path in PROGRAMS:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 90
    assert f'load("{path.stem}")' in tests
    # A checkout is not installed, so only `-m` finds tf_savae.
    assert f"`python -m examples.{path.stem}" in path.read_text(encoding="utf-8").splitlines()[0]


def test_own_networks_take_sixty_lines():
  assert len((ROOT / "examples/own_networks.py").read_text(encoding="utf-8").splitlines()) <= 62


@pytest.mark.slow
def test_own_networks_refinement_improves_the_bound(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  found = load("own_networks").main(updates=8, k=3)
  assert found["bound"] < found["bound_initial"]


@pytest.mark.slow
def test_a_label_decides_where_the_ink_is():
  example = load("conditional")
  images = example.main(epochs=15, examples=600)
  quarters = images[..., 0].reshape(4, 2, 4, 2, 4).sum(axis=(2, 4)).reshape(4, 4)
  assert quarters.argmax(axis=1).tolist() == [0, 1, 2, 3]


@pytest.mark.slow
def test_text_is_written_on_the_way_between_two_sentences(tmp_path):
  file = tmp_path / "mine.txt"
  file.write_text("the cat sat on the mat\na dog ran in the park\n" * 30, encoding="utf-8")
  way = load("text").main(str(file), str(tmp_path / "run"), preset="tiny", k=2, max_steps=2)
  assert len(way) == 5 and all(isinstance(sentence, str) for sentence in way)


@pytest.mark.slow
def test_a_server_answers_as_the_saved_model_does(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT / "tests/export"))
  import server

  from tf_savae.serving import c_loader

  example = load("serve")
  local = example.main(models=str(tmp_path))
  assert np.abs(local["elbo_refined"] - local["elbo_initial"]).min() > 1e-3  # what is served is refined
  monkeypatch.setattr(server, "MODEL", "bits")
  path = tmp_path / "bits/1"
  with server.running(path, c_loader.Session(path)) as (_, urls):
    for url in urls.values():
      answer = example.main(url)
      for name, value in local.items():
        np.testing.assert_allclose(answer[name], value, atol=1e-5)
