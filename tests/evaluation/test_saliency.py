"""Saliency against central differences, through the refinement."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tf_savae import SAVAE, SVISettings, tokens
from tf_savae.evaluation import saliency
from tf_savae.inference import encode
from tf_savae.posterior import GaussianParams

TEXT = {
  "late": tiny.late_text_lstm_networks,
  "state": tiny.text_lstm_networks,
  "convolutions": tiny.dilated_conv_networks,
}


def model_of(networks, method="savae", k=3):
  encoder, decoder, x = networks("float64", dropout=0.0)
  return SAVAE(encoder, decoder, method, SVISettings(k, 0.2, rule="natural"), eval_k=k, dtype="float64"), x


def refined(model, x, start):
  """λ_K from a given λ_0, by the steps of evaluation."""
  batch = model.inference(x)
  return batch.refine(GaussianParams(*start), None)[0] if batch.settings.num_steps else start


def targets(params):
  return {
    "mean": np.linalg.norm(params.mean, axis=-1),
    "entropy": 0.5 * np.sum(params.log_var, axis=-1),
  }


@pytest.mark.parametrize("method, k", [("savae", 3), ("vae", 0), ("vae_svi", 2)])
@pytest.mark.parametrize("networks", TEXT.values(), ids=list(TEXT))
def test_of_tokens_is_the_norm_of_central_differences(networks, method, k):
  model, x = model_of(networks, method, k)
  found = saliency.of_inputs(model, x)
  embedded, h = model.encoder.embed(x).numpy(), 1e-6
  row, position = 1, 1
  gradient = {name: [] for name in found}
  for i in range(embedded.shape[-1]):
    ends = []
    for sign in (1, -1):
      moved = embedded.copy()
      moved[row, position, i] += sign * h
      ends.append(targets(refined(model, x, model.encoder.encode_embedded(x, tf.constant(moved)))))
    for name in found:
      gradient[name].append((ends[0][name][row] - ends[1][name][row]) / (2 * h))
  for name, parts in gradient.items():
    assert float(found[name][row, position]) == pytest.approx(np.linalg.norm(parts), rel=1e-6)
    assert np.linalg.norm(parts) > 1e-6


def test_of_pixels_is_the_absolute_central_difference():
  model, x = model_of(tiny.image_networks)
  found = saliency.of_inputs(model, x)
  assert found["mean"].shape == x.shape[:3]
  h, (row, i, j) = 1e-6, (1, 2, 1)
  ends = []
  for sign in (1, -1):
    moved = np.array(x)
    moved[row, i, j, 0] += sign * h
    start = encode(model.encoder, tf.constant(moved), False, "float64")
    ends.append(targets(refined(model, x, start)))
  for name in found:
    difference = (ends[0][name][row] - ends[1][name][row]) / (2 * h)
    assert float(found[name][row, i, j]) == pytest.approx(abs(difference), rel=1e-5)


def test_the_steps_change_it():
  model, x = model_of(TEXT["late"])
  before = saliency.of_inputs(SAVAE(model.encoder, model.decoder, "vae", dtype="float64"), x)["mean"]
  assert np.max(np.abs(saliency.of_inputs(model, x)["mean"] - before)) > 1e-4


@pytest.mark.parametrize("networks", TEXT.values(), ids=list(TEXT))
class TestOfOutputs:
  def test_is_the_norm_of_the_jacobian(self, networks):
    model, x = model_of(networks)
    z = tf.constant(tiny.normal(x.shape[0], tiny.LATENT, seed=1))
    context = model.decoder.precompute(x)
    _, found = saliency._with_jacobian(lambda z: saliency._token_log_probs(model.decoder, x, z, context), z)
    with tf.GradientTape(persistent=True) as tape:
      tape.watch(z)
      value = saliency._token_log_probs(model.decoder, x, z, context)
    reference = tape.batch_jacobian(value, z, experimental_use_pfor=False)
    np.testing.assert_allclose(found, reference, rtol=1e-9, atol=1e-12)

  def test_the_losses_of_the_tokens_sum_to_that_of_the_document(self, networks):
    model, x = model_of(networks)
    found = saliency.of_outputs(model, x, num_samples=1)
    seed = saliency.stateless_seed(model.seed, tf.constant(0, tf.int64), saliency.Purpose.NOISE)
    seed = tf.random.experimental.stateless_fold_in(seed, 0)
    params = model.refine(x)
    z = params.sample(tf.random.stateless_normal(params.mean.shape, seed, dtype=tf.float64))
    nll = -model.decoder.log_prob(x, z, model.decoder.precompute(x))
    np.testing.assert_allclose(np.sum(found["loss"], axis=1), nll, rtol=1e-9)
    padding = ~tokens.is_token(x).numpy()
    assert not np.any(found["output"].numpy()[padding]) and np.all(found["output"].numpy()[~padding] > 0)


def test_what_it_cannot_be_computed_for_is_refused():
  model, x = model_of(tiny.image_networks)
  with pytest.raises(ValueError, match=r"needs a SequenceDecoder with a latent. Received: GatedPixelCNN"):
    saliency.of_outputs(model, x)
  without, x = model_of(TEXT["state"], "svi")
  with pytest.raises(ValueError, match=r"with an encoder. Received: 'svi'"):
    saliency.of_inputs(without, x)
