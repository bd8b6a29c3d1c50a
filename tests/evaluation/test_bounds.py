"""What is reported of a split equals what the model says of each example, averaged by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny_runs
from tf_savae.evaluation.bounds import Evaluator, active_units, evaluate
from tf_savae.evaluation.optimum import mean_elbo
from tf_savae.posterior import GaussianParams

BATCH = 4


@pytest.fixture(scope="module")
def data():
  return tiny_runs.image_data(valid=10)


def normal_log_prob(z, mean, log_var):
  return np.sum(-0.5 * (np.log(2 * np.pi) + log_var + (z - mean) ** 2 / np.exp(log_var)), axis=-1)


def kl_to_prior(mean, log_var):
  return 0.5 * np.sum(np.exp(log_var) + mean**2 - 1 - log_var, axis=-1)


class Recorded:
  """The latents at which a model's decoder was evaluated eagerly, and log p(x | z) there."""

  def __init__(self, model, monkeypatch):
    self.calls = []
    original = model.decoder.log_prob

    def log_prob(x, z, context):
      value = original(x, z, context)
      self.calls.append((None if z is None else np.array(z), np.array(value)))
      return value

    monkeypatch.setattr(model.decoder, "log_prob", log_prob)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["vae_svi", "svi", "autoreg"])
def test_numbers_equal_those_of_each_example_averaged_by_hand(method, data):
  model = tiny_runs.image_model(method, k=2)
  reported = evaluate(model, data, "valid", BATCH, iw_samples=1, bound_samples=1)
  assert reported["bound_samples"] == 1
  rows = {"bound": [], "kl": [], "bound_initial": [], "kl_initial": [], "mean": []}
  seen = 0
  for x in data.eval_batches("valid", BATCH):
    batch = model.inference(x, step=seen)
    params, start, _ = model.posterior(batch)
    for name, at in (("", params), ("_initial", start)):
      if at is None:
        kl, z = np.zeros(len(x)), None
      else:
        mean, log_var = at.mean.numpy(), at.log_var.numpy()
        kl = kl_to_prior(mean, log_var)
        z = tf.constant(mean + np.exp(0.5 * log_var) * batch.noise[-1].numpy())
      rows[f"kl{name}"].append(kl)
      rows[f"bound{name}"].append(kl - model.decoder.log_prob(x, z, model.decoder.precompute(x)).numpy())
    if params is not None:
      rows["mean"].append(params.mean.numpy())
    seen += len(x)
  assert seen == reported["examples"] == 10
  rows = {name: np.concatenate(parts).astype(np.float64) for name, parts in rows.items() if parts}
  assert reported["nll_bound"] == pytest.approx(rows["bound"].mean(), rel=1e-6)
  assert reported["nll_bound_se"] == pytest.approx(rows["bound"].std(ddof=1) / np.sqrt(10), rel=1e-4)
  assert reported["kl"] == pytest.approx(rows["kl"].mean(), rel=1e-5)
  if method == "vae_svi":
    assert reported["nll_bound_initial"] == pytest.approx(rows["bound_initial"].mean(), rel=1e-6)
    assert reported["kl_initial"] == pytest.approx(rows["kl_initial"].mean(), rel=1e-5)
    gain = rows["bound_initial"] - rows["bound"]
    assert reported["refinement_gain"] == pytest.approx(gain.mean(), abs=1e-5)
    assert reported["refinement_gain_se"] == pytest.approx(gain.std(ddof=1) / np.sqrt(10), rel=1e-2)
  else:
    assert "nll_bound_initial" not in reported
  if method == "autoreg":
    assert reported["nll_iw"] == pytest.approx(reported["nll_bound"])
    assert reported["iw_samples"] == 1
    assert "active_units" not in reported
  else:
    assert reported["active_units"] == np.sum(rows["mean"].var(axis=0) > 0.01)


@pytest.mark.slow
def test_a_bound_of_many_draws_is_the_mean_over_pairs_at_the_same_noise_for_both_posteriors(
  data, monkeypatch
):
  model = tiny_runs.image_model("vae_svi", k=2)
  reported = evaluate(model, data, "valid", BATCH, iw_samples=1, bound_samples=4)
  assert reported["bound_samples"] == 4
  bounds, seen = {"_initial": [], "": []}, 0
  for x in data.eval_batches("valid", BATCH):
    batch = model.inference(x, step=seen)
    params, start, _ = model.posterior(batch)
    noise = []
    for name, at in (("_initial", start), ("", params)):
      with monkeypatch.context() as patch:
        recorded = Recorded(model, patch)
        tf.config.run_functions_eagerly(True)
        mean_elbo(batch, at, 4)
        tf.config.run_functions_eagerly(False)
      mean, log_var = at.mean.numpy(), at.log_var.numpy()
      draws = np.stack([(z - mean) / np.exp(0.5 * log_var) for z, _ in recorded.calls])
      np.testing.assert_allclose(draws[0::2], -draws[1::2], atol=1e-4)
      noise.append(draws)
      nll = -np.mean([log_p for _, log_p in recorded.calls], axis=0)
      bounds[name].append(nll + kl_to_prior(mean, log_var))
    np.testing.assert_allclose(*noise, atol=1e-4)
    seen += len(x)
  for name, rows in bounds.items():
    assert reported[f"nll_bound{name}"] == pytest.approx(np.concatenate(rows).mean(), rel=1e-5)


