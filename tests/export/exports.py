"""Runs of a network of a handful of weights, saved as train.py saves them, and what is exported from them."""

import dataclasses
from pathlib import Path

import numpy as np

from export import capi
from tf_savae.data import images_from_arrays
from tf_savae.training import make_config
from tf_savae.training.build import build_model
from tf_savae.training.keeper import RunKeeper
from tf_savae.training.run_dir import RunDirectory

K = 2
SEED = 3

RESULTS = {
  "dataset_source": "made-up drawings: a stand-in for Omniglot",
  "is_stand_in": True,
  "preset": "tiny",
  "seed": 0,
  "steps": 7,
  "eval_k": 2,
  "test": {"examples": 5, "nll_bound": 123.456, "kl": 1.5, "nll_iw": 120.0},
}


def make_run(path: Path, model: str = "savae", **changes) -> Path:
  """A run directory with a best checkpoint of initial weights; its biases and batch statistics are not the initial."""
  sizes = {
    "encoder_channels": (2, 2, 2),
    "decoder_channels": 2,
    "decoder_kernels": (3,),
    "latent_dim": 3,
    "k": 2,
  }
  config = make_config(
    dataset="omniglot", preset="tiny", model=model, run_dir=str(path), **{**sizes, **changes}
  )
  run = RunDirectory(path)
  run.create()
  run.write_config(config)
  blank = np.zeros([1, 28, 28], np.float32)
  built = build_model(config, images_from_arrays(blank, blank, blank, source="blank"))
  rng = np.random.default_rng(0)
  for net in (net for net in (built.encoder, built.decoder) if net is not None):
    for variable in net.variables:
      if len(variable.shape) == 1:
        variable.assign(0.5 + rng.random(variable.shape))
  checkpoints = RunKeeper(config, run, built, 1).checkpoints
  checkpoints.save_best(1, 100.0)
  checkpoints.save(1)
  run.write_results(RESULTS, training_finished=True)
  return path


@dataclasses.dataclass(frozen=True)
class Exported:
  """A version directory, and what it was made from."""

  path: Path
  run_dir: Path
  model: object
  interfaces: dict


class Served:
  """Signatures by their names, run by the C++ session."""

  def __init__(self, path: Path, interfaces: dict):
    self.session, self._interfaces = capi.Session(path), interfaces

  def __call__(self, signature: str, value: np.ndarray) -> dict[str, np.ndarray]:
    interface = self._interfaces[signature]
    [feed] = interface.inputs.values()
    values = self.session.run({feed: value}, list(interface.outputs.values()))
    return dict(zip(interface.outputs, values, strict=True))
