"""Settings of a run: what is trained, on what data."""

from __future__ import annotations

import dataclasses

from tf_savae.runs.names import DATASETS, MODELS, ORACLES, PRESETS, SYNTHETIC, TEXT
from tf_savae.runs.options import SEED, OnResume, one_of, option, optional, path, switch, whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
  """Groups "Run" and "Data" of `RunConfig`."""

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
    only=SYNTHETIC,
  )

  train_examples: int = option(
    5000, whole(1), "sequences drawn from the synthetic oracle for training", "Data", only=SYNTHETIC
  )

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
