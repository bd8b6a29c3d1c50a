"""Observations of which some parts were not seen: their bounds, their refinement and their completion."""

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny, tiny_runs
from tests.tiny import relative_error
from tf_savae import SAVAE, SVISettings, masking
from tf_savae.errors import UserError
from tf_savae.inference import Inference
from tf_savae.likelihoods import LogisticMixture
from tf_savae.networks import (
  ConditionalDecoder,
  ConvDecoder,
  GatedPixelCNN,
  LatePixelCNN,
  MLPDecoder,
  ResNetEncoder,
)
from tf_savae.posterior import GaussianParams

SIDE, LATENT, BATCH = 6, 2, 3
GREY, COLOUR = (SIDE, SIDE, 1), (SIDE, SIDE, 3)
MAKERS = {
  "pixelcnn": lambda **k: GatedPixelCNN(LATENT, 3, (3, 3), 1, GREY, **k),
  "colour_pixelcnn": lambda **k: GatedPixelCNN(
    LATENT, 3, (3, 3), 1, COLOUR, likelihood=LogisticMixture(2, levels=8), **k
  ),
  "late_pixelcnn": lambda **k: LatePixelCNN(LATENT, 3, (3, 3), GREY, **k),
  "conv": lambda **k: ConvDecoder(LATENT, COLOUR, LogisticMixture(2, levels=8), width=3, **k),
  "mlp": lambda **k: MLPDecoder(LATENT, GREY, units=(4,), **k),
}
every_decoder = pytest.mark.parametrize("name", MAKERS)
UPPER = np.zeros([SIDE, SIDE])
UPPER[:3] = 1
SCATTERED = np.random.default_rng(5).integers(0, 2, [BATCH, SIDE, SIDE])


def decoder_of(name, dtype="float64"):
  decoder = MAKERS[name](dtype=dtype)
  for i, v in enumerate(decoder.weights):
    v.assign_add(tf.cast(0.3 * tiny.normal(*v.shape, seed=i), v.dtype))
  return decoder


def images(decoder, dtype="float64"):
  x = np.random.default_rng(1).integers(0, 8, [BATCH, *decoder.image_shape]) / 7
  return tf.constant(np.round(x) if decoder.image_shape[-1] == 1 else x, dtype)


def masked(name, mask):
  decoder = decoder_of(name)
  x = images(decoder)
  return decoder, x, masking.Masked(decoder, masking.mask_for(decoder, x, mask))


def log_prob(decoder, x, z):
  return decoder.log_prob(x, z, decoder.precompute(x))


@every_decoder
def test_parts_sum_to_the_whole(name):
  decoder = decoder_of(name)
  x, z = images(decoder), tiny.normal(BATCH, LATENT)
  parts = decoder.log_prob_of_parts(x, z, decoder.precompute(x))
  assert parts.shape[:-1] == x.shape[:-1]
  np.testing.assert_allclose(tf.reduce_sum(parts, [1, 2, 3]), log_prob(decoder, x, z), rtol=1e-12)
  all_seen = masked(name, np.ones([SIDE, SIDE]))[2]
  np.testing.assert_allclose(log_prob(all_seen, x, z), log_prob(decoder, x, z), rtol=1e-12)


@pytest.mark.parametrize("name", ["pixelcnn", "late_pixelcnn", "mlp"])
def test_of_first_pixels_it_is_the_sum_over_all_that_may_follow(name):
  """The definition of log p(x_seen | z): all ways to fill in three unseen pixels, which come last."""
  mask = np.ones(SIDE * SIDE)
  mask[-3:] = 0
  decoder, x, observed = masked(name, mask.reshape(SIDE, SIDE))
  z = tiny.normal(BATCH, LATENT)
  ways = []
  for number in range(8):
    filled = x.numpy().reshape(BATCH, -1)
    filled[:, -3:] = [number >> i & 1 for i in range(3)]
    ways.append(log_prob(decoder, tf.constant(filled.reshape(x.shape)), z))
  known = masking.seen(decoder, x, observed._mask)
  np.testing.assert_allclose(
    log_prob(observed, known, z), tf.reduce_logsumexp(tf.stack(ways), axis=0), rtol=1e-10
  )


def test_of_independent_pixels_it_is_the_sum_over_those_that_were_seen():
  decoder, x, observed = masked("mlp", SCATTERED)
  z = tiny.normal(BATCH, LATENT)
  logits = decoder(x, z).numpy()
  each = x * logits - np.logaddexp(0, logits)
  expected = np.sum(each * SCATTERED[..., np.newaxis], axis=(1, 2, 3))
  np.testing.assert_allclose(log_prob(observed, x, z), expected, rtol=1e-10)


