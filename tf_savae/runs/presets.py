"""Named presets: their changes to the defaults of `RunConfig`, which are the paper's settings for images.

paper   the paper's model and schedule; needs a GPU, or days
small   a model for a CPU with two cores, about ten minutes
tiny    seconds; for tests, its numbers mean nothing
auto    `paper` when a GPU is visible, else `small`
"""

from __future__ import annotations

import os
from typing import Any

from tf_savae import plugins
from tf_savae.data.sources import DATASETS
from tf_savae.errors import UserError
from tf_savae.methods import METHODS
from tf_savae.runs.config import RunConfig
from tf_savae.runs.settings import PRESETS

NAMES = ("auto", *PRESETS)

_TEXT = {
  "paper": {
    "epochs": 30,
    "batch_size": 32,
    "optimizer": "sgd",
    "learning_rate": 1.0,
    # From epoch 15 on, the first one without a better bound begins the decay.
    "lr_patience": 1,
    "lr_decay_from": 15,
    "lr_decay_mode": "every",
    "min_learning_rate": 0.03,
    # The paper's 1 and 5 on the mean over a batch of 32.
    "svi_lr": 1 / 32,
    "svi_clip_norm": 28.0,
    "hidden_dim": 1024,
    "embedding_dim": 512,
    "dropout": 0.5,
    "eval_batch_size": 32,
  },
  # Documents of at most 60 words and a vocabulary of 2,000 words, since the softmax takes nearly all of a step.
  "small": {
    "epochs": 6,
    "batch_size": 32,
    "learning_rate": 1e-2,
    "lr_patience": 1,
    "early_stop_patience": 3,
    # At equal time two steps with one pair of draws beat four steps with two pairs (experiments/text.py).
    "k": 2,
    "svi_rule": "natural",
    "svi_lr": 0.5,
    "svi_schedule": "linear",
    "svi_noise": "antithetic",
    "svi_samples": 2,
    "learn_svi_lr": "auto",
    "initial_loss_weight": 1.0,
    "beta_warmup_epochs": 3.0,
    "vocab_size": 2000,
    "max_length": 60,
    "latent_dim": 16,
    "hidden_dim": 64,
    "embedding_dim": 64,
    "conv_channels": 32,
    "latent_to": "softmax",
    "dropout": 0.3,
    "iw_samples": 100,
  },
  "tiny": {
    "batch_size": 10,
    "epochs": 2,
    "max_steps": 20,
    "beta_warmup_epochs": 1.0,
    "vocab_size": 100,
    "max_length": 30,
    "latent_dim": 2,
    "hidden_dim": 8,
    "embedding_dim": 8,
    "conv_channels": 8,
    "iw_samples": 4,
    "bound_samples": 2,
    "checkpoint_every": 5,
  },
}

# For kinds of data from plug-ins, unless the data set has its own presets.
_ANY = {
  "small": {"epochs": 10, "latent_dim": 16, "iw_samples": 100},
  "tiny": {
    "batch_size": 20,
    "epochs": 2,
    "max_steps": 20,
    "beta_warmup_epochs": 1.0,
    "latent_dim": 2,
    "hidden_dim": 8,
    "embedding_dim": 8,
    "iw_samples": 4,
    "bound_samples": 2,
    "checkpoint_every": 5,
  },
}

