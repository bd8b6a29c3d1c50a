"""The data of a run, from its settings and its directory."""

from __future__ import annotations

import hashlib
from typing import Any

from tf_savae import data as data_lib
from tf_savae.data.dataset import DataSet
from tf_savae.data.oracle import Oracle
from tf_savae.errors import UserError
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory


def load(config: RunConfig, run_dir: RunDirectory) -> DataSet:
  """The data of a run; of text with the words that the run began with.

  What they are is stored when the run begins, and compared later: a run never goes on, and is never evaluated, with
  other data, but with `config.eval_file`.

  Raises:
    UserError: they are missing, unusable, or not those that the run began with.
  """
  words = run_dir.vocabulary_file
  if config.is_text and config.eval_file:
    vocabulary = data_lib.Vocabulary.load(words)
    return data_lib.dataset_from_file(
      config.eval_file, vocabulary, config.max_length, config.seed, config.dataset
    )
  options = options_of(config)
  if config.is_text:
    options["vocabulary"] = data_lib.Vocabulary.load(words) if words.exists() else None
  data = data_lib.load(
    config.dataset,
    data_dir=config.data_dir,
    seed=config.seed,
    download=config.download,
    strict=config.strict_data,
    **options,
  )
  run_dir.check_data(_facts(data))
  if config.is_text and options["vocabulary"] is None:
    data.vocabulary.save(words)
  if config.dataset == "synthetic":
    _keep_oracle(data.oracle, run_dir)
  return data


def options_of(config: RunConfig) -> dict[str, Any]:
  """What the settings say to `tf_savae.data.load` about one data set only."""
  names = {"synthetic": ("data_seed", "oracle", "train_examples")}
  if config.is_text:
    names = {config.dataset: ("vocab_size", "min_count", "max_length")}
  return {name: getattr(config, name) for name in names.get(config.dataset, ())}


def _facts(data: DataSet) -> dict[str, Any]:
  """What may not change about the data between two starts of a run."""
  facts = {"is_stand_in": data.is_stand_in, **{split: data.num_examples(split) for split in data_lib.SPLITS}}
  if data.kind == "tokens":
    drawn = data.examples("train", data.num_examples("train"))
    facts["tokens"] = f"sha256 {hashlib.sha256(drawn.tobytes()).hexdigest()[:16]}"
  if data.kind == "text":
    words = "\n".join(data.vocabulary.words).encode()
    facts |= {f"{split}_tokens": data.num_tokens(split) for split in data_lib.SPLITS}
    facts["vocabulary"] = f"{len(data.vocabulary)} words, sha256 {hashlib.sha256(words).hexdigest()[:16]}"
  return facts


def _keep_oracle(oracle: Oracle, run_dir: RunDirectory) -> None:
  """Saves the oracle's parameters with the run: settings and seed give them again only on the same version."""
  path = run_dir.oracle_file
  if not path.exists():
    oracle.save(path)
  elif not oracle.equals(Oracle.load(path)):
    raise UserError(
      f"{path} is not the oracle that the seed now gives: another version drew it; use that version, or another"
      " --run_dir"
    )
