"""A conditional VAE, p(x | z, c): `python -m examples.conditional`.

The networks read an observation that is a dict: an image, and the label c that it is given. The likelihood covers the
image alone, and one code z drawn with another label is another image.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tf_savae import SAVAE, SVISettings

LATENT, LABELS, SIDE = 2, 4, 8


def squares(n: int, seed: int = 0) -> dict[str, np.ndarray]:
  """Images `[n, 8, 8, 1]` with a 2×2 square somewhere in one quarter, and which quarter it is, `[n]`."""
  rng = np.random.default_rng(seed)
  label, corner = rng.integers(0, LABELS, n), rng.integers(0, 3, (n, 2))
  image = np.zeros([n, SIDE, SIDE, 1], np.float32)
  for i, (top, left) in enumerate(corner + 4 * np.stack([label // 2, label % 2], axis=1)):
    image[i, top : top + 2, left : left + 2] = 1.0
  return {"image": image, "label": label.astype("int32")}


class Encoder(keras.layers.Layer):
  """λ_0 from the image and its label."""

  def __init__(self):
    super().__init__()
    self.hidden, self.heads = keras.layers.Dense(64, "tanh"), keras.layers.Dense(2 * LATENT)

  def call(self, x):
    seen = tf.concat([tf.reshape(x["image"], [-1, SIDE**2]), tf.one_hot(x["label"], LABELS)], axis=1)
    return tf.split(self.heads(self.hidden(seen)), 2, axis=1)


class Decoder(keras.layers.Layer):
  """p(image | z, label) with independent pixels."""

  latent_dim = LATENT

  def __init__(self):
    super().__init__()
    self.net = keras.Sequential([keras.layers.Dense(64, "tanh"), keras.layers.Dense(SIDE**2)])

  def precompute(self, x, training=False, seed=None):
    return (tf.one_hot(x["label"], LABELS),)  # what does not depend on z, once per batch

  def logits(self, z, label):
    return tf.reshape(self.net(tf.concat([z, label], axis=1)), [-1, SIDE, SIDE, 1])

  def log_prob(self, x, z, context):
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=x["image"], logits=self.logits(z, *context))
    return -tf.reduce_sum(losses, axis=[1, 2, 3])


def main(epochs: int = 20, examples: int = 2000) -> np.ndarray:
  """Trains, and returns the mean images of one z with each label, `[LABELS, 8, 8, 1]`."""
  keras.utils.set_random_seed(0)
  model = SAVAE(Encoder(), Decoder(), svi=SVISettings(num_steps=5, step_size=0.1))
  model.compile(keras.optimizers.Adam(1e-2))
  model.fit(squares(examples), batch_size=100, epochs=epochs, verbose=2)
  z = tf.zeros([LABELS, LATENT])
  images = tf.sigmoid(model.decoder.logits(z, tf.one_hot(range(LABELS), LABELS))).numpy()
  for label, image in enumerate(images[..., 0]):
    ink = [image[:4, :4], image[:4, 4:], image[4:, :4], image[4:, 4:]]
    print(
      f"label {label}: share of the ink in each quarter", np.round([q.sum() / image.sum() for q in ink], 2)
    )
  return images


if __name__ == "__main__":
  main()
