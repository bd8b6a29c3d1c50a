"""The two parts of the gap where they are known, and on images, tokens and documents."""

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny, tiny_runs
from tf_savae import SAVAE, SVISettings
from tf_savae.evaluation import inference_gap, optimum
from tf_savae.evaluation.optimum import Search
from tf_savae.posterior import GaussianParams

SEARCH = Search(steps=300, draws=8, learning_rate=0.1)


def linear_gaussian(latent=3):
  """A model whose encoder knows nothing of the truth, three observations, and the precision of their posteriors."""
  decoder = tiny.GaussianDecoder(3, latent, dtype="float64")
  model = SAVAE(tiny.PairEncoder(latent, dtype="float64"), decoder, "vae", SVISettings(0), dtype="float64")
  kernel = decoder.kernel.numpy()
  return model, tiny.normal(3, 3, seed=5), np.eye(latent) + kernel @ kernel.T / decoder.scale**2


@pytest.fixture(scope="module")
def found():
  model, x, _ = linear_gaussian()
  parts = tf.function(lambda x: optimum.gap_parts(model, x, 0, SEARCH, bound_draws=400, iw_samples=4000))
  return parts(x)


def exact_elbo(model, x, params):
  """E ‖x − A z − b‖² = ‖x − A μ − b‖² + Σ_j σ_j² ‖a_j‖²."""
  decoder = model.decoder
  spread = tf.reduce_sum(tf.exp(params.log_var) * tf.reduce_sum(decoder.kernel.value**2, axis=1), axis=1)
  return decoder.log_prob(x, params.mean, ()) - 0.5 * spread / decoder.scale**2 - params.kl_to_prior()


def test_the_optimum_of_a_linear_gaussian_is_its_closed_form(found):
  model, x, precision = linear_gaussian()
  decoder = model.decoder
  offset = (x.numpy() - decoder.bias.numpy()) @ decoder.kernel.numpy().T / decoder.scale**2
  np.testing.assert_allclose(found.best.mean, offset @ np.linalg.inv(precision), atol=0.05)
  np.testing.assert_allclose(found.best.log_var, [-np.log(np.diag(precision))] * 3, atol=0.12)
  approximation = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
  assert approximation > 0.05
  at_best = decoder.exact_log_prob(x) - exact_elbo(model, x, found.best)
  np.testing.assert_allclose(at_best, approximation, atol=5e-3)
  halfway = decoder.exact_log_prob(x) - found.elbo_halfway
  assert np.all(halfway < approximation + 0.3)


def test_estimates_are_those_of_the_closed_forms(found):
  model, x, _ = linear_gaussian()
  np.testing.assert_allclose(found.log_likelihood, model.decoder.exact_log_prob(x), atol=0.05)
  np.testing.assert_allclose(found.elbo_best, exact_elbo(model, x, found.best), atol=0.3)
  np.testing.assert_allclose(found.elbo, exact_elbo(model, x, found.params), rtol=0.1)
  assert np.min(found.elbo_best - found.elbo) > 0.1  # the encoder knows nothing


def test_the_mean_bound_is_that_of_all_its_draws():
  model, x, _ = linear_gaussian()
  batch = model.inference(x)
  params = batch.encode()
  values = tf.function(lambda: optimum.mean_elbo(batch, params, 4000))()
  np.testing.assert_allclose(values, exact_elbo(model, x, params), rtol=0.02)


def test_the_gradient_left_at_an_optimum_is_small_and_elsewhere_what_a_natural_step_gains():
  model, x, precision = linear_gaussian()
  batch = model.inference(x)
  at_best = found_best(model, x, precision)
  mean = at_best.mean + 0.3 * at_best.stddev[:, :1] * np.eye(3)[0]
  left, away = tf.function(
    lambda: [
      optimum.gradient_left(batch, at, 4000) for at in (at_best, GaussianParams(mean, at_best.log_var))
    ]
  )()
  assert np.all(np.abs(left.gain) < 2e-3) and np.all(left.norm < 0.2)
  # Here −ELBO is quadratic in μ. A natural step along one latent whose variance is that of the posterior, given the
  # others, gains what moving it cost; the others answer with their correlations.
  correlation = precision[0] ** 2 / (precision[0, 0] * np.diag(precision))
  np.testing.assert_allclose(away.gain, 0.5 * 0.3**2 * correlation.sum(), rtol=0.2)
  np.testing.assert_allclose(away.norm, np.sqrt(2 * away.gain), rtol=0.3)


