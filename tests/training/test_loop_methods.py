"""Every method on images and sequences, from flags to results.json, in its smallest form; text has its own file."""

import dataclasses
import json
import math

import keras
import pytest

from tests.training.runs import CompiledOnce, read_rows, tiny_config
from tf_savae.commands import train
from tf_savae.errors import UserError
from tf_savae.methods import METHODS
from tf_savae.training import loop

STEPS = 3

# What the command line can ask for besides, one or two for each run.
BESIDES = {
  ("synthetic", "autoreg"): {"optimizer": "sgd"},
  ("synthetic", "vae"): {"k": 0, "dropout": 0.2, "precision": "mixed_float16"},
  ("synthetic", "svi"): {"svi_samples": 2, "svi_schedule": "linear"},
  ("synthetic", "vae_svi"): {"svi_clip_norm": 0.0, "clip_norm": 0.0},
  ("synthetic", "vae_svi_kl"): {"eval_k": 1},
  ("synthetic", "savae"): {
    "learn_svi_lr": "latent",
    "svi_schedule": "linear",
    "adjoint": "truncated",
    "adjoint_steps": 1,
  },
  ("omniglot", "autoreg"): {},
  ("omniglot", "vae"): {"precision": "mixed_float16"},
  ("omniglot", "svi"): {"k": 1},
  ("omniglot", "vae_svi"): {"eval_k": 0},
  ("omniglot", "vae_svi_kl"): {"k": 0},
  ("omniglot", "savae"): {"precision": "mixed_bfloat16"},
}
_TOP = ("dataset", "dataset_source", "model", "k", "eval_k", "steps", "examples")
_SPLIT = ("nll_bound", "kl", "nll_iw", "iw_samples")


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
  with pytest.MonkeyPatch.context() as patch:
    yield CompiledOnce(patch)


def smallest(directory, dataset, **changes):
  networks = (
    {"encoder_channels": (2,), "decoder_channels": 2, "decoder_kernels": (3,)}
    if dataset == "omniglot"
    else {}
  )
  return tiny_config(directory, dataset, batch_size=20, max_steps=STEPS, **{**networks, **changes})


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "method"), BESIDES)
def test_a_run_goes_from_flags_to_results(dataset, method, tmp_path):
  settings = smallest(tmp_path / "run", dataset, model=method, **BESIDES[dataset, method])
  loop.run(settings)
  results = json.loads((tmp_path / "run" / "results.json").read_text())
  assert all(key in results for key in _TOP)
  assert (results["steps"], results["examples"], results["k"]) == (STEPS, STEPS * 20, settings.k)
  assert results["is_stand_in"] == ("stand-in" in results["dataset_source"]) == (dataset == "omniglot")
  refines, has_encoder = METHODS[method].refines, METHODS[method].has_encoder
  expected_k = settings.eval_k if settings.eval_k is not None else (settings.k if refines else 0)
  assert results["eval_k"] == expected_k
  for split in ("valid", "test"):
    values = results[split]
    assert all(math.isfinite(values[key]) for key in _SPLIT)
    assert ("nll_bound_initial" in values) == ("kl_initial" in values) == has_encoder
    assert all(math.isfinite(value) for value in values.values())
    assert all(f"{key}_se" in values for key in values if key.startswith("nll") and not key.endswith("_se"))
    if method == "autoreg":
      assert (values["kl"], values["nll_iw"]) == (0, pytest.approx(values["nll_bound"]))
    if has_encoder and expected_k == 0:
      assert values["nll_bound_initial"] == values["nll_bound"]
      assert values["refinement_gain"] == 0
  (row,) = read_rows(tmp_path / "run")
  assert row["step"] == str(STEPS)
  # The run ends with the weights that its only validation saw, and the same noise.
  assert results["valid"]["nll_bound"] == pytest.approx(float(row["val_bound"]), rel=1e-4)
  rate = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}[settings.optimizer](1e-3).learning_rate
  assert float(row["learning_rate"]) == float(rate)


@pytest.mark.slow
def test_eval_k_refines_a_vae_at_test_time_and_only_then(tmp_path):
  settings = smallest(tmp_path / "run", "synthetic", model="vae", svi_lr=0.05)
  trained = loop.run(settings)
  given = train.COMMAND.parse(["train.py", "--eval_only", "--eval_k=8", f"--run_dir={tmp_path / 'run'}"])
  config, _ = train.build_config(given.typed)
  refined = loop.run(config)
  assert refined["eval_k"] == 8
  assert refined["test"]["nll_bound_initial"] != refined["test"]["nll_bound"]
  assert refined["test"]["kl_initial"] == pytest.approx(trained["test"]["kl"], rel=1e-5)
  assert refined["test"]["refinement_gain"] > 0
  assert json.loads((tmp_path / "run" / "results.json").read_text())["training_finished"]
  again = loop.run(dataclasses.replace(settings, eval_only=True))
  for split in ("valid", "test"):
    assert again[split] == pytest.approx(trained[split], rel=1e-5)


def test_there_is_nothing_to_refine_without_a_latent(tmp_path):
  with pytest.raises(UserError, match="eval_k") as caught:
    loop.run(smallest(tmp_path / "run", "synthetic", model="autoreg", eval_k=3))
  assert "\n" not in str(caught.value)
