"""Lagging inference: which variables an update moves, until when, and what a resumed model remembers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp
from scipy.stats import norm

from tests import tiny
from tf_savae import SAVAE
from tf_savae.errors import UserError
from tf_savae.lagging import Lagging, mutual_information
from tf_savae.posterior import GaussianParams

RATE = 0.01


def make(limit=2, optimizer=None, **options):
  encoder, decoder, x = tiny.text_lstm_networks("float32", dropout=0.0)
  model = SAVAE(encoder, decoder, "vae", lagging_updates=limit, **options)
  model.compile(optimizer or keras.optimizers.SGD(RATE))
  model.ensure_built(x)
  model.optimizer.build(model.trainable_variables)
  return model, x


def weights(network):
  return [v.numpy() for v in network.trainable_variables]


def moves(model, x):
  """Whether an update moves the encoder, and the decoder."""
  before = [weights(net) for net in (model.encoder, model.decoder)]
  model.train_on_batch(x)
  after = [weights(net) for net in (model.encoder, model.decoder)]
  return tuple(
    any(np.any(a != b) for a, b in zip(was, now, strict=True)) for was, now in zip(before, after, strict=True)
  )


ENCODER, DECODER, BOTH = (True, False), (False, True), (True, True)


def test_updates_of_the_encoder_come_before_each_of_the_decoder_until_information_falls():
  model, x = make(limit=2)
  assert [moves(model, x) for _ in range(6)] == 2 * [ENCODER, ENCODER, DECODER]
  model.lagging.after_validation(0.7)
  assert moves(model, x) == ENCODER
  model.lagging.after_validation(0.6)
  assert [moves(model, x) for _ in range(3)] == 3 * [BOTH]
  model.lagging.after_validation(0.9)  # for good
  assert moves(model, x) == BOTH
  assert int(model.step) == int(model.optimizer.iterations) == 11
  assert {name: int(count) for name, count in model.lagging.updates.items()} == {"encoder": 9, "decoder": 6}


def test_an_encoder_with_adam_and_a_decoder_with_adam_are_what_one_adam_does_for_both():
  model, x = make(limit=2, optimizer=keras.optimizers.Adam(RATE))
  alone = {name: keras.optimizers.Adam(RATE) for name in ("encoder", "decoder")}
  networks = {"encoder": model.encoder, "decoder": model.decoder}
  for optimizer, network in zip(alone.values(), networks.values(), strict=True):
    optimizer.build(network.trainable_variables)
  for step in range(6):
    variables = [v.value for v in model.trainable_variables]
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(model.method.loss(model.infer(model._training_inference(x, tf.constant(step)))))
    found = map(tf.convert_to_tensor, tape.gradient(loss, variables))
    gradients = dict(zip(map(id, model.trainable_variables), found, strict=True))
    before = [v.numpy() for v in model.trainable_variables]
    model.train_on_batch(x)
    expected = [v.numpy() for v in model.trainable_variables]
    for variable, value in zip(model.trainable_variables, before, strict=True):
      variable.assign(value)
    moved = "decoder" if step % 3 == 2 else "encoder"
    own = networks[moved].trainable_variables
    alone[moved].apply([gradients[id(v)] for v in own], own)
    for variable, value in zip(model.trainable_variables, expected, strict=True):
      np.testing.assert_allclose(variable.numpy(), value, atol=1e-6)


def test_the_encoder_is_ready_when_the_loss_of_a_window_is_not_below_that_of_the_one_before():
  def updates_until_ready(losses, limit=1000):
    lagging = Lagging(limit)
    for number, loss in enumerate(losses, 1):
      lagging.after_update(tf.constant(float(loss)), tf.constant(2.0))
      if bool(lagging.decoder_is_next.value):
        return number
    return None

  falling = [100 - i for i in range(60)]
  assert updates_until_ready(falling) is None
  assert updates_until_ready(falling, limit=40) == 40
  assert updates_until_ready([*falling[:30], *[90] * 15, *falling]) == 45
  # Single losses that rise within a window do not count.
  assert updates_until_ready([loss + 5 * (-1) ** i for i, loss in enumerate(falling)]) is None


def test_windows_are_compared_by_the_mean_over_tokens():
  lagging = Lagging(1000)
  for _ in range(15):
    lagging.after_update(tf.constant(60.0), tf.constant(10.0))
  for _ in range(15):  # longer documents: more nats, fewer per token
    lagging.after_update(tf.constant(100.0), tf.constant(20.0))
  assert not bool(lagging.decoder_is_next.value)
  _, decoder, x = tiny.text_lstm_networks()
  np.testing.assert_array_equal(decoder.num_terms(x), [5, 3, 4])


def test_the_mutual_information_is_that_of_the_batch():
  mean, log_var, noise = (tiny.normal(4, 2, seed=s) for s in range(3))
  m, s = mean.numpy(), np.exp(0.5 * log_var.numpy())
  z = m + s * noise.numpy()
  aggregate = logsumexp(norm.logpdf(z[:, None], m, s).sum(-1), axis=1) - np.log(4)
  entropy = (0.5 * np.log(2 * np.pi * np.e) + np.log(s)).sum(-1)
  expected = np.mean(-entropy) - np.mean(aggregate)
  np.testing.assert_allclose(mutual_information(GaussianParams(mean, log_var), noise), expected)


def test_fit_looks_at_the_information_of_each_validation_and_needs_one():
  model, x = make()
  history = model.fit(x, batch_size=3, epochs=2, validation_data=(x,), verbose=0).history
  assert len(history["val_mutual_information"]) == 2 and "mutual_information" not in history
  assert float(model.lagging.last_information) == pytest.approx(history["val_mutual_information"][-1])
  assert bool(model.lagging.aggressive.value) == (
    history["val_mutual_information"][0] >= 0
    and history["val_mutual_information"][1] >= history["val_mutual_information"][0]
  )
  with pytest.raises(UserError, match="validation_data"):
    model.fit(x, batch_size=3, verbose=0)


def test_a_model_that_is_saved_goes_on_where_it_was(tmp_path):
  model, x = make(limit=2)
  for _ in range(4):
    model.train_on_batch(x)
  model.lagging.after_validation(0.4)
  model.save(tmp_path / "model.keras")
  again = keras.saving.load_model(tmp_path / "model.keras")
  assert again.lagging_updates == 2 and float(again.lagging.last_information) == pytest.approx(0.4)
  assert [moves(again, x) for _ in range(2)] == [moves(model, x) for _ in range(2)] == [ENCODER, DECODER]
  for ours, theirs in zip(model.variables, again.variables, strict=True):
    np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)


def test_what_cannot_be_is_refused():
  _, decoder, _ = tiny.text_lstm_networks("float32")
  with pytest.raises(ValueError, match=r"lagging_updates.*Received: method='svi'"):
    SAVAE(None, decoder, "svi", lagging_updates=10)
  encoder, decoder, _ = tiny.text_lstm_networks("float32")
  model = SAVAE(encoder, decoder, "vae", lagging_updates=10)
  with pytest.raises(UserError, match="scales the loss"):
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE)))