_OF_KIND: dict[str, dict[str, dict[str, Any]]] = {
  "image": {
    "paper": {},
    "small": {
      "epochs": 8,
      "learning_rate": 1e-2,
      "svi_lr": 0.012,
      "svi_schedule": "linear",
      "learn_svi_lr": "auto",
      "adjoint": "auto",
      # With a decoder that learns from λ_K alone, the encoder is 4 nats worse than a VAE's (docs/results.md).
      "initial_loss_weight": 3.0,
      "initial_loss_trains": "both",
      "beta_warmup_epochs": 2.0,
      "latent_dim": 16,
      "encoder_channels": (16, 32, 32),
      "decoder_channels": 8,
      "decoder_kernels": (7, 3),
      "latent_maps": 2,
      "position_maps": 2,
      "mixture_components": 5,
      "iw_samples": 100,
      "checkpoint_every": 50,
    },
    "tiny": {
      "batch_size": 20,
      "epochs": 2,
      "max_steps": 20,
      "beta_warmup_epochs": 1.0,
      "latent_dim": 3,
      "encoder_channels": (4, 4, 4),
      "decoder_channels": 4,
      "decoder_kernels": (5, 3),
      "latent_maps": 1,
      "mlp_units": (16,),
      "mixture_components": 3,
      "iw_samples": 4,
      "bound_samples": 2,
      "checkpoint_every": 5,
    },
  },
  "text": _TEXT,
  # Over-fits from epoch 8 on, hence the early stop. Adam for the paper's SGD: it gives the better VAE.
  "tokens": {
    "paper": {
      "epochs": 50,
      "early_stop_patience": 5,
      "latent_dim": 2,
      "beta_warmup_epochs": 0.0,
    },
    "small": {
      "epochs": 10,
      "early_stop_patience": 3,
      "latent_dim": 2,
      "beta_warmup_epochs": 0.0,
      "iw_samples": 50,
    },
    "tiny": {
      "batch_size": 20,
      "epochs": 2,
      "max_steps": 20,
      "beta_warmup_epochs": 0.0,
      "latent_dim": 2,
      "hidden_dim": 8,
      "embedding_dim": 8,
      "iw_samples": 4,
      "bound_samples": 2,
      "checkpoint_every": 5,
    },
  },
}


# What preset small adds for a decoder: one whose logits are linear in z needs no noise, in steps or training. (It
# integrates over a diagonal Gaussian.)
_OF_DECODER = {"late_pixelcnn": {"svi_noise": "quadrature"}}


def values(dataset: str, preset: str) -> dict[str, Any]:
  """The changes of `preset` (not `auto`) for `dataset`: those for its kind, overridden by its own.

  Raises:
    UserError: the data set or the preset is unknown.
  """
  if dataset not in DATASETS:
    raise UserError(f"--dataset must be one of {', '.join(DATASETS)}; received {dataset}")
  if preset not in PRESETS:
    raise UserError(f"--preset must be one of {', '.join(NAMES)}; received {preset}")
  source = DATASETS.get(dataset)
  return {**_OF_KIND.get(source.kind, _ANY).get(preset, {}), **source.presets.get(preset, {})}


def choose(preset: str) -> tuple[str, str]:
  """Resolves `auto`.

  Returns:
    The preset's name and the reason for it, for the first line that a run prints.
  """
  if preset != "auto":
    return preset, "as asked for"
  if _gpu_is_visible():
    return "paper", "--preset=auto and a GPU is visible"
  return "small", "--preset=auto and no GPU is visible"


def make_config(*, dataset: str = "omniglot", preset: str = "auto", **given: Any) -> RunConfig:
  """A validated `RunConfig`: the preset's values for the data set, overridden by those given; imports plug-ins first.

  Preset small also depends on the decoder, and leaves out what the method does not use.

  Raises:
    UserError: a name is not that of a setting, or a value is not allowed.

  Args:
    dataset: a name in `tf_savae.data.DATASETS`.
    preset: "auto", "paper", "small" or "tiny".
    **given: settings, by the names that `train.py --help` lists.

  Example:
    >>> from tf_savae.training import make_config
    >>> config = make_config(dataset="omniglot", preset="tiny", k=3)
    >>> config.k, config.latent_dim
    (3, 3)
  """
  given_plugins = given.get("plugin", ())
  plugins.load([given_plugins] if isinstance(given_plugins, str) else given_plugins)
  name, _ = choose(preset)
  changes = values(dataset, name)
  if name == "small" and given.get("posterior", "diagonal") == "diagonal":
    changes |= _OF_DECODER.get(str(given.get("decoder", changes.get("decoder"))), {})
  method = given.get("model", RunConfig.__dataclass_fields__["model"].default)
  if method in METHODS and not METHODS.get(method).weighs_initial_loss:
    changes.pop("initial_loss_weight", None)
  if not given.get("initial_loss_weight", changes.get("initial_loss_weight")):
    changes.pop("initial_loss_trains", None)
  return RunConfig.from_dict({**changes, **given, "dataset": dataset, "preset": name})


def _gpu_is_visible() -> bool:
  # TensorFlow takes seconds to import, and its C++ side prints to the terminal unless told not to.
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  import tensorflow as tf

  return bool(tf.config.list_physical_devices("GPU"))
