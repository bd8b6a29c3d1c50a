"""`--dataset=synthetic`: token sequences drawn from a known model, the oracle of the paper's section 4.1."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import tensorflow as tf

from tf_savae.data.dataset import SPLITS, DataSet, check_split
from tf_savae.errors import UserError
from tf_savae.seeds import Purpose, stateless_seed

LATENT = 2  # z = (z₁, z₂)


@dataclasses.dataclass(frozen=True)
class Oracle:
  """p(z) = N(0, I); h_t = LSTM([emb(x_{t−1}), z₁, z₂], h_{t−1}); p(x_t | x_<t, z) ∝ exp(W h_t).

  t = 1 … length, h_0 = 0, and x_0 is a start symbol with an embedding of its own.

  Attributes:
    embedding: `[vocab_size + 1, embedding]`; the last row belongs to the start symbol.
    kernel: `[embedding + 2, 4 * hidden]`, gates in the order of Keras: input, forget, candidate, output.
    recurrent_kernel: `[hidden, 4 * hidden]`.
    bias: `[4 * hidden]`.
    output: W, `[vocab_size, hidden]`.
    length: tokens in a sequence.
  """

  embedding: np.ndarray
  kernel: np.ndarray
  recurrent_kernel: np.ndarray
  bias: np.ndarray
  output: np.ndarray
  length: int

  @classmethod
  def random(
    cls, seed: int, *, vocab_size: int, length: int, hidden: int, embedding: int, output_scale: float
  ) -> Oracle:
    """Embeddings and LSTM from U(−1, 1), W from U(−output_scale, output_scale)."""
    shapes = (
      (vocab_size + 1, embedding),
      (embedding + LATENT, 4 * hidden),
      (hidden, 4 * hidden),
      (4 * hidden,),
      (vocab_size, hidden),
    )
    scales = (1.0, 1.0, 1.0, 1.0, output_scale)
    seeds = tf.random.split(stateless_seed(seed, 0, Purpose.ORACLE), len(shapes))
    weights = [
      tf.random.stateless_uniform(shape, weight_seed, -scale, scale).numpy()
      for shape, scale, weight_seed in zip(shapes, scales, tf.unstack(seeds), strict=True)
    ]
    return cls(*weights, length=length)

  @property
  def vocab_size(self) -> int:
    return self.output.shape[0]

  def sample(self, n: int, seed: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Draws `n` sequences.

    Args:
      n: how many.
      seed: stateless, `[2]`.

    Returns:
      Tokens int32 `[n, length]` and the latents they were drawn with, float32 `[n, 2]`.
    """
    latent_seed, *token_seeds = tf.unstack(tf.random.split(seed, self.length + 1))
    z = tf.random.stateless_normal([n, LATENT], latent_seed)
    token, state = self._start(n)
    tokens = []
    for token_seed in token_seeds:
      logits, state = self._next(token, z, state)
      token = tf.random.stateless_categorical(logits, 1, token_seed, dtype=tf.int32)[:, 0]
      tokens.append(token)
    return tf.stack(tokens, axis=1).numpy(), z.numpy()

  def log_prob(self, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
    """log p(x | z) in nats `[batch]` of tokens `x` `[batch, length]` given latents `z` `[batch, 2]`."""
    x = tf.convert_to_tensor(x)
    token, state = self._start(tf.shape(x)[0])
    total = 0.0
    for t in range(self.length):
      logits, state = self._next(token, z, state)
      token = x[:, t]
      total -= tf.nn.sparse_softmax_cross_entropy_with_logits(labels=token, logits=logits)
    return total

  def _start(self, n):
    """The start symbol `[n]` and the LSTM's state (h, c) before it, zeros `[n, hidden]`."""
    zeros = tf.zeros([n, self.recurrent_kernel.shape[0]])
    return tf.fill([n], self.vocab_size), (zeros, zeros)

  def _next(self, token, z, state):
    """Logits `[n, vocab_size]` of the token after `token` `[n]`, and the new state."""
    h, c = state
    inputs = tf.concat([tf.gather(self.embedding, token), z], axis=1)
    gates = inputs @ self.kernel + h @ self.recurrent_kernel + self.bias
    i, f, candidate, o = tf.split(gates, 4, axis=1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(candidate)
    h = tf.sigmoid(o) * tf.tanh(c)
    return tf.matmul(h, self.output, transpose_b=True), (h, c)


class TokenDataSet(DataSet):
  """Token sequences of one length.

  Args:
    tokens: int32 `[n, length]` for each split.
    latents: the z each sequence was drawn with, float32 `[n, 2]` for each split.
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
  vocab_size: int = 1000,
  length: int = 5,
  hidden: int = 100,
  embedding: int = 100,
  output_scale: float = 1.45,
) -> TokenDataSet:
  """Makes an oracle and `num_examples` sequences a split, all from `data_seed`.

  Args:
    data_dir, download, strict: not used; nothing is read.
    seed: the training run's seed; it decides the order of the training examples only.
    data_seed: chooses oracle, latents and sequences.
    num_examples: sequences in each of the three splits.
    vocab_size, length, hidden, embedding: sizes of the oracle and its sequences.
    output_scale: range of the oracle's output layer; larger means less entropy. The default puts the true
      negative log-likelihood of the full-size oracle near the paper's 19.63 nats.

  Raises:
    UserError: a size is not positive.
  """
  del data_dir, download, strict
  sizes = {
    "num_examples": num_examples,
    "vocab_size": vocab_size,
    "length": length,
    "hidden": hidden,
    "embedding": embedding,
    "output_scale": output_scale,
  }
  for name, value in sizes.items():
    if not value > 0:
      raise UserError(f"synthetic data: {name} must be positive. Received: {value}")
  # On the CPU also where a GPU is visible: the last bit of a logit can decide a token.
  with tf.device("CPU:0"):
    oracle = Oracle.random(
      data_seed,
      vocab_size=vocab_size,
      length=length,
      hidden=hidden,
      embedding=embedding,
      output_scale=output_scale,
    )
    drawn = {
      split: oracle.sample(num_examples, stateless_seed(data_seed, 1 + i, Purpose.ORACLE))
      for i, split in enumerate(SPLITS)
    }
  source = (
    f"synthetic, drawn from an LSTM oracle with data seed {data_seed}: {num_examples} sequences a split, "
    f"{length} tokens of {vocab_size}"
  )
  tokens, latents = ({split: pair[i] for split, pair in drawn.items()} for i in range(2))
  return TokenDataSet(tokens, latents, oracle, source=source, seed=seed)