def test_the_closed_form_is_the_mean_over_z():
  _, x, observed = masked("late_pixelcnn", UPPER)
  params = GaussianParams(tiny.normal(BATCH, LATENT), tiny.normal(BATCH, LATENT, seed=1) - 2)
  context = observed.precompute(x)
  draws = [params.sample(tiny.normal(BATCH, LATENT, seed=s)) for s in range(4000)]
  values = np.stack([observed.log_prob(x, z, context) for z in draws])
  error = values.std(axis=0) / np.sqrt(len(values))
  assert np.all(np.abs(observed.expected_log_prob(x, params, context) - values.mean(axis=0)) < 4 * error)


@pytest.mark.parametrize(
  ("name", "mask"), [("colour_pixelcnn", None), ("colour_pixelcnn", SCATTERED), ("late_pixelcnn", SCATTERED)]
)
def test_exact_gradients_are_those_of_the_unrolled_refinement(name, mask):
  found = []
  encoder = ResNetEncoder(LATENT, (3,), dtype="float64")
  decoder = decoder_of(name)
  x = images(decoder)
  encoder(x)
  draws = "quadrature" if name == "late_pixelcnn" else "independent"
  for adjoint in ("exact", "unrolled"):
    with tf.GradientTape() as tape:
      settings = SVISettings(2, 0.05, draws=draws)
      inference = Inference(encoder, decoder, x, settings, dtype="float64", mask=mask)
      loss = tf.reduce_mean(inference.infer(refines=True, adjoint=adjoint).final.neg_elbo)
    variables = [v.value for v in [*encoder.trainable_variables, *decoder.trainable_variables]]
    gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
    found.append(np.concatenate([np.ravel(g) for g in gradients]))
  assert np.abs(found[0]).max() > 1e-3
  assert relative_error(*found) < 1e-9


def model_of(decoder=None):
  model = SAVAE(
    ResNetEncoder(LATENT, (3,)), decoder or decoder_of("pixelcnn", "float32"), svi=SVISettings(2, 0.05)
  )
  model.compile("sgd")
  return model


def test_values_that_were_not_seen_never_matter():
  model, x = model_of(), images(decoder_of("pixelcnn"), "float32").numpy()
  other = np.where(SCATTERED[..., np.newaxis] > 0, x, np.float32(np.nan))
  for function in (
    lambda x: tf.concat(model.refine(x, mask=SCATTERED), axis=-1),
    lambda x: model.elbo(x, mask=SCATTERED),
    lambda x: model.log_likelihood(x, 3, mask=SCATTERED),
    lambda x: model.complete(x, SCATTERED),
  ):
    np.testing.assert_array_equal(function(x), function(other))
    assert np.isfinite(function(other)).all()


def test_the_bound_and_the_refinement_are_those_of_what_was_seen():
  model, x = model_of(decoder_of("mlp", "float32")), images(decoder_of("mlp"), "float32")
  model.ensure_built(x)
  for v in model.encoder.trainable_variables:
    v.assign_add(0.3 * tiny.normal(*v.shape, dtype="float32"))
  everything = model.elbo(x)
  np.testing.assert_allclose(model.elbo(x, mask=np.ones(GREY)), everything, rtol=1e-5)
  inference = model.inference(x, mask=UPPER)
  params = model.posterior(inference)[0]
  z = params.sample(inference.noise[-1])
  logits = model.decoder(x, z).numpy()[:, :3]
  nll = -np.sum(x[:, :3] * logits - np.logaddexp(0, logits), axis=(1, 2, 3))
  kl = 0.5 * np.sum(np.exp(params.log_var) + params.mean**2 - 1 - params.log_var, axis=-1)
  np.testing.assert_allclose(model.elbo(x, mask=UPPER), -nll - kl, rtol=1e-4)
  nothing = model.refine(x, k=60, mask=np.zeros(GREY))  # climbs to the prior
  start = model.encode(tf.zeros_like(x))
  assert np.abs(nothing.mean).max() < 0.2 * np.abs(start.mean).max()


@every_decoder
def test_completion_keeps_what_was_seen_and_draws_the_rest(name):
  decoder = decoder_of(name, "float32")
  x, z = images(decoder, "float32"), tiny.normal(BATCH, LATENT, dtype="float32")
  mask = masking.mask_for(decoder, x, SCATTERED)
  drawn, again, other = (masking.complete(decoder, x, mask, z, seed) for seed in ([1, 2], [1, 2], [1, 3]))
  np.testing.assert_array_equal(drawn, again)
  kept = np.broadcast_to(mask > 0, x.shape)
  np.testing.assert_array_equal(drawn.numpy()[kept], x.numpy()[kept])
  assert np.any(drawn != other)
  assert set(np.unique(np.round(7 * drawn.numpy(), 4))) <= set(range(8))