def test_many_draws_estimate_the_same_bound_with_less_noise(data):
  model = tiny_runs.image_model("vae", eval_k=0)
  x = data.examples("valid", BATCH)
  batch = model.inference(x)
  params = batch.start()
  noise = np.random.default_rng(0).normal(size=[2000, BATCH, tiny_runs.LATENT]).astype(np.float32)
  draws = np.stack([batch.objective.bound(params, e, x, batch.context).neg_elbo for e in noise])
  many = [-mean_elbo(model.inference(x, step=step), params, 16).numpy() for step in range(20)]
  error = np.hypot(draws.std(axis=0) / np.sqrt(2000), np.std(many, axis=0) / np.sqrt(20))
  assert np.all(np.abs(draws.mean(axis=0) - np.mean(many, axis=0)) < 4 * error)
  assert np.all(np.std(many, axis=0) < 0.5 * draws.std(axis=0))


@pytest.mark.parametrize("number", [0, 3, -2])
def test_draws_that_make_no_pairs_are_refused(number):
  with pytest.raises(ValueError, match="bound_samples"):
    Evaluator(tiny_runs.image_model("vae", eval_k=0), 1, number)


@pytest.mark.slow
def test_the_likelihood_is_the_mean_weight_of_draws_from_the_refined_posterior(data, monkeypatch):
  model = tiny_runs.image_model("vae_svi", k=1)
  evaluator = Evaluator(model, iw_samples=3)
  reported = evaluator(data, "valid", BATCH)
  log_likelihood, seen = [], 0
  for x in data.eval_batches("valid", BATCH):
    batch = model.inference(x, step=seen)
    params = model.posterior(batch)[0]
    mean, log_var = params.mean.numpy(), params.log_var.numpy()
    with monkeypatch.context() as patch:
      recorded = Recorded(model, patch)
      batch.log_likelihood(params, 3)
    weights = [
      log_p + normal_log_prob(z, 0.0, np.zeros_like(z)) - normal_log_prob(z, mean, log_var)
      for z, log_p in recorded.calls
    ]
    assert len(weights) == 3
    log_likelihood.append(np.log(np.mean(np.exp(np.float64(weights)), axis=0)))
    seen += len(x)
  log_likelihood = np.concatenate(log_likelihood)
  assert reported["nll_iw"] == pytest.approx(-log_likelihood.mean(), rel=1e-5)
  assert reported["nll_iw_se"] == pytest.approx(log_likelihood.std(ddof=1) / np.sqrt(10), rel=1e-3)
  assert reported["iw_samples"] == 3


@pytest.mark.slow
def test_an_evaluator_is_traced_once_sees_new_weights_and_repeats_itself(data):
  model = tiny_runs.image_model("vae", eval_k=0)
  model.ensure_built(data.examples("valid", 1))
  evaluator, counts = Evaluator(model, iw_samples=2), []
  first = evaluator(data, "valid", BATCH, counts.append)  # 4, 4 and 2 examples
  assert counts == [4, 4, 2]
  assert evaluator(data, "valid", BATCH) == first
  evaluator(data, "test", BATCH)
  assert evaluator._step.experimental_get_tracing_count() == 1
  for variable in model.decoder.trainable_variables:
    variable.assign(variable + 0.3)
  assert evaluator(data, "valid", BATCH)["nll_bound"] != first["nll_bound"]
  assert evaluator._step.experimental_get_tracing_count() == 1


@pytest.mark.slow
def test_numbers_are_of_the_examples_and_not_of_how_they_are_batched(data):
  # A posterior so narrow that noise does not matter: then nothing else may depend on the batch.
  model = tiny_runs.image_model("vae", eval_k=0)
  narrow = lambda mean, log_var: GaussianParams(mean, log_var - 60.0)  # noqa: E731
  encode = model.encoder.call
  model.encoder.call = lambda *args, **kwargs: narrow(*encode(*args, **kwargs))
  one, other = (evaluate(model, data, "valid", size, 1) for size in (10, 3))
  for name in ("nll_bound", "nll_bound_se", "kl", "active_units", "examples"):
    assert one[name] == pytest.approx(other[name], rel=1e-5)


def test_a_latent_is_active_if_its_mean_varies_over_examples():
  rng = np.random.default_rng(0)
  means = rng.normal(size=(1000, 3)) * [1.0, 0.05, 0.2] + [0.0, 5.0, 1e4]
  assert active_units(means.astype(np.float32)) == 2
