"""BN-VAE's encoder: moments of the batch in training, moving ones otherwise, and the bound on the KL."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tf_savae import SAVAE, SVISettings
from tf_savae.errors import UserError
from tf_savae.networks import BatchNormalizedEncoder

GAMMA = 0.5


def make(dtype="float64"):
  encoder = BatchNormalizedEncoder(tiny.PairEncoder(dtype=dtype), tiny.LATENT, GAMMA)
  x = tiny.bits(20, dtype=dtype)
  encoder(x)
  return encoder, x


def test_means_are_normalised_over_the_batch_in_training():
  encoder, x = make()
  encoder.shift.assign([0.3, -1.0])
  plain = encoder.encoder(x)[0].numpy()
  expected = GAMMA * (plain - plain.mean(0)) / np.sqrt(plain.var(0) + 1e-5) + [0.3, -1.0]
  ours = encoder(x, training=True)
  np.testing.assert_allclose(ours.mean, expected, rtol=1e-6)
  np.testing.assert_array_equal(ours.log_var, encoder.encoder(x)[1])


def test_the_kl_cannot_fall_below_its_bound():
  encoder, x = make()
  kl = float(tf.reduce_mean(encoder(x, training=True).kl_to_prior()))
  assert kl >= tiny.LATENT * GAMMA**2 / 2 * (1 - 1e-3)
  # Where the plain encoder has collapsed, it is all there is.
  encoder.encoder.heads.kernel.assign(1e-1 * encoder.encoder.heads.kernel)
  encoder.encoder.heads.bias.assign(tf.zeros_like(encoder.encoder.heads.bias))
  collapsed = float(tf.reduce_mean(tiny.encode(encoder.encoder, x).kl_to_prior()))
  kept = float(tf.reduce_mean(encoder(x, training=True).kl_to_prior()))
  assert collapsed < 0.01 and kept == pytest.approx(tiny.LATENT * GAMMA**2 / 2, rel=0.02)


def test_otherwise_a_row_depends_on_itself_alone_by_the_moving_moments():
  encoder, x = make()
  for _ in range(200):
    encoder(x, training=True)
  whole = encoder(x).mean
  np.testing.assert_allclose(encoder(x[:1]).mean, whole[:1], rtol=1e-12)
  np.testing.assert_allclose(whole, encoder(x, training=True).mean, atol=1e-3)


def test_gamma_is_a_constant_and_the_shift_is_trained():
  encoder, x = make()
  names = [v.path for v in encoder.trainable_variables]
  assert sum("shift" in name for name in names) == 1 and not any("gamma" in name for name in names)
  with tf.GradientTape() as tape:
    total = tf.reduce_sum(encoder(x, training=True).mean)
  np.testing.assert_allclose(tape.gradient(total, encoder.shift.value), [20.0, 20.0])


def test_it_is_refined_trained_and_saved_as_any_encoder(tmp_path):
  encoder = BatchNormalizedEncoder(tiny.PairEncoder(), tiny.LATENT, GAMMA)
  model = SAVAE(encoder, tiny.BernoulliDecoder(), "savae", SVISettings(2, 0.1))
  model.compile(keras.optimizers.SGD(0.1))
  x = tiny.bits(8, dtype="float32")
  model.fit(x, batch_size=4, verbose=0)
  assert int(model.skipped) == 0 and np.any(encoder.normalization.moving_mean != 0)
  model.save(tmp_path / "model.keras")
  again = keras.saving.load_model(tmp_path / "model.keras")
  np.testing.assert_allclose(again.refine(x).mean, model.refine(x).mean, atol=1e-6)


def test_an_encoder_of_tokens_stays_one_of_two_parts():
  encoder, _, x = tiny.text_lstm_networks()
  wrapped = BatchNormalizedEncoder(encoder, tiny.LATENT)
  np.testing.assert_allclose(wrapped.encode_embedded(x, wrapped.embed(x)).mean, wrapped(x).mean)
  assert not hasattr(make()[0], "embed")


@pytest.mark.parametrize(("latent_dim", "gamma"), [(2, 0.0), (2, -1.0), (0, 0.5)])
def test_a_scale_that_is_not_positive_is_refused(latent_dim, gamma):
  with pytest.raises(UserError, match="must be"):
    BatchNormalizedEncoder(tiny.PairEncoder(), latent_dim, gamma)
