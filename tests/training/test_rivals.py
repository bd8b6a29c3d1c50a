"""Runs with what others do against collapse: they resume exactly, and an encoder is pre-trained and taken over."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.runs import (
  CompiledOnce,
  Died,
  Outcome,
  assert_same_outcome,
  dying,
  read_rows,
  tensors,
  tiny_config,
)
from tf_savae.errors import UserError
from tf_savae.training import loop


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
  with pytest.MonkeyPatch.context() as patch:
    yield CompiledOnce(patch)


def config(directory, **changes):
  return tiny_config(directory, **{"model": "vae", "epochs": 2, "checkpoint_every": 1, **changes})


@pytest.mark.slow
def test_a_lagging_run_that_is_killed_goes_on_exactly(tmp_path):
  settings = {"lagging_updates": 2, "bn_gamma": 0.5, "objective": "iwae", "iwae_samples": 2}
  loop.run(config(tmp_path / "whole", **settings))
  broken = config(tmp_path / "broken", **settings)
  # Between two updates of the encoder; and after a validation whose information is noted and not yet saved.
  for function, call in (("on_train_batch_end", 2), ("on_epoch_end", 1)):
    with dying(function, call), pytest.raises(Died):
      loop.run(broken)
  loop.run(broken)
  whole, resumed = (Outcome.of(tmp_path / name) for name in ("whole", "broken"))
  assert_same_outcome(whole, resumed, rtol=1e-5)
  state = {key.split("/")[2]: value for key, value in whole.last.items() if key.startswith("model/lagging/")}
  assert state and state["last_information"] == pytest.approx(
    float(read_rows(tmp_path / "whole")[-1]["val_mutual_information"]), rel=1e-5
  )


@pytest.mark.slow
def test_a_run_begins_with_the_encoder_of_an_autoencoder_and_a_decoder_of_its_own(tmp_path):
  source = config(tmp_path / "before", beta=0.0, beta_start=0.0, learning_rate=0.05)
  loop.run(source)
  rows = read_rows(source.run_dir)
  assert all(float(row["loss"]) == pytest.approx(float(row["nll"]), rel=1e-6) for row in rows)
  best = tensors(tmp_path / "before" / "checkpoints" / "best", "best")
  # The best autoencoder is that of the best reconstruction, not of the best bound.
  last = tensors(tmp_path / "before")
  assert float(last["progress/best_bound/.ATTRIBUTES/VARIABLE_VALUE"]) == pytest.approx(
    min(float(row["val_nll"]) for row in rows)
  )
  settings = config(tmp_path / "run", init_from=source.run_dir, init_networks="encoder", epochs=1)
  with dying("on_train_batch_end", 1), pytest.raises(Died):
    loop.run(settings)
  first = tensors(tmp_path / "run")
  for key, value in best.items():
    if key.startswith("model/encoder"):
      np.testing.assert_array_equal(first[key], value, err_msg=key)
  assert any(np.any(first[key] != best[key]) for key in best if key.startswith("model/decoder"))
  other = config(tmp_path / "other", init_from=source.run_dir, init_networks="encoder", hidden_dim=9)
  with pytest.raises(UserError, match="--hidden_dim is 8 there, 9 here"):
    loop.run(other)
