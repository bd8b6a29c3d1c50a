"""`--dataset=synthetic`: token sequences drawn from a known model, the oracle of the paper's section 4.1."""

from __future__ import annotations

import functools
import os

import numpy as np
import tensorflow as tf

from tf_savae.data.dataset import SPLITS, DataSet, check_split
from tf_savae.data.oracle import READINGS, Oracle
from tf_savae.errors import UserError
from tf_savae.seeds import Purpose, stateless_seed

_WHERE = {"lstm_input": "z in the LSTM's input", "output_layer": "z in the output layer"}


class TokenDataSet(DataSet):
  """Token sequences of one length.

  Args:
    tokens: for each split, int32 `[n, length]`.
    latents: for each split, the z that each sequence was drawn with, float32 `[n, 2]`.
    oracle: the model they were drawn from.
  """

  kind = "tokens"

  def __init__(
    self,
    tokens: dict[str, np.ndarray],
    latents: dict[str, np.ndarray],
    oracle: Oracle,
    *,
    source: str,
    seed: int,
  ):
    super().__init__(name="synthetic", source=source, is_stand_in=False, seed=seed)
    self.oracle = oracle
    self.latents = latents
    self.vocab_size = oracle.vocab_size
    self.length = oracle.length
    with tf.device("CPU:0"):
      self._tokens = {split: tf.constant(tokens[split], tf.int32) for split in SPLITS}

  def num_examples(self, split: str) -> int:
    return int(self._tokens[check_split(split)].shape[0])

  def _train_batch(self, rows: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    del step  # tokens are what they are
    return tf.gather(self._tokens["train"], rows)

  def _eval_batch(self, split: str, rows: tf.Tensor) -> tf.Tensor:
    return tf.gather(self._tokens[check_split(split)], rows)


def load(
  *,
  data_dir: str | os.PathLike[str],
  seed: int,
  download: bool = True,
  strict: bool = False,
  data_seed: int = 0,
  num_examples: int = 5000,
  train_examples: int | None = None,
  vocab_size: int = 1000,
  length: int = 5,
  hidden: int = 100,
  embedding: int = 100,
  output_scale: float | None = None,
  oracle: str = "lstm_input",
) -> TokenDataSet:
  """Makes an oracle and `num_examples` sequences per split, or `train_examples` for training, all from `data_seed`.

  Args:
    data_dir, download, strict: not used; nothing is read.
    seed: the training run's seed; it decides the order of the training examples only.
    data_seed: chooses oracle, latents and sequences.
    num_examples: sequences in each of the three splits.
    train_examples: number of training sequences, if it differs.
    vocab_size, length, hidden, embedding: sizes of the oracle and its sequences.
    output_scale: range of the oracle's output layer; larger means less entropy. The default puts the true
      negative log-likelihood of the full-size oracle near the paper's 19.63 nats.
    oracle: where the oracle sees z, "lstm_input" or "output_layer": see `Oracle`.

  Raises:
    UserError: a size is not positive, or no oracle has that name.
  """
  del data_dir, download, strict
  if output_scale is None:
    output_scale = READINGS.get(oracle, 1.0)
  sizes = {
    "num_examples": num_examples,
    "train_examples": num_examples if train_examples is None else train_examples,
    "vocab_size": vocab_size,
    "length": length,
    "hidden": hidden,
    "embedding": embedding,
    "output_scale": output_scale,
  }
  for name, value in sizes.items():
    if not value > 0:
      raise UserError(f"synthetic data: {name} must be positive. Received: {value}")
  model, tokens, latents = _draw(data_seed, oracle, **sizes)
  more = f", {len(tokens['train'])} for training" if len(tokens["train"]) != num_examples else ""
  source = (
    f"synthetic, drawn from an LSTM oracle ({_WHERE[oracle]}) with data seed {data_seed}: {num_examples} sequences "
    f"per split{more}, {length} tokens of {vocab_size}"
  )
  return TokenDataSet(tokens, latents, model, source=source, seed=seed)


# Drawing takes two seconds, and a worker of the synthetic table asks for the same data again and again.
@functools.lru_cache(maxsize=4)
def _draw(data_seed, reading, num_examples, train_examples, **sizes):
  """The oracle, and the tokens and latents of each split."""
  # On the CPU even if a GPU is visible: the last bit of a logit can decide a token.
  with tf.device("CPU:0"):
    model = Oracle.random(data_seed, reading=reading, **sizes)
    drawn = {
      split: model.sample(
        train_examples if split == "train" else num_examples, stateless_seed(data_seed, 1 + i, Purpose.ORACLE)
      )
      for i, split in enumerate(SPLITS)
    }
  return model, *({split: pair[i] for split, pair in drawn.items()} for i in range(2))
