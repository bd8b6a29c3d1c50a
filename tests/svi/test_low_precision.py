"""A bfloat16 adjoint: the trajectory of float32, and its gradients to a percent."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.tiny import LATENT
from tf_savae import SAVAE, networks
from tf_savae.errors import UserError
from tf_savae.inference import Inference
from tf_savae.runs.config import RunConfig
from tf_savae.runs.presets import make_config
from tf_savae.seeds import Purpose
from tf_savae.svi import SVISettings, adjoint

LOW = adjoint.ExactAdjoint("bfloat16")
K = 2
SETTINGS = SVISettings(K, step_size=(0.1, 0.08), momentum=0.5, clip_norm=5.0)


class OfKerasLayers(networks.Decoder):
  """A user's decoder: plain Keras layers, which it never casts for; x `[batch, size]` from N(f(z), I)."""

  latent_dim = LATENT

  def __init__(self, size=6, **kwargs):
    super().__init__(**kwargs)
    self.hidden = keras.layers.Dense(5, "tanh", kernel_initializer=keras.initializers.RandomNormal(0, 1, 1))
    self.out = keras.layers.Dense(size, kernel_initializer=keras.initializers.RandomNormal(0, 1, 2))
    self.computed_in = set()

  def precompute(self, x, training=False, seed=None):
    return ()

  def decode(self, z):
    mean = self.out(self.hidden(z))
    self.computed_in.add(mean.dtype)
    return tf.cast(mean, self.variable_dtype)

  def log_prob(self, x, z, context):
    return -0.5 * tf.reduce_sum((x - self.decode(z)) ** 2, axis=-1)

  def sample(self, z, seed, num=None, progress=False):
    return self.decode(z)


def keras_networks(dtype, dropout):
  del dropout
  return tiny.PairEncoder(dtype=dtype), OfKerasLayers(dtype=dtype), tiny.bits(dtype=dtype)


NETWORKS = {
  "pixelcnn": tiny.image_networks,
  "lstm": tiny.lstm_networks,
  "text_lstm": tiny.text_lstm_networks,
  "dilated_conv": tiny.dilated_conv_networks,
  "keras": keras_networks,
}
every_network = pytest.mark.parametrize("name", NETWORKS)


@functools.cache
def step(name, mode, dtype="float32"):
  """Trajectory, loss, gradients for λ_0, the decoder's context and all weights including α; and the decoder."""
  encoder, decoder, x = NETWORKS[name](dtype=dtype, dropout=0.3)
  model = SAVAE(encoder, decoder, "savae", SETTINGS, adjoint=mode, learn_step_size="step", free_bits=0.01)
  model.ensure_built(x)
  with tf.GradientTape() as tape:
    batch = Inference(
      encoder,
      decoder,
      x,
      model.step_sizes.settings(K),
      step=3,
      purpose=Purpose.NOISE,
      beta=0.7,
      free_bits=0.01,
      training=True,
    )
    initial = batch.encode()
    params, trajectory, _ = batch.refine(initial, model.adjoint)
    loss = tf.reduce_mean(batch.bound(params).weighted(batch.beta))
  sources = [*initial, *batch.context, *(v.value for v in model.trainable_variables)]
  found = tape.gradient(loss, sources, unconnected_gradients="zero")
  return trajectory, loss, [tf.convert_to_tensor(g) for g in found], decoder


def distance(found, reference):
  """‖found − reference‖ / ‖reference‖ of all together."""
  flat = [np.concatenate([np.ravel(g) for g in gradients]) for gradients in (found, reference)]
  return np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1])


@every_network
def test_bfloat16_changes_the_gradients_by_a_percent_and_the_trajectory_not_at_all(name):
  trajectory, loss, gradients, _ = step(name, "exact")
  low_trajectory, low_loss, low_gradients, decoder = step(name, LOW)
  for low, full in zip([*low_trajectory, low_loss], [*trajectory, loss], strict=True):
    np.testing.assert_array_equal(low, full)
  assert {g.dtype for g in low_gradients} == {tf.float32}
  # Above 0: it did compute in bfloat16; and of λ_0 alone, whose gradient is the last and depends on all others.
  assert 1e-5 < distance(low_gradients, gradients) < 0.02
  assert 1e-5 < distance(low_gradients[:2], gradients[:2]) < 0.02
  assert decoder.compute_dtype == "float32"


def test_the_second_order_part_alone_is_in_bfloat16():
  full, low, first = (step("lstm", mode)[2] for mode in ("exact", LOW, "first_order"))
  second = np.sqrt(sum(np.sum((f - g) ** 2) for f, g in zip(full, first, strict=True)))
  assert np.sqrt(sum(np.sum((f - g) ** 2) for f, g in zip(full, low, strict=True))) < 0.03 * second


