"""Runs of a network of a handful of weights, saved as train.py saves them, and what is exported from them."""

from __future__ import annotations

import dataclasses
import fcntl
import shutil
from pathlib import Path

import numpy as np

from tf_savae import tokens
from tf_savae.data.vocabulary import Vocabulary
from tf_savae.kind import KINDS
from tf_savae.runs import restore
from tf_savae.runs.build import build_model
from tf_savae.runs.checkpoints import of_run
from tf_savae.runs.directory import RunDirectory
from tf_savae.serving import c_loader, exporter, gate
from tf_savae.training import make_config

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


WORDS = (
  "the",
  "cat",
  "sat",
  "on",
  "a",
  "mat",
  "café",
  "and",
  "UNK",
  "dog",
)  # "UNK": a word of a file by hand
MAX_WORDS = 12

SIZES = {
  "omniglot": {
    "encoder_channels": (2,),
    "decoder_channels": 2,
    "decoder_kernels": (3,),
    "latent_dim": 3,
    "k": 2,
  },
  "text": {
    **{"embedding_dim": 4, "hidden_dim": 5, "conv_channels": 4, "latent_dim": 3, "k": 2},
    # With weights of the usual 0.1 every sentence would be like every other.
    **{"max_length": MAX_WORDS, "vocab_size": len(WORDS), "init_scale": 0.5},
  },
}


def make_run(
  path: Path, model: str = "savae", dataset: str = "omniglot", facts: dict | None = None, **changes
) -> Path:
  """A run directory with a best checkpoint of initial weights; its biases and batch statistics are not the initial."""
  config = make_config(
    dataset=dataset, preset="tiny", model=model, run_dir=str(path), **{**SIZES[dataset], **changes}
  )
  run = RunDirectory(path)
  run.create()
  run.write_config(config)
  if facts:
    run.check_data(facts)
  if dataset == "text":
    Vocabulary((*tokens.SPECIAL, *WORDS)).save(run.vocabulary_file)
  built = build_model(config, KINDS.get(config.kind).outline(config, run))
  rng = np.random.default_rng(0)
  for net in (net for net in (built.encoder, built.decoder) if net is not None):
    for variable in net.variables:
      if len(variable.shape) == 1:
        variable.assign(0.5 + rng.random(variable.shape))
  checkpoints = of_run(run.checkpoints, built)
  checkpoints.save_best(1, 100.0)
  checkpoints.save(1)
  run.write_results(RESULTS, training_finished=True)
  return path


@dataclasses.dataclass(frozen=True)
class Exported:
  """A version directory, and what it was made from."""

  path: Path
  run_dir: Path
  trained: restore.Restored
  interfaces: dict

  @property
  def model(self):
    return self.trained.model

  @classmethod
  def make(cls, folder: Path, dataset: str, own: Path) -> Exported:
    """Makes a run and its export in `folder`, unless another process has.

    Tests get a copy of the run in `own`, since a run is used by one process at a time.
    """
    run_dir, models = folder / "run", folder / "models" / "savae"
    folder.mkdir(exist_ok=True, parents=True)
    with open(folder / "lock", "w") as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      if not (models / "1").exists():
        exporter.export(make_run(run_dir, dataset=dataset), models, k=(K,), seed=SEED)
      shutil.copytree(run_dir, own)
    return cls(
      models / "1", own, restore.load_model(own), gate.interfaces(gate.read_meta_graph(models / "1"))
    )


class Served:
  """Signatures by their names, run by the C++ session."""

  def __init__(self, path: Path, interfaces: dict):
    self.session, self._interfaces = c_loader.Session(path), interfaces

  def __call__(self, signature: str, value) -> dict[str, np.ndarray]:
    """The answer to the one input, or to all inputs by name."""
    interface = self._interfaces[signature]
    feeds = value if isinstance(value, dict) else dict.fromkeys(interface.inputs, value)
    feeds = {interface.inputs[name]: part for name, part in feeds.items()}
    values = self.session.run(feeds, list(interface.outputs.values()))
    return dict(zip(interface.outputs, values, strict=True))
