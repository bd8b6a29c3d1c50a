"""Settings of a run, except those of its model: default, accepted values, help, and whether a change is allowed.

Names that a plug-in can add to, such as those of data sets, are looked up when a value is checked. Nothing here imports
TensorFlow.
"""

from __future__ import annotations

import dataclasses

from tf_savae.data.sources import DATASETS
from tf_savae.methods import METHODS
from tf_savae.runs.options import (
  SEED,
  OnResume,
  name_in,
  number,
  one_of,
  option,
  optional,
  path,
  paths,
  switch,
  text,
  updates,
  whole,
)

ORACLES = ("lstm_input", "output_layer")  # the keys of `tf_savae.data.oracle.READINGS`
PRESETS = ("paper", "small", "tiny")

# Kinds of data that a setting is for; a setting without them is for all.
_TEXT, _TOKENS = ("text",), ("tokens",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
  """The method and the data of a run: groups "Run" and "Data"."""

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
  init_networks: str = option(
    "both",
    one_of("both", "encoder"),
    "what --init_from gives: both networks; or the encoder alone, as after pre-training with --beta=0 (Li et al. 2019)."
    " Then the decoder may be another one",
    "Run",
  )
  eval_only: bool = option(
    False, switch(), "evaluate the run in --run_dir instead of training it", "Run", OnResume.FREE
  )

  # Data.
  data_dir: str = option(
    "data",
    path(),
    "folder of the data, with a sub-folder for each data set; for images and text, that of your own files",
    "Data",
    OnResume.FREE,
  )
  download: bool = option(
    True, switch(), "download a data set that data_dir lacks (--nodownload: do not)", "Data", OnResume.FREE
  )
  strict_data: bool = option(
    False,
    switch(),
    "raise an error instead of using the small stand-in if the data set is missing",
    "Data",
    OnResume.FREE,
  )
  omniglot_split: str | None = option(
    None,
    optional(one_of("drawer", "random")),
    "how the original release of Omniglot is split: drawer, 15 drawers of each character to train and 5 for the test;"
    " or random, 80/10/10 (default: drawer; a run without this setting keeps random)",
    "Data",
    OnResume.FREE,  # the run knows how its data were split
    only=("image",),
  )
  image_size: int | None = option(
    None,
    optional(whole(8, 128)),
    "height and width of the pictures of --dataset=images, in pixels; others are resized (default: of the first)",
    "Data",
    only=("image",),
  )
  image_channels: str | None = option(
    None,
    optional(one_of("colour", "grey", "binary")),
    "channels of the pictures of --dataset=images: colour, grey, or binary draws of grey values (default: colour if any"
    " picture is in colour, else grey; --likelihood=bernoulli, the default for grey, binarises)",
    "Data",
    only=("image",),
  )
  condition: str | None = option(
    None,
    optional(one_of("alphabet", "class", "label")),
    "a conditional model p(x | z, c), which is given the alphabet of omniglot; the class of mnist, fashion_mnist and"
    " cifar10; or the label of images, such as the folder of a picture. label means whichever there is (default: no"
    " condition)",
    "Data",
    only=("image",),
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
    "number of most frequent training words in the vocabulary; all others become the unknown word",
    "Data",
    only=_TEXT,
  )
  min_count: int = option(
    1, whole(1), "times that a word must occur in the training text to be known", "Data", only=_TEXT
  )
  max_length: int = option(
    200, whole(1), "largest number of words in a document; longer documents are left out", "Data", only=_TEXT
  )
  units: str = option(
    "word",
    one_of("word", "char", "sentencepiece"),
    "what text is cut into; --vocab_size and --max_length count these. sentencepiece learns --vocab_size pieces from"
    " the training text",
    "Data",
    only=_TEXT,
  )
  text_column: str | None = option(
    None,
    optional(text()),
    "the documents' column in .csv or .tsv files: its name, or its number if the first line is no heading (default:"
    " .txt files with one document per line)",
    "Data",
    only=_TEXT,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MachineSettings:
  """How a run is evaluated and uses the machine: groups "Evaluation" and "Machine"."""

  # Evaluation.
  eval_batch_size: int = option(100, whole(1), "examples per evaluation batch", "Evaluation", OnResume.FREE)
  iw_samples: int = option(
    200, whole(1), "importance samples per example of the likelihood at the end", "Evaluation", OnResume.FREE
  )
  bound_samples: int = option(
    16,
    whole(1),
    "noise draws per example of a bound at the end, in pairs ε, −ε: 1 or an even number",
    "Evaluation",
    OnResume.FREE,
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
    "updates between checkpoints, in addition to one per epoch; 0: only once per epoch",
    "Machine",
    OnResume.FREE,
  )
  keep_checkpoints: int = option(2, whole(2), "checkpoints kept, besides the best", "Machine", OnResume.FREE)
  precision: str = option(
    "float32",
    one_of("float32", "tf32", "mixed_bfloat16", "mixed_float16", "bfloat16_adjoint"),
    "precision of the networks; λ stays float32. tf32: products on a GPU in TensorFloat-32, which is off otherwise."
    " mixed_float16: the loss is scaled. bfloat16_adjoint: float32, except for the decoder's second derivatives"
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
  strategy: str = option(
    "auto",
    one_of("auto", "one", "mirrored", "multi_worker"),
    "devices that train together: one, all of this machine (mirrored), or those of the processes that TF_CONFIG names"
    " (multi_worker); auto: multi_worker where TF_CONFIG is set, mirrored where several GPUs are visible, else one",
    "Machine",
    OnResume.FREE,
  )
  cpu_devices: int = option(
    1,
    whole(1),
    "virtual devices that the CPU is divided into, to try a strategy without GPUs",
    "Machine",
    OnResume.FREE,
  )
  worker_timeout: float = option(
    300.0,
    number(above=0),
    "seconds that a worker waits for the chief to be reached, and for all others to come",
    "Machine",
    OnResume.FREE,
  )
  memory_limit: int = option(
    0,
    whole(0),
    "MiB of a GPU's memory to use at most; 0: what is needed, as it is needed",
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
    "bit-identical reruns where possible (not for text), at the cost of speed",
    "Machine",
    OnResume.FREE,
  )
  profile: str | None = option(
    None,
    optional(updates()),
    "profile these updates with TensorFlow's profiler, for TensorBoard with the package xprof",
    "Machine",
    OnResume.FREE,
  )