def test_layers_within_a_decoder_compute_in_bfloat16_and_only_in_the_adjoint():
  *_, decoder = step("keras", "exact")
  assert decoder.computed_in == {tf.float32}
  *_, decoder = step("keras", LOW)
  assert decoder.computed_in == {tf.float32, tf.bfloat16}
  assert {layer.compute_dtype for layer in (decoder.hidden, decoder.out)} == {"float32"}


def test_an_error_within_leaves_a_decoder_as_it_was():
  decoder = OfKerasLayers()
  with pytest.raises(ZeroDivisionError), decoder.computing_in("bfloat16"):
    assert decoder.compute_dtype == decoder.hidden.compute_dtype == "bfloat16"
    assert decoder.variable_dtype == "float32"
    raise ZeroDivisionError
  assert decoder.compute_dtype == decoder.hidden.compute_dtype == "float32"


def test_truncated_over_all_steps_is_exact_in_bfloat16_too():
  truncated = step("keras", adjoint.TruncatedAdjoint(K, "bfloat16"))[2]
  assert distance(truncated, step("keras", LOW)[2]) < 1e-5


def test_mixed_precision_keeps_losses_and_the_posterior_in_float32():
  trajectory, loss, gradients, decoder = step("text_lstm", "exact", "mixed_bfloat16")
  assert {t.dtype for t in [*trajectory, loss, *gradients[:2]]} == {tf.float32}
  assert {v.dtype for v in decoder.trainable_variables} == {"float32"}
  assert all(np.all(np.isfinite(tf.cast(g, tf.float32))) for g in gradients)
  np.testing.assert_allclose(loss, step("text_lstm", "exact")[1], rtol=0.02)


def test_gradients_of_biases_over_many_pixels_do_not_stall_in_mixed_precision():
  def gradients(dtype):
    decoder = networks.GatedPixelCNN(LATENT, 3, (3, 3), 2, dtype=dtype)
    x, z = tf.ones([4, 28, 28, 1]), tiny.normal(4, LATENT, dtype="float32")

    @tf.function
    def run():
      with tf.GradientTape() as tape:
        log_prob = tf.reduce_sum(decoder.log_prob(x, z, decoder.precompute(x)))
      return tape.gradient(log_prob, [v.value for v in decoder.weights])

    return run()

  for mixed, full in zip(gradients("mixed_bfloat16"), gradients("float32"), strict=True):
    assert distance([mixed], [full]) < 0.05


def test_a_decoder_that_cannot_is_refused_by_name():
  encoder, decoder, _ = tiny.dense_networks("float32")
  with pytest.raises(ValueError, match=r"needs a decoder with computing_in.*Received: MaskedDecoder"):
    SAVAE(encoder, decoder, "savae", SETTINGS, adjoint=LOW)


def test_an_adjoint_with_a_dtype_survives_its_config():
  for mode in (LOW, adjoint.TruncatedAdjoint(3, "bfloat16"), adjoint.ExactAdjoint()):
    assert adjoint.from_config(adjoint.to_config(mode)) == mode
  assert adjoint.from_config({"name": "exact"}) == adjoint.ExactAdjoint()  # saved before there was one


@pytest.mark.parametrize(
  "given",
  [
    {"adjoint": "finite_difference"},
    {"adjoint": "unrolled"},
    {"adjoint": "first_order"},
    {"model": "vae"},
  ],
)
def test_flags_that_have_no_product_in_bfloat16_give_one_line(given):
  with pytest.raises(UserError) as error:
    make_config(dataset="omniglot", precision="bfloat16_adjoint", **given)
  assert "--precision=bfloat16_adjoint is for a --model that learns through the refinement" in str(
    error.value
  )
  assert "and an --adjoint with a compute_dtype, such as exact" in str(error.value)
  assert f"--{next(iter(given))}={next(iter(given.values()))}" in str(error.value)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("mode", ["exact", "truncated"])
def test_a_configuration_of_bfloat16_has_float32_networks_and_survives_json(mode):
  config = make_config(dataset="text", precision="bfloat16_adjoint", adjoint=mode)
  assert RunConfig.from_dict(config.to_dict()) == config
  assert (config.network_precision, config.adjoint_dtype) == ("float32", "bfloat16")
  mixed = make_config(dataset="text", precision="mixed_bfloat16", adjoint=mode)
  assert (mixed.network_precision, mixed.adjoint_dtype) == ("mixed_bfloat16", None)
