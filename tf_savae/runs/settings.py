"""Every setting of a run: its default, the values it accepts, what `--help` says, and whether it may change.

Names that a plug-in can add to, such as those of data sets, are looked up when a value is checked. Nothing here imports
TensorFlow.
"""

from __future__ import annotations

import dataclasses

from tf_savae.data.sources import DATASETS
from tf_savae.methods import METHODS
from tf_savae.networks.catalogue import DECODERS, ENCODERS
from tf_savae.runs.options import (
  SEED,
  OnResume,
  name_in,
  named,
  number,
  one_of,
  option,
  optional,
  path,
  paths,
  switch,
  whole,
  whole_list,
)
from tf_savae.svi import ADJOINTS, DRAWS, RULES

ORACLES = ("lstm_input", "output_layer")  # the keys of `tf_savae.data.oracle.READINGS`
PRESETS = ("paper", "small", "tiny")
DILATIONS = ("small", "medium", "large")  # `tf_savae.networks.dilated_conv` says which they are

# Kinds of data that a setting is for; a setting without them is for all.
_IMAGES, _TEXT, _TOKENS, _SEQUENCES = ("image",), ("text",), ("tokens",), ("text", "tokens")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """The fields of `RunConfig`, in groups."""

  # What is trained on what.
  dataset: str = option("omniglot", name_in(DATASETS), "data set", "Run")
  model: str = option("savae", name_in(METHODS), "training method: a row of the paper's tables", "Run")
  preset: str = option("paper", one_of(*PRESETS), "named sizes and schedules, which flags override", "Run")
  run_dir: str | None = option(
    None,
    optional(path()),
    "directory of checkpoints, logs and results; the same command resumes there"
    " (default runs/<dataset>-<model>-k<k>-<preset>-seed<seed>)",
    "Run",
    OnResume.FREE,
  )
  plugin: tuple[str, ...] = option(
    (),
    paths(),
    "Python files of your own to import first, which may register data sets, networks, methods and more under names"
    " of their own; the run remembers them",
    "Run",
    OnResume.FREE,
    is_repeated=True,
  )
  seed: int = option(0, SEED, "seed of weights, noise and the order of training examples", "Run")
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
  data_seed: int = option(0, SEED, "seed of the data set: its split, the synthetic oracle", "Data")

  oracle: str = option(
    "lstm_input",
    one_of(*ORACLES),
    "where the synthetic oracle sees z; a learned decoder sees it there, too",
    "Data",
    only=_TOKENS,
  )

  train_examples: int = option(
    5000, whole(1), "sequences drawn from the synthetic oracle for training", "Data", only=_TOKENS
  )

  vocab_size: int = option(
    20_000,
    whole(1),
    "most frequent words of the training text that are known; all others are one",
    "Data",
    only=_TEXT,
  )
  min_count: int = option(
    1, whole(1), "times that a word must occur in the training text to be known", "Data", only=_TEXT
  )
  max_length: int = option(200, whole(1), "words of a document; longer ones are left out", "Data", only=_TEXT)

  # Refinement λ_0 → λ_K.
  k: int = option(20, whole(0), "K, SVI steps that refine a posterior in training", "Refinement")
  k_warmup_epochs: float = option(
    0.0,
    number(0),
    "epochs over which the SVI steps of an update rise linearly from 1 to --k in training; 0: --k from the start",
    "Refinement",
  )
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
  svi_lr_log_var: float | None = option(
    None,
    optional(number(above=0)),
    "α of log σ² where it differs from that of μ (default: --svi_lr)",
    "Refinement",
  )
  svi_schedule: str = option(
    "constant",
    one_of("constant", "linear", "harmonic"),
    "step sizes over the K steps: equal, falling to α/K, or α/(1 + 0.3 k)",
    "Refinement",
  )
  learn_svi_lr: str = option(
    "none",
    one_of("auto", "none", "step", "block", "latent"),
    "train the step sizes: one per step, one per step for μ and one for log σ², or one per step and latent; auto: one"
    " per step if the method can",
    "Refinement",
  )
  svi_rule: str = option(
    "gradient",
    name_in(RULES),
    "what an SVI step does with the gradient; --svi_momentum and --svi_clip_norm are for those rules that have them",
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
  svi_noise: str = option(
    "independent",
    name_in(DRAWS),
    "draws of an SVI step: independent; in pairs ε, −ε, whose odd gradient noise cancels; such pairs of random signs;"
    " the mean, without noise; or quadrature, without noise and in the training loss, too, for a decoder that"
    " integrates over z itself, as late_pixelcnn does. Pairs need an even --svi_samples",
    "Refinement",
  )
  svi_tolerance: float = option(
    0.0,
    number(0),
    "nats that a step must be expected to gain for an example, or its refinement stops there; 0: all K steps",
    "Refinement",
  )
  initial_loss_weight: float = option(
    0.0,
    number(0),
    "savae: weight of L(λ_0) in the encoder's loss, for an encoder that is good without refinement",
    "Refinement",
  )
  adjoint: str = option("exact", name_in(ADJOINTS), "how to differentiate through the steps", "Refinement")
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
    10.0, number(0), "β rises by 1/(this · batches in an epoch) per update, up to 1; 0: β is 1", "Training"
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
  encoder: str = option(
    "auto",
    name_in(ENCODERS, "auto"),
    "encoder; auto: the first for the kind of data: resnet for images, lstm for sequences",
    "Networks",
  )
  decoder: str = option(
    "auto",
    name_in(DECODERS, "auto"),
    "decoder; auto: pixelcnn for images, lstm for sequences; images can have late_pixelcnn, whose convolutions do not"
    " see z, which makes SVI steps cheap; text can have dilated_conv",
    "Networks",
  )
  generator: str = option(
    "learned",
    one_of("learned", "oracle"),
    "synthetic data: train the decoder, or take the oracle itself for it, whose weights are constants, and train"
    " inference alone; of --model=svi that leaves nothing to train, and one update is enough: --max_steps=1",
    "Networks",
    only=_TOKENS,
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
  position_maps: int = option(
    0,
    whole(0),
    "image decoder: learned maps beside the image that tell a pixel where it is; the paper's model without z has none,"
    " and is then not comparable with models whose maps of z have a bias",
    "Networks",
    only=_IMAGES,
  )
  quadrature_nodes: int = option(
    5, whole(2), "late_pixelcnn: nodes per pixel of --svi_noise=quadrature", "Networks", only=_IMAGES
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
    only=_TEXT,
  )
  conv_channels: int = option(
    512,
    whole(1),
    "dilated_conv: channels within a block; between them there are twice as many",
    "Networks",
    only=_TEXT,
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
    only=_TEXT,
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
    only=_TEXT,
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
    "float32",
    one_of("float32", "mixed_bfloat16", "bfloat16_adjoint"),
    "arithmetic of the networks; λ stays float32. bfloat16_adjoint: float32, but for the decoder's second derivatives"
    " in the sweep back through the refinement",
    "Machine",
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
    only=_TEXT,
  )
  deterministic: bool = option(
    False,
    switch(),
    "bit-identical reruns, where it can be had (not of text), at the cost of speed",
    "Machine",
    OnResume.FREE,
  )