def found_best(model, x, precision):
  """λ* of a linear Gaussian in closed form."""
  decoder = model.decoder
  offset = (x.numpy() - decoder.bias.numpy()) @ decoder.kernel.numpy().T / decoder.scale**2
  mean = offset @ np.linalg.inv(precision)
  return GaussianParams(tf.constant(mean), tf.constant([-np.log(np.diag(precision))] * len(mean)))


def test_a_restart_counts_only_where_it_is_better():
  model, x, _ = linear_gaussian()
  search = Search(steps=20, draws=2, learning_rate=0.3, restarts=2)
  parts = tf.function(lambda x: optimum.gap_parts(model, x, 0, search, bound_draws=40, iw_samples=10))(x)
  assert np.all(parts.elbo_best >= parts.elbo_first) and np.any(parts.elbo_best > parts.elbo_first)


def test_an_example_s_optimum_does_not_depend_on_its_batch_mates(found):
  model, x, _ = linear_gaussian()
  batch = model.inference(x[:2])
  alone = tf.function(lambda: optimum.find_optimum(batch, batch.encode(), SEARCH))()
  np.testing.assert_allclose(alone.params.mean, found.best.mean[:2], rtol=1e-9)


@pytest.mark.parametrize("build", [tiny.image_networks, tiny.text_lstm_networks], ids=["images", "documents"])
def test_images_and_documents_have_gaps_too(build):
  encoder, decoder, x = build("float32")
  model = SAVAE(encoder, decoder, "vae", SVISettings(0))
  parts = tf.function(
    lambda x: optimum.gap_parts(model, x, 0, Search(100, 4, 0.2), bound_draws=100, iw_samples=50)
  )
  found = parts(x)
  assert found.elbo_best.shape == found.log_likelihood.shape == (len(x),)
  assert np.mean(found.elbo_best) > np.mean(found.elbo) > -np.inf
  assert np.all(np.isfinite(found.best.mean)) and np.all(np.isfinite(found.elbo_initial))


@pytest.fixture(scope="module")
def tokens():
  data, model = tiny_runs.token_data(), tiny_runs.token_model("vae", k=0)
  rows = inference_gap.per_example(
    model,
    data,
    "test",
    7,
    4,
    SEARCH,
    bound_draws=400,
    iw_samples=2000,
    grid_size=31,
    true_decoder=model.decoder,
  )
  return data, model, rows


def test_estimates_agree_with_the_grid(tokens):
  _, _, rows = tokens
  assert {len(value) for value in rows.values()} == {7}
  for name in ("bound_initial", "bound", "bound_best", "nll"):
    np.testing.assert_allclose(rows[name], rows[f"grid_{name}"], atol=0.03, err_msg=name)
  np.testing.assert_array_equal(rows["true_nll"], rows["grid_nll"])
  assert np.all(rows["grid_nll"] <= rows["grid_bound_best"] + 1e-6)
  for name in ("bound", "bound_initial"):
    assert np.all(rows["grid_bound_best"] <= rows[f"grid_{name}"] + 1e-6)


def test_the_parts_sum_to_the_whole_and_say_how_sure_they_are(tokens):
  result = inference_gap.summary(tokens[2])
  for part in (result, result["grid"]):
    assert part["approximation_gap"] + part["amortisation_gap"] == pytest.approx(part["inference_gap"])
    assert 0 < part["inference_gap_se"] < 1
  assert result["grid"]["amortisation_gap_initial"] > 0
  assert result["examples"] == 7 and result["grid"]["largest_step_error"] < 1e-3
  assert result["gap_to_truth"] == pytest.approx(result["inference_gap"], abs=0.05)


@pytest.mark.parametrize("wrong", [{"steps": 1}, {"draws": 3}, {"draws": 0}, {"learning_rate": 0.0}])
def test_a_search_that_is_none_is_refused(wrong):
  with pytest.raises(ValueError, match="Received: Search"):
    Search(**wrong)


def test_a_model_without_latent_has_no_gap():
  data, model = tiny_runs.image_data(), tiny_runs.image_model("autoreg")
  with pytest.raises(ValueError, match="has no posterior"):
    optimum.gap_parts(model, data.examples("test", 2), 0, SEARCH)
