"""The known model that generates the synthetic data, in both readings of the paper's section 4.1."""

from __future__ import annotations

import dataclasses
import os
import zipfile

import numpy as np
import tensorflow as tf

from tf_savae import atomic_files
from tf_savae.errors import UserError
from tf_savae.seeds import Purpose, stateless_seed

LATENT = 2  # z = (z₁, z₂)

# Reading → range of its output layer that puts the true negative log-likelihood near the paper's 19.63 nats.
READINGS = {"lstm_input": 1.45, "output_layer": 1.0}
_LATENT_OUTPUT_SCALE = 5.0
_AT_ONCE = 5000  # sequences at once; their distributions take 40 MB per token


@dataclasses.dataclass(frozen=True)
class Oracle:
  """p(z) = N(0, I) and an LSTM language model p(x | z) = Π_t p(x_t | x_<t, z), which sees z in one of two places.

      lstm_input:    h_t = LSTM([emb(x_{t−1}), z₁, z₂], h_{t−1});   p(x_t | x_<t, z) ∝ exp(W h_t)
      output_layer:  h_t = LSTM(emb(x_{t−1}), h_{t−1});             p(x_t | x_<t, z) ∝ exp(W h_t + c + W_z z)

  t = 1 … length, h_0 = 0, and x_0 is a start symbol with an embedding of its own.

  Attributes:
    embedding: `[vocab_size + 1, embedding]`; the last row belongs to the start symbol.
    kernel: `[embedding + 2, 4 * hidden]`, or `[embedding, 4 * hidden]` if the LSTM does not see z. Gates have the
      order of Keras: input, forget, candidate, output.
    recurrent_kernel: `[hidden, 4 * hidden]`.
    bias: `[4 * hidden]`.
    output: W, `[vocab_size, hidden]`.
    length: tokens per sequence.
    output_bias: c, `[vocab_size]`; None in the reading lstm_input.
    latent_output: W_z, `[vocab_size, 2]`; None in the reading lstm_input.
  """

  embedding: np.ndarray
  kernel: np.ndarray
  recurrent_kernel: np.ndarray
  bias: np.ndarray
  output: np.ndarray
  length: int
  output_bias: np.ndarray | None = None
  latent_output: np.ndarray | None = None

  @classmethod
  def random(
    cls,
    seed: int,
    *,
    vocab_size: int,
    length: int,
    hidden: int,
    embedding: int,
    output_scale: float,
    reading: str = "lstm_input",
  ) -> Oracle:
    """An oracle with weights from U(−1, 1), except W from U(−output_scale, output_scale) and W_z from U(−5, 5).

    Raises:
      UserError: there is no reading of that name.
    """
    if reading not in READINGS:
      raise UserError(f"synthetic data: oracle must be one of {', '.join(READINGS)}. Received: {reading}")
    of_lstm = reading == "lstm_input"
    shapes = {
      "embedding": (vocab_size + 1, embedding),
      "kernel": (embedding + (LATENT if of_lstm else 0), 4 * hidden),
      "recurrent_kernel": (hidden, 4 * hidden),
      "bias": (4 * hidden,),
      "output": (vocab_size, hidden),
    }
    if not of_lstm:
      shapes |= {"output_bias": (vocab_size,), "latent_output": (vocab_size, LATENT)}
    scales = {"output": output_scale, "latent_output": _LATENT_OUTPUT_SCALE}
    seeds = tf.unstack(tf.random.split(stateless_seed(seed, 0, Purpose.ORACLE), len(shapes)))
    weights = {}
    for (name, shape), weight_seed in zip(shapes.items(), seeds, strict=True):
      scale = scales.get(name, 1.0)
      weights[name] = tf.random.stateless_uniform(shape, weight_seed, -scale, scale).numpy()
    return cls(**weights, length=length)

  @property
  def reading(self) -> str:
    """The reading of section 4.1, which says where z enters; a key of `READINGS`."""
    return "lstm_input" if self.latent_output is None else "output_layer"

  @property
  def vocab_size(self) -> int:
    return self.output.shape[0]

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes all parameters atomically to one .npz file.

    Raises:
      UserError: the file cannot be written.
    """
    values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    with atomic_files.writing(path) as new, open(new, "wb") as file:
      np.savez(file, **{name: value for name, value in values.items() if value is not None})

  @classmethod
  def load(cls, path: str | os.PathLike[str]) -> Oracle:
    """Reads an oracle that `save` wrote.

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
      with np.load(path, allow_pickle=False) as file:
        weights = {name: file[name] for name in file.files}
      return cls(**weights | {"length": int(weights["length"])})
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
      raise UserError(f"{path} holds no oracle ({error}); restore it, or begin another run") from error

  def equals(self, other: Oracle) -> bool:
    """Whether all parameters have equal values."""
    pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self))
    return all(np.array_equal(a, b) if a is not None and b is not None else a is b for a, b in pairs)

  def sample(self, n: int, seed: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Draws `n` sequences, which do not depend on the number of TensorFlow's threads.

    Args:
      n: how many.
      seed: stateless, `[2]`.

    Returns:
      Tokens int32 `[n, length]` and the latents that they were drawn with, float32 `[n, 2]`.
    """
    latent_seed, token_seed = tf.unstack(tf.random.split(seed))
    z = tf.random.stateless_normal([n, LATENT], latent_seed)
    u = tf.random.stateless_uniform([n, self.length], token_seed, dtype=tf.float64)
    # Threads may change the order of a sum. In float64 that changes a token about once in 10¹² draws.
    exact = self._in_float64()
    parts = [
      exact._invert(u[i : i + _AT_ONCE], tf.cast(z[i : i + _AT_ONCE], tf.float64))
      for i in range(0, n, _AT_ONCE)
    ]
    return tf.concat(parts, axis=0).numpy(), z.numpy()

  def _invert(self, u, z):
    """Tokens `[n, length]` from uniform numbers of that shape, by inversion of each token's distribution function.

    `tf.random.stateless_categorical` would draw different tokens with a different number of threads.
    """
    token, state = self._start(tf.shape(u)[0])
    tokens = []
    for t in range(self.length):
      logits, state = self._next(token, z, state)
      below = tf.cumsum(tf.nn.softmax(logits), axis=1)
      token = tf.reduce_sum(tf.cast(below <= u[:, t, tf.newaxis], tf.int32), axis=1)
      token = tf.minimum(token, self.vocab_size - 1)  # the probabilities may add up to less than u
      tokens.append(token)
    return tf.stack(tokens, axis=1)

  def log_prob(self, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
    """log p(x | z) in nats, `[batch]`, of tokens `x` `[batch, length]` given latents `z` `[batch, 2]`."""
    x = tf.convert_to_tensor(x)
    token, state = self._start(tf.shape(x)[0])
    total = 0.0
    for t in range(self.length):
      logits, state = self._next(token, z, state)
      token = x[:, t]
      total -= tf.nn.sparse_softmax_cross_entropy_with_logits(labels=token, logits=logits)
    return total

  def _in_float64(self):
    weights = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
    return dataclasses.replace(self, **{name: value.astype(np.float64) for name, value in weights.items()})

  def _start(self, n):
    """The start symbol `[n]` and the LSTM's state (h, c) before it, zeros `[n, hidden]`."""
    zeros = tf.zeros([n, self.recurrent_kernel.shape[0]], self.recurrent_kernel.dtype)
    return tf.fill([n], self.vocab_size), (zeros, zeros)

  def _next(self, token, z, state):
    """Logits `[n, vocab_size]` of the token after `token` `[n]`, and the new state."""
    h, c = state
    inputs = tf.gather(self.embedding, token)
    if self.latent_output is None:
      inputs = tf.concat([inputs, z], axis=1)
    gates = inputs @ self.kernel + h @ self.recurrent_kernel + self.bias
    i, f, candidate, o = tf.split(gates, 4, axis=1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(candidate)
    h = tf.sigmoid(o) * tf.tanh(c)
    logits = tf.matmul(h, self.output, transpose_b=True)
    if self.latent_output is not None:
      logits += self.output_bias + tf.matmul(z, self.latent_output, transpose_b=True)
    return logits, (h, c)
