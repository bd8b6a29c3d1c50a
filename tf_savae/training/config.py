"""`RunConfig`: everything that decides a training run, frozen and validated in one place.

Each field carries its rule, its help text, and whether it may change when a run is resumed. The command
line (`tf_savae.training.flags`) is derived from it. Nothing here imports TensorFlow: a wrong flag answers at
once.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from tf_savae.errors import UserError
from tf_savae.training.options import (
  Rule,
  named,
  number,
  one_of,
  optional,
  path,
  switch,
  whole,
  whole_list,
)

TEXT = ("yahoo", "text")
DATASETS = ("omniglot", *TEXT, "synthetic")
MODELS = ("autoreg", "vae", "svi", "vae_svi", "vae_svi_kl", "savae")
ADJOINTS = ("exact", "unrolled", "finite_difference", "truncated", "first_order")
PRESETS = ("paper", "small", "tiny")
# The decoders that a data set can have; `auto` is the first.
DECODERS = {
  "omniglot": ("pixelcnn",),
  "synthetic": ("lstm",),
  **dict.fromkeys(TEXT, ("lstm", "dilated_conv")),
}
DILATIONS = ("small", "medium", "large")  # `tf_savae.networks.dilated_conv` says which they are
_SEQUENCES = (*TEXT, "synthetic")
_IMAGES = ("omniglot",)
_SEED = whole(0, 2**31 - 1)  # seeds are int32 inside


class OnResume(enum.Enum):
  """What may happen to a setting between two starts of one run."""

  FIXED = "part of the run's identity: a change is refused"
  GROWS = "may only grow (0 is no limit)"
  FREE = "may differ"


def option(
  default: Any,
  rule: Rule,
  help_text: str,
  group: str,
  on_resume: OnResume = OnResume.FIXED,
  only: tuple[str, ...] = DATASETS,
) -> dataclasses.Field:
  """A field of `RunConfig`: its default, the values it accepts, what `--help` says, the data sets that use it."""
  metadata = {"rule": rule, "help": help_text, "group": group, "on_resume": on_resume, "only": only}
  return dataclasses.field(default=default, metadata=metadata)


class Difference(NamedTuple):
  """A setting that stands in the way of resuming: its name, what the run has, and what was received."""

  name: str
  was: Any
  received: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
  """One training run. The defaults are the paper's settings for images; `presets` says what others change.

  Constructing one validates it: UserError, one line, for a value that is not allowed or does not fit the
  others. `presets.make_config` is the usual way to get one.
  """

  # What is trained on what.
  dataset: str = option("omniglot", one_of(*DATASETS), "data set", "Run")
  model: str = option("savae", one_of(*MODELS), "training method: a row of the paper's tables", "Run")
  preset: str = option("paper", one_of(*PRESETS), "named sizes and schedules, which flags override", "Run")
  run_dir: str | None = option(
    None,
    optional(path()),
    "directory of checkpoints, logs and results; the same command resumes there"
    " (default runs/<dataset>-<model>-k<k>-<preset>-seed<seed>)",
    "Run",
    OnResume.FREE,
  )
  seed: int = option(0, _SEED, "seed of weights, noise and the order of training examples", "Run")
  init_from: str | None = option(
    None,
    optional(path()),
    "run directory whose best encoder and decoder a new run begins with, instead of random weights; its"
    " networks must be the same; step sizes and schedules begin anew",
    "Run",
  )
  eval_only: bool = option(
    False, switch(), "evaluate the run in --run_dir instead of training it", "Run", OnResume.FREE
  )

  # Data.
  data_dir: str = option(
    "data", path(), "directory with one sub-directory per data set", "Data", OnResume.FREE
  )
  download: bool = option(
    True, switch(), "download a data set that data_dir lacks (--nodownload: do not)", "Data", OnResume.FREE
  )
  strict_data: bool = option(
    False,
    switch(),
    "an error instead of the small stand-in when the data set is missing",
    "Data",
    OnResume.FREE,
  )
  data_seed: int = option(0, _SEED, "seed of the data set: its split, the synthetic oracle", "Data")

  vocab_size: int = option(
    20_000,
    whole(1),
    "most frequent words of the training text that are known; all others are one",
    "Data",
    only=TEXT,
  )
  min_count: int = option(
    1, whole(1), "times that a word must occur in the training text to be known", "Data", only=TEXT
  )
  max_length: int = option(200, whole(1), "words of a document; longer ones are left out", "Data", only=TEXT)

  # Refinement λ_0 → λ_K.
  k: int = option(20, whole(0), "K, SVI steps that refine a posterior in training", "Refinement")
  eval_k: int | None = option(
    None,
    optional(whole(0)),
    "SVI steps at evaluation (default: --k for methods that refine, else 0)",
    "Refinement",
    OnResume.FREE,
  )
  svi_lr: float = option(
    0.02,
    number(above=0),
    "α, step size per example in nats; the paper's 1 on the mean over a batch of 50 is 0.02",
    "Refinement",
  )
  svi_schedule: str = option(
    "constant",
    one_of("constant", "linear"),
    "step sizes over the K steps: equal, or falling to α/K",
    "Refinement",
  )
  learn_svi_lr: str = option(
    "none",
    one_of("auto", "none", "step", "latent"),
    "train the step sizes: one a step, or one a step and latent; auto: one a step if the method can",
    "Refinement",
  )
  svi_momentum: float = option(0.5, number(0, below=1), "γ, momentum of the SVI steps", "Refinement")
  svi_clip_norm: float = option(
    35.0,
    number(),
    "largest norm of an example's gradient for μ and for log σ² in nats; the paper's 5 on the mean over a"
    " batch of 50 is about 35; 0 or less: off",
    "Refinement",
  )
  svi_samples: int = option(1, whole(1), "noise draws averaged in an SVI step", "Refinement")
  initial_loss_weight: float = option(
    0.0,
    number(0),
    "savae: weight of L(λ_0) in the encoder's loss, for an encoder that is good without refinement",
    "Refinement",
  )
  adjoint: str = option("exact", one_of(*ADJOINTS), "how to differentiate through the steps", "Refinement")
  adjoint_steps: int = option(5, whole(1), "last steps that --adjoint=truncated differentiates", "Refinement")
  fd_radius: float = option(
    1e-2,
    number(above=0),
    "radius r of --adjoint=finite_difference (the paper's 1e-5 is noise in float32)",
    "Refinement",
  )

  # Optimisation of θ and φ.
  epochs: int = option(100, whole(1), "passes over the training data", "Training", OnResume.GROWS)
  max_steps: int = option(
    0, whole(0), "stop after this many updates even within an epoch; 0: no limit", "Training", OnResume.GROWS
  )
  max_minutes: float = option(
    0.0,
    number(0),
    "minutes of training, validations included, after which it stops, even within an epoch, with one more"
    " validation; 0: no limit",
    "Training",
    OnResume.GROWS,
  )
  batch_size: int = option(50, whole(1), "examples per update", "Training")
  optimizer: str = option("adam", one_of("adam", "sgd"), "optimizer", "Training")
  learning_rate: float = option(1e-3, number(above=0), "learning rate", "Training")
  lr_decay: float = option(
    0.5, number(above=0, maximum=1), "factor on the learning rate when patience ends", "Training"
  )
  lr_patience: int = option(
    0,
    whole(0),
    "epochs without a better validation bound before the learning rate decays; 0: never",
    "Training",
  )
  lr_decay_from: int = option(
    1, whole(1), "first epoch, counted from 1, that counts towards --lr_patience", "Training"
  )
  lr_decay_mode: str = option(
    "once",
    one_of("once", "every"),
    "what the end of --lr_patience does: one decay, and patience begins anew; or a decay after that and"
    " every later epoch",
    "Training",
  )
  min_learning_rate: float = option(
    0.0,
    number(0),
    "training stops when the learning rate decays below this; 0: never",
    "Training",
    OnResume.FREE,
  )
  early_stop_patience: int = option(
    0,
    whole(0),
    "epochs without a better validation bound before training stops; 0: never",
    "Training",
    OnResume.FREE,
  )
  clip_norm: float = option(
    5.0, number(), "largest global norm of a gradient of the mean loss, in nats; 0 or less: off", "Training"
  )
  beta_start: float = option(0.1, number(0, 1), "β, weight of the KL term, at the first update", "Training")
  beta_warmup_epochs: float = option(
    10.0, number(0), "β rises by 1/(this · batches in an epoch) an update, up to 1; 0: β is 1", "Training"
  )
  beta_cycles: int = option(
    1,
    whole(1),
    "how often β rises; 2 or more is the cyclical schedule (Fu et al. 2019): each cycle lasts twice"
    " --beta_warmup_epochs, and after the last one β stays 1; their 4 cycles over E epochs take a warm-up of"
    " E / 8",
    "Training",
  )
  free_bits: float = option(
    0.0, number(0), "nats of KL that each latent may have without penalty in training", "Training"
  )
  max_nonfinite: int = option(
    20,
    whole(1),
    "updates in a row skipped for a loss or gradient that is not finite before stopping",
    "Training",
    OnResume.FREE,
  )

  # Networks.
  decoder: str = option(
    "auto",
    one_of("auto", *dict.fromkeys(name for names in DECODERS.values() for name in names)),
    "decoder; auto: pixelcnn for images, lstm for sequences; text can have dilated_conv",
    "Networks",
  )
  latent_dim: int = option(32, whole(1), "size of z", "Networks")
  encoder_channels: tuple[int, ...] = option(
    (64, 64, 64), whole_list(1), "image encoder: channels of each residual stage", "Networks", only=_IMAGES
  )
  decoder_channels: int = option(
    32, whole(1), "image decoder: channels of the gated convolutions", "Networks", only=_IMAGES
  )
  decoder_kernels: tuple[int, ...] = option(
    (9, 9, 9, 7, 7, 7, 5, 5, 5, 3, 3, 3),
    whole_list(3, odd=True),
    "image decoder: kernel of each layer, in pixels",
    "Networks",
    only=_IMAGES,
  )
  latent_maps: int = option(
    4, whole(1), "image decoder: maps that z is turned into", "Networks", only=_IMAGES
  )
  hidden_dim: int = option(
    100, whole(1), "sequence models: size of the LSTM state", "Networks", only=_SEQUENCES
  )
  embedding_dim: int = option(
    100, whole(1), "sequence models: size of a token's embedding", "Networks", only=_SEQUENCES
  )
  dilations: str | tuple[int, ...] = option(
    "small",
    named(DILATIONS, whole_list(1)),
    "dilated_conv: dilation of each block, in words",
    "Networks",
    only=TEXT,
  )
  conv_channels: int = option(
    512,
    whole(1),
    "dilated_conv: channels within a block; between them there are twice as many",
    "Networks",
    only=TEXT,
  )
  init_scale: float = option(
    0.1,
    number(above=0),
    "sequence models: every weight begins in ±this, uniformly",
    "Networks",
    only=_SEQUENCES,
  )
  dropout: float = option(0.0, number(0, below=1), "share of decoder units dropped in training", "Networks")
  word_dropout: float = option(
    0.0,
    number(0, below=1),
    "share of the decoder's input words that training replaces by the unknown word",
    "Networks",
    only=TEXT,
  )

  # Evaluation.
  eval_batch_size: int = option(100, whole(1), "examples per evaluation batch", "Evaluation", OnResume.FREE)
  iw_samples: int = option(
    200, whole(1), "importance samples per example of the likelihood at the end", "Evaluation", OnResume.FREE
  )

  eval_file: str | None = option(
    None,
    optional(path()),
    "with --eval_only: a text to evaluate the run on; its numbers go to results-<name>.json",
    "Evaluation",
    OnResume.FREE,
    only=TEXT,
  )

  # How it runs.
  checkpoint_every: int = option(
    200,
    whole(0),
    "updates between checkpoints, besides one every epoch; 0: epochs only",
    "Machine",
    OnResume.FREE,
  )
  keep_checkpoints: int = option(2, whole(2), "checkpoints kept, besides the best", "Machine", OnResume.FREE)
  precision: str = option(
    "float32", one_of("float32", "mixed_bfloat16"), "arithmetic of the networks; λ stays float32", "Machine"
  )
  jit_compile: str = option(
    "auto",
    one_of("auto", "true", "false"),
    "compile the step with XLA; auto: where it is faster",
    "Machine",
    OnResume.FREE,
  )
  logit_positions: int = option(
    0,
    whole(0),
    "text: tokens of a batch whose logits are in memory at once; 0: all; fewer save memory, not time",
    "Machine",
    OnResume.FREE,
    only=TEXT,
  )
  deterministic: bool = option(
    False,
    switch(),
    "bit-identical reruns, where it can be had (not of text), at the cost of speed",
    "Machine",
    OnResume.FREE,
  )

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if isinstance(value, list):
        value = tuple(value)
        object.__setattr__(self, field.name, value)
      rule = field.metadata["rule"]
      if not rule.accepts(value):
        raise UserError(f"--{field.name} must be {rule.expected}; received {show(value)}")
    run_dir = self.run_dir or os.path.join(
      "runs", f"{self.dataset}-{self.model}-k{self.k}-{self.preset}-seed{self.seed}"
    )
    object.__setattr__(self, "run_dir", os.path.expanduser(run_dir))
    object.__setattr__(self, "data_dir", os.path.expanduser(self.data_dir))
    if self.init_from is not None:
      object.__setattr__(self, "init_from", os.path.expanduser(self.init_from))
    if self.eval_file is not None:
      object.__setattr__(self, "eval_file", os.path.expanduser(self.eval_file))
    self._check_together()

  def _check_together(self):
    """Raises UserError for settings that are allowed, but not together."""
    possible = ("auto", *DECODERS[self.dataset])
    if self.decoder not in possible:
      raise UserError(
        f"--decoder of --dataset={self.dataset} must be one of {', '.join(possible)}; received {self.decoder}"
      )
    if self.min_learning_rate > self.learning_rate:
      raise UserError(
        f"--min_learning_rate must be at most --learning_rate={show(self.learning_rate)}; received"
        f" {show(self.min_learning_rate)}; 0 is no limit"
      )
    if self.eval_file is not None and not self.is_text:
      raise UserError(
        f"--eval_file is for runs on text; received {self.eval_file} for --dataset={self.dataset}"
      )
    if self.eval_file is not None and not self.eval_only:
      raise UserError(f"--eval_file goes with --eval_only; received {self.eval_file} for training")

  @property
  def is_text(self) -> bool:
    """Whether the data set is one of documents."""
    return self.dataset in TEXT

  @property
  def decoder_name(self) -> str:
    """`decoder`, with `auto` resolved."""
    return DECODERS[self.dataset][0] if self.decoder == "auto" else self.decoder

  @property
  def svi_clip(self) -> float | None:
    """`svi_clip_norm`, or None when clipping is off: what `SVISettings.clip_norm` takes."""
    return self.svi_clip_norm if self.svi_clip_norm > 0 else None

  @property
  def outer_clip(self) -> float | None:
    """`clip_norm`, or None when clipping is off."""
    return self.clip_norm if self.clip_norm > 0 else None

  def to_dict(self) -> dict[str, Any]:
    """Every field as a JSON value."""
    values = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}

  @classmethod
  def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
    """The inverse of `to_dict`; a missing field takes its default.

    Raises:
      UserError: a name that is no field, or a value that is not allowed.
    """
    names = [field.name for field in dataclasses.fields(cls)]
    for name in values:
      if name not in names:
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f"did you mean {close[0]}?" if close else "it is no setting of this version"
        raise UserError(f"unknown setting {name!r} = {values[name]!r}; {hint}")
    return cls(**values)

  def differences(self, received: RunConfig) -> list[Difference]:
    """What forbids to go on with this run under the settings `received`; empty when nothing does."""
    found = []
    for field in dataclasses.fields(self):
      was, now = getattr(self, field.name), getattr(received, field.name)
      on_resume = field.metadata["on_resume"]
      changed = on_resume is OnResume.FIXED and was != now
      shrunk = on_resume is OnResume.GROWS and (now or float("inf")) < (was or float("inf"))
      if changed or shrunk:
        found.append(Difference(field.name, was, now))
    return found


def show(value: Any) -> str:
  """A value the way one would write it on the command line."""
  if isinstance(value, tuple | list):
    return ",".join(str(v) for v in value)
  return repr(value) if value is None or value == "" else str(value)
