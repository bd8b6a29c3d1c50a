"""The workloads: the paper's three models, their settings and random data. Importing this imports no TensorFlow."""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any, NamedTuple

from tf_savae.runs.config import RunConfig
from tf_savae.runs.presets import make_config

SYNTHETIC_VOCABULARY, SYNTHETIC_LENGTH = 1000, 5
IMAGE_SIDE = 28


class Workload(NamedTuple):
  """A data set and the batch of its step."""

  dataset: str
  batch: int


WORKLOADS = {
  "image": Workload("omniglot", 10),
  "text": Workload("text", 4),
  "synthetic": Workload("synthetic", 50),
}


# The paper's algorithm and decoders, which preset small does not have.
_PLAIN = {"svi_rule": "gradient", "svi_noise": "independent", "svi_samples": 1, "svi_schedule": "constant"}
_PLAIN |= {"learn_svi_lr": "none", "svi_lr": 0.02, "initial_loss_weight": 0.0}
_AS_IN_PAPER: dict[str, dict[str, Any]] = {
  "image": {**_PLAIN, "decoder": "pixelcnn"},
  "text": {**_PLAIN, "latent_to": "state", "encoder": "lstm"},
  "synthetic": {},
}


def config_of(workload: str, batch: int | None = None, sizes: str = "paper", **settings: Any) -> RunConfig:
  """The settings of a workload.

  Args:
    workload: a name in `WORKLOADS`.
    batch: examples per step; None: the workload's own.
    sizes: "paper", or another preset, such as "tiny", with the paper's refinement.
    **settings: further settings.

  Raises:
    UserError: settings that are not allowed.
  """
  of = WORKLOADS[workload]
  batch = of.batch if batch is None else batch
  return make_config(dataset=of.dataset, preset=sizes, batch_size=batch, **settings)


def as_in_paper(workload: str, sizes: str) -> dict[str, Any]:
  """Settings that give the networks of a preset the paper's refinement and kind of decoder, as the peers have them."""
  return {} if sizes == "paper" else dict(_AS_IN_PAPER[workload])


def vocabulary_size(config: RunConfig) -> int:
  """Token ids of a workload of sequences: the special tokens of text count, too."""
  return {"tokens": SYNTHETIC_VOCABULARY, "text": config.vocab_size + 4}[config.kind]


def first_beta(config: RunConfig) -> float:
  """β of the first update."""
  return config.beta_start if config.beta_warmup_epochs else 1.0


def random_data(config: RunConfig, num_tokens: int = 80):
  """A data set of noise with the right shape, since the cost of a step does not depend on the data.

  Args:
    config: of the workload.
    num_tokens: text: tokens of every document, its END included.
  """
  return _DATA[config.kind](config, num_tokens)


def _random_images(config, _):
  import numpy as np

  from tf_savae import data as data_lib

  grey = np.full([config.batch_size, IMAGE_SIDE, IMAGE_SIDE], 0.3, np.float32)
  return data_lib.images_from_arrays(grey, grey, grey, source="noise")


def _random_tokens(config, _):
  from tf_savae import data as data_lib

  return data_lib.load(config.dataset, data_dir="", seed=0)


def _random_documents(config, num_tokens):
  """Documents over the whole vocabulary."""
  import numpy as np

  from tf_savae import data as data_lib

  words = np.array([f"w{i}" for i in range(config.vocab_size)])
  shape = [config.batch_size, num_tokens - 1]  # and an END
  rows = words[np.random.default_rng(0).integers(len(words), size=shape)]
  vocabulary = data_lib.Vocabulary.from_counts(dict.fromkeys(words, 1))
  with tempfile.TemporaryDirectory() as directory:
    for split in ("train", "val", "test"):
      pathlib.Path(directory, f"{split}.txt").write_text("\n".join(map(" ".join, rows)))
    return data_lib.load("text", data_dir=directory, seed=0, vocabulary=vocabulary)


_DATA = {"image": _random_images, "tokens": _random_tokens, "text": _random_documents}
