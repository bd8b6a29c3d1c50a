"""A semi-amortised VAE with Keras networks of one's own: `python -m examples.own_networks`.

Trains on 28×28 drawings for a minute, and prints the bound in nats before and after refinement.
"""

from __future__ import annotations

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tf_savae import SAVAE, SVISettings, data

LATENT = 8


class Encoder(keras.layers.Layer):
  """x `[batch, 28, 28, 1]` → λ_0: mean and log variance, each `[batch, LATENT]`."""

  def __init__(self):
    super().__init__()
    self.hidden = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(128, "tanh")])
    self.mean, self.log_var = keras.layers.Dense(LATENT), keras.layers.Dense(LATENT)

  def call(self, x):
    h = self.hidden(x)
    return self.mean(h), self.log_var(h)


class Decoder(keras.layers.Layer):
  """p(x | z) with independent pixels: all that is needed is `latent_dim` and `log_prob`."""

  latent_dim = LATENT

  def __init__(self):
    super().__init__()
    self.net = keras.Sequential([keras.layers.Dense(128, "tanh"), keras.layers.Dense(784)])

  def log_prob(self, x, z, context):  # `[batch]`, nats
    logits = tf.reshape(self.net(z), [-1, 28, 28, 1])
    return tf.reduce_sum(tfp.distributions.Bernoulli(logits=logits).log_prob(x), axis=[1, 2, 3])


def main(updates: int = 400, k: int = 10) -> dict[str, float]:
  """Trains, and returns the bounds on test drawings at λ_0 and at λ_K, nats per drawing."""
  keras.utils.set_random_seed(0)
  drawings = data.load("omniglot", data_dir="data", seed=0)
  print(f"data: {drawings.source}")
  model = SAVAE(Encoder(), Decoder(), svi=SVISettings(num_steps=k, step_size=0.02))
  model.compile(keras.optimizers.Adam(1e-3))
  model.fit(drawings.train_batches(batch_size=50, start_step=0, num_steps=updates), verbose=2)
  found = model.evaluate(drawings.eval_batches("test", 50), return_dict=True, verbose=0)
  print(
    f"−ELBO at λ_0: {found['bound_initial']:.1f}, at λ_{k}: {found['bound']:.1f} nats; KL {found['kl']:.1f}"
  )
  return found


if __name__ == "__main__":
  main()