def test_completed_pixels_have_the_models_probabilities():
  decoder = GatedPixelCNN(LATENT, 3, (3, 3), 1, (2, 2, 1), dtype="float64")
  for i, v in enumerate(decoder.weights):
    v.assign(0.7 * np.random.default_rng(i).normal(size=v.shape))
  num, mask = 20_000, np.array([[[[1.0], [0.0]], [[1.0], [0.0]]]])
  x, z = np.array([[[[1.0], [0.0]], [[0.0], [0.0]]]]), np.array([[0.4, -0.9]])
  drawn = decoder.complete(*(np.repeat(v, num, axis=0) for v in (x, mask, z)), (1, 2)).numpy()
  frequencies = np.bincount((drawn[:, 0, 1, 0] * 2 + drawn[:, 1, 1, 0]).astype(int), minlength=4) / num
  for way in range(4):
    filled = x.copy()
    filled[0, 0, 1, 0], filled[0, 1, 1, 0] = way >> 1, way & 1
    parts = decoder.log_prob_of_parts(filled, z, decoder.precompute(filled)).numpy()[0, :, 1, 0]
    p = np.exp(parts.sum())  # of both unseen pixels, each given all before it
    assert abs(frequencies[way] - p) < 5 * np.sqrt(p * (1 - p) / num)


def test_a_conditional_model_completes_the_image_under_its_label():
  decoder = ConditionalDecoder(MLPDecoder(LATENT + 2, GREY, units=(4,)), 2)
  image = images(decoder_of("mlp"), "float32")
  x, z = {"image": image, "label": tf.constant([0, 1, 0])}, tf.zeros([BATCH, LATENT])
  mask = masking.mask_for(decoder, x, UPPER)
  inner = decoder.decoder
  both = tf.concat([z, tf.one_hot(x["label"], 2)], axis=-1)
  observed = masking.Masked(decoder, mask)
  expected = masking.Masked(inner, mask)
  np.testing.assert_allclose(log_prob(observed, x, z), log_prob(expected, image, both), rtol=1e-6)
  drawn = masking.complete(decoder, x, mask, z, [1, 2], condition=x["label"])
  np.testing.assert_array_equal(drawn[:, :3], image[:, :3])
  emptied = masking.seen(decoder, x, mask)
  assert emptied["label"] is x["label"] and not np.any(emptied["image"][:, 3:])


@pytest.mark.parametrize("shape", [(6, 6), (6, 6, 1), (1, 6, 6), (BATCH, 6, 6), (BATCH, 6, 6, 1)])
def test_a_mask_is_for_one_or_for_all(shape):
  decoder = decoder_of("mlp", "float32")
  x = images(decoder, "float32")
  mask = np.ones(shape)
  mask.reshape(-1, 6, 6)[..., 2] = 0
  found = masking.mask_for(decoder, x, mask)
  assert found.shape == (BATCH, 6, 6, 1) and found.dtype == tf.float32
  np.testing.assert_array_equal(found, np.broadcast_to(np.reshape(mask, [-1, 6, 6, 1]), found.shape))


def test_a_wrong_mask_is_one_line():
  model, x = model_of(), images(decoder_of("pixelcnn"), "float32")
  for mask, message in (
    (np.ones([5, 6]), r"of shape \[6, 6, 1\] has that shape.*received \[5, 6\]"),
    (np.full(GREY, 0.5), "received float64 from 0.5 to 0.5; threshold it"),
    (np.ones([2, BATCH, 6, 6, 1]), r"received \[2, 3, 6, 6, 1\]"),
  ):
    with pytest.raises(UserError, match=message):
      model.refine(x, mask=mask)
  colour = decoder_of("conv")
  with pytest.raises(UserError, match=r"one number per pixel; received \[3, 6, 6, 3\]"):
    masking.mask_for(colour, images(colour), np.ones([BATCH, *COLOUR]))
  plain = SAVAE(None, tiny.BernoulliDecoder(), "svi", SVISettings(1, 0.1))
  with pytest.raises(UserError, match="log_prob_of_parts; BernoulliDecoder has none"):
    plain.elbo(tiny.bits(dtype="float32"), mask=np.ones(6))


def test_a_model_without_latent_completes_too():
  data = tiny_runs.image_data()
  model = tiny_runs.image_model("autoreg")
  x = data.examples("valid", 2)
  drawn = model.complete(x, np.eye(8))
  assert np.all(np.where(np.eye(8)[np.newaxis, ..., np.newaxis] > 0, drawn == x, True))
