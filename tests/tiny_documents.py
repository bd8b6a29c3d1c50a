"""Documents of a few words in memory, and a model of them whose numbers can be worked out by hand."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tf_savae import SAVAE, SVISettings, tokens
from tf_savae.data.dataset import SPLITS, DataSet
from tf_savae.data.vocabulary import Vocabulary

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "dog")
VOCABULARY = Vocabulary((*tokens.SPECIAL, *WORDS))
LATENT = 2


class DocumentData(DataSet):
  """Documents of 1 to `longest` words, sorted by length, each batch padded to its own length.

  Args:
    sizes: documents in train, valid and test.
    multiple: of which each batch's length is one.
  """

  kind = "text"

  def __init__(self, sizes=(12, 10, 7), longest=20, multiple=8, source="made up"):
    super().__init__(name="text", source=source, is_stand_in=False, seed=0)
    rng = np.random.default_rng(0)
    self.vocabulary, self.multiple = VOCABULARY, multiple
    self.documents = {
      split: [self._document(rng, n) for n in sorted(rng.integers(1, longest + 1, size))]
      for split, size in zip(SPLITS, sizes, strict=True)
    }

  def _document(self, rng, words):
    # Each is about few words, so that there is something for a latent to know.
    about = rng.choice(np.arange(len(tokens.SPECIAL), len(VOCABULARY)), 2)
    return np.array([*rng.choice(about, words), tokens.END], np.int32)

  def num_examples(self, split):
    return len(self.documents[split])

  def num_tokens(self, split):
    return sum(map(len, self.documents[split]))

  def _padded(self, split, rows):
    documents = [self.documents[split][row] for row in rows]
    length = -(-max(map(len, documents)) // self.multiple) * self.multiple
    return np.array([np.pad(ids, (0, length - len(ids))) for ids in documents], np.int32)

  def _batch(self, split, rows):
    x = tf.numpy_function(lambda rows: self._padded(split, rows), [rows], tf.int32)
    return tf.ensure_shape(x, [None, None])

  def _train_batch(self, rows, step):
    return self._batch("train", rows)

  def _eval_batch(self, split, rows):
    return self._batch(split, rows)


@keras.saving.register_keras_serializable(package="tests")
class BagEncoder(keras.layers.Layer):
  """λ_0 is linear in the mean of the words' embeddings."""

  def __init__(self, **kwargs):
    super().__init__(**kwargs)
    init = keras.initializers.RandomNormal(0, 1, 3)
    self.embedding = self.add_weight(shape=(len(VOCABULARY), 2 * LATENT), initializer=init, name="embedding")

  def call(self, x):
    mask = tf.cast(tokens.is_token(x), self.compute_dtype)[..., tf.newaxis]
    embedded = tf.gather(tf.convert_to_tensor(self.embedding), x) * mask
    mean, log_var = tf.split(tf.reduce_sum(embedded, 1) / tf.reduce_sum(mask, 1), 2, axis=-1)
    return mean, log_var - 1.0


@keras.saving.register_keras_serializable(package="tests")
class BagDecoder(keras.layers.Layer):
  """Every token is drawn independently, from a distribution that depends on z."""

  def __init__(self, latent_dim=LATENT, **kwargs):
    super().__init__(**kwargs)
    self.latent_dim = latent_dim
    init = keras.initializers.RandomNormal(0, 1, 4)
    self.bias = self.add_weight(shape=(len(VOCABULARY),), initializer=init, name="bias")
    if latent_dim:
      self.kernel = self.add_weight(shape=(latent_dim, len(VOCABULARY)), initializer=init, name="kernel")

  def log_prob(self, x, z, context):
    logits = tf.convert_to_tensor(self.bias)[tf.newaxis]
    if self.latent_dim:
      logits = logits + z @ tf.convert_to_tensor(self.kernel)
    counts = tf.reduce_sum(
      tf.one_hot(x, len(VOCABULARY)) * tf.cast(tokens.is_token(x), tf.float32)[..., tf.newaxis], 1
    )
    return tf.reduce_sum(counts * tf.nn.log_softmax(logits), axis=-1)


def model(method: str = "savae", k: int = 2, **kwargs) -> SAVAE:
  """A compiled model for `DocumentData`."""
  encoder = None if method in ("autoreg", "svi") else BagEncoder()
  decoder = BagDecoder(0 if method == "autoreg" else LATENT)
  result = SAVAE(encoder, decoder, method, SVISettings(k, 0.05), **kwargs)
  result.compile(optimizer=keras.optimizers.Adam(1e-2), jit_compile=False)
  return result
