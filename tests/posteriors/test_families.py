"""The posterior families: densities, KLs and gradients of each against independent definitions."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests import tiny
from tests.tiny import normal, relative_error
from tf_savae import SAVAE, SVISettings
from tf_savae.evaluation import grid, latents, optimum
from tf_savae.networks import FullCovarianceEncoder
from tf_savae.objective import NegELBO
from tf_savae.posterior import prior
from tf_savae.posteriors import POSTERIORS, PosteriorFamily
from tf_savae.posteriors.inverse_autoregressive import FlowNetwork, masks
from tf_savae.svi.refine import refine
from tf_savae.svi.rules import Rule

tfd = tfp.distributions
RULES = {"gradient": {"clip_norm": 0.5, "momentum": 0.5}, "natural": {}, "adam": {}}


def made(
  name: str, latent_dim: int = tiny.LATENT, dtype: str = "float64", scale: float = 0.4
) -> PosteriorFamily:
  """A family; the network of one that has one has random weights everywhere."""
  family = POSTERIORS.get(name)()
  if not family.trained:
    return family
  family = dataclasses.replace(family, hidden=5)
  network = family.make_network(latent_dim, seed=1, dtype=dtype)
  for i, variable in enumerate(network.variables):
    variable.assign(scale * normal(*variable.shape, seed=20 + i, dtype=dtype))
  return dataclasses.replace(family, network=network)


def start(family: PosteriorFamily, latent_dim: int = tiny.LATENT, batch: int = tiny.BATCH):
  """A λ of the family with nothing at 0."""
  packed = 0.4 * normal(batch, family.kind.size(latent_dim), seed=3)
  return family.kind.unpack(packed)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["full", "iaf"])
def test_the_exact_gradient_is_the_unrolled_one_for_lambda_0_decoder_step_sizes_and_flow(name, rule):
  _, decoder, x = tiny.dense_networks()
  context = decoder.precompute(x, training=True, seed=tiny.SEED)
  family = made(name)
  objective = NegELBO(decoder, family=family)
  conditions = (x, tf.constant(0.7, tf.float64), context)
  weights = [decoder.kernel, decoder.bias, *(family.network.trainable_variables if family.trained else [])]
  sizes = tf.Variable(0.05 + 0.01 * normal(3, 2, tiny.LATENT, seed=5) ** 2)
  noise = normal(3, 2, tiny.BATCH, tiny.LATENT, seed=6)

  def gradients(adjoint):
    initial = tf.constant(start(family).pack())
    with tf.GradientTape() as tape:
      tape.watch([initial, *context])
      settings = SVISettings(3, sizes, num_samples=2, rule=rule, **RULES[rule])
      options = {"noise": noise, "context": (*conditions[:2], context), "adjoint": adjoint}
      params, trajectory = refine(objective, family.kind.unpack(initial), settings, **options)
      along = 0.1 * tf.reduce_sum(trajectory.pack() * normal(*trajectory.pack().shape, seed=8))
      loss = tf.reduce_mean(objective(params, noise[0, 0], *conditions)) + along
    return tape.gradient(loss, [initial, sizes, *context, *(v.value for v in weights)])

  exact, unrolled = gradients("exact"), gradients("unrolled")
  largest = max(np.abs(g).max() for g in unrolled)
  for ours, theirs in zip(exact, unrolled, strict=True):
    assert relative_error(ours, theirs, floor=1e-4 * largest) < 1e-9
  assert all(np.any(g != 0) for g in unrolled[-len(weights) :])


def test_full_covariance_has_the_decoders_own_derivative():
  """⟨tangent, ∇_λ L⟩ by the decoder's `log_prob_derivative` is that of nested tapes, for one λ and for a stack."""
  decoder = tiny.GaussianDecoderWithDerivative(dtype="float64")
  family, x, noise = made("full"), normal(tiny.BATCH, 3, seed=2), normal(tiny.BATCH, tiny.LATENT, seed=4)
  params, along, beta = start(family), start(family), tf.constant(0.7, tf.float64)
  along = tf.nest.map_structure(lambda part: part**2 - 0.3, along)
  objective = NegELBO(decoder, free_bits=0.05, family=family)
  with tf.autodiff.ForwardAccumulator(list(params), list(along)) as forward:
    loss = objective(params, noise, x, beta, ())
  ours = objective.directional_derivative(params, noise, along, x, beta, ())
  np.testing.assert_allclose(ours, forward.jvp(loss), rtol=1e-10)
  assert decoder.asked


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_the_flows_density_is_that_of_a_change_of_variables(latent_dim):
  """log q(z) = log N(u; λ) − log |det ∂z/∂u|, with the Jacobian from a tape and its determinant from numpy."""
  family = made("iaf", latent_dim)
  params, noise = start(family, latent_dim), normal(tiny.BATCH, latent_dim, seed=4)
  u = params.sample(noise)
  with tf.GradientTape() as tape:
    tape.watch(u)
    z = family.network(u)[0]
  jacobian = tape.batch_jacobian(z, u).numpy()
  _, log_det = np.linalg.slogdet(jacobian)
  log_q = params.distribution().log_prob(u) - log_det
  found, log_weight = family.draw(params, noise)
  np.testing.assert_allclose(found, z, rtol=1e-12)
  np.testing.assert_allclose(prior(z).log_prob(z) - log_weight, log_q, rtol=1e-9)
  np.testing.assert_allclose(family.distribution(params).log_prob(tf.identity(z)), log_q, rtol=1e-8)
  np.testing.assert_allclose(
    family.entropy(params, noise), params.distribution().entropy() + log_det, rtol=1e-9
  )
  assert np.ptp(log_det) > 1e-3 or latent_dim == 1


def test_each_latent_of_a_flow_depends_on_those_before_it_alone():
  network = FlowNetwork(3, 2, 7, dtype="float64")
  network.build()
  for i, variable in enumerate(network.variables):
    variable.assign(normal(*variable.shape, seed=i))
  u = normal(1, 3)
  for flow in range(2):
    with tf.GradientTape(persistent=True) as tape:
      tape.watch(u)
      outputs = network.shift_and_log_scale(flow, u)
    for output in outputs:
      jacobian = tape.batch_jacobian(output, u)[0].numpy()
      jacobian = jacobian if flow == 0 else jacobian[::-1, ::-1]
      np.testing.assert_array_equal(jacobian != 0, np.tril(np.ones([3, 3], bool), -1))
  assert not masks(1, 4, False)[1].any()


def test_a_new_flow_is_the_identity():
  family = POSTERIORS.get("iaf")()
  network = family.make_network(3, dtype="float64")
  family = dataclasses.replace(family, network=network)
  params = start(family, 3)
  np.testing.assert_array_equal(family.center(params), params.mean)
  z, log_weight = family.draw(params, normal(tiny.BATCH, 3))
  np.testing.assert_allclose(log_weight, prior(z).log_prob(z) - params.distribution().log_prob(z), rtol=1e-12)


@pytest.mark.parametrize("name", ["full", "iaf"])
def test_kl_is_the_mean_log_ratio_of_draws_and_its_integral_over_a_grid(name):
  family, draws = made(name, scale=0.15), 20_000
  params = start(family)
  _, log_weight = family.draw(params, normal(draws, tiny.BATCH, tiny.LATENT, seed=5))
  kl, se = -log_weight.numpy().mean(axis=0), log_weight.numpy().std(axis=0) / np.sqrt(draws)
  axis = np.linspace(-10, 10, 401)
  z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)[:, :, np.newaxis]
  log_q = family.distribution(params).log_prob(np.broadcast_to(z, [401, 401, tiny.BATCH, 2])).numpy()
  mass = np.exp(log_q) * (axis[1] - axis[0]) ** 2
  np.testing.assert_allclose(mass.sum(axis=(0, 1)), 1, atol=1e-3)
  exact = np.sum(mass * (log_q - prior(z[:, :, 0]).log_prob(z[:, :, 0])[:, :, np.newaxis]), axis=(0, 1))
  assert np.all(np.abs(kl - exact) < 4 * se + 1e-3)
  if family.kl_in_closed_form:
    np.testing.assert_allclose(params.kl_to_prior(), exact, atol=1e-3)


class PlainStep(Rule):
  def update(self, k, params, gradient, state, step_size):
    return params - step_size * gradient, state


def networks(name: str, dtype: str = "float64", family: str | None = None):
  encoder = tiny.PairEncoder(FullCovarianceEncoder.inner_dim(2) if name == "full" else 2, dtype=dtype)
  return FullCovarianceEncoder(encoder, 2) if name == "full" else encoder


def model_of(name: str, method: str = "savae", dtype: str = "float64", **options) -> SAVAE:
  decoder = tiny.MaskedDecoder(dtype=dtype)
  options = {"svi": SVISettings(2, 0.1, rule="natural"), "dtype": dtype, "seed": 4} | options
  model = SAVAE(networks(name, dtype), decoder, method, posterior=name, **options)
  model.ensure_built(tiny.bits(dtype=dtype))
  return model


@pytest.mark.parametrize("method", ["vae", "svi", "vae_svi", "vae_svi_kl", "savae"])
@pytest.mark.parametrize("name", ["full", "iaf"])
def test_every_method_trains_all_its_variables_and_reports(name, method):
  model = model_of(name, method, dtype="float32")
  model.compile(keras.optimizers.SGD(0.05))
  before = [v.numpy() for v in model.trainable_variables]
  x = tiny.bits(batch=8, dtype="float32")
  history = model.fit(x, batch_size=4, epochs=2, verbose=0).history
  moved = [np.any(v.numpy() != b) for v, b in zip(model.trainable_variables, before, strict=True)]
  assert all(moved) and np.isfinite(history["loss"]).all()
  assert int(model.skipped.value) == 0
  assert (model.posterior_network is not None) == (name == "iaf")
  results = model.predict(x, verbose=0)
  expected = {"mean", "log_var", "scale_tril" if name == "full" else "z"}
  assert expected <= set(results)
  assert model.elbo(x).shape == model.log_likelihood(x, 3).shape == (8,)


@pytest.mark.parametrize("name", ["full", "iaf"])
def test_importance_sampling_agrees_with_the_exact_likelihood(name):
  """Whatever the proposal, the weights p(x, z) / q(z) average p(x): their mean is within two standard errors of it."""
  decoder = tiny.GaussianDecoder(dtype="float64")
  family, draws = made(name, scale=0.1), 4000
  x, kernel = normal(tiny.BATCH, 3, seed=7), decoder.kernel.numpy()
  precision = np.eye(2) + kernel @ kernel.T / decoder.scale**2
  mean = np.linalg.solve(precision, kernel @ (x - decoder.bias).numpy().T / decoder.scale**2).T
  # Wider than the posterior, so that the weights have a variance.
  packed = 0.3 * start(family).pack()
  params = family.kind.unpack(tf.concat([mean + packed[:, :2], packed[:, 2:]], axis=-1))
  z, log_weight = family.draw(params, normal(draws, tiny.BATCH, tiny.LATENT, seed=9))
  weights = np.exp(decoder.log_prob(x, z, ()) + log_weight - decoder.exact_log_prob(x))
  assert np.all(np.abs(weights.mean(axis=0) - 1) < 2.5 * weights.std(axis=0) / np.sqrt(draws))


def test_mutual_information_of_dependent_latents_is_that_of_rotated_ones():
  """A rotation of z makes a diagonal posterior a full one, and changes no information."""
  angle = 0.7
  rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
  mean, log_var = normal(300, 2, seed=1).numpy(), np.tile([[-1.0, -2.0]], [300, 1])
  covariance = rotation @ np.diag(np.exp(log_var[0])) @ rotation.T
  factor = np.linalg.cholesky(covariance)
  full = POSTERIORS.get("full")()
  rotated = full.start(
    [
      tf.constant(mean @ rotation.T),
      tf.constant(np.tile(2 * np.log(np.diag(factor)), [300, 1])),
      tf.fill([300, 1], factor[1, 0]),
    ]
  )
  diagonal = POSTERIORS.get("diagonal")().start([tf.constant(mean), tf.constant(log_var)])
  ours, theirs = (latents.mutual_information(params, seed=0) for params in (rotated, diagonal))
  assert abs(ours.value - theirs.value) < 3 * theirs.se


class Curved(keras.layers.Layer):
  """x | z ~ N(z_1 z_2 + z_1 + …): its posterior is no Gaussian and has dependent latents."""

  latent_dim = 2

  def log_prob(self, x, z, context):
    first, second = z[..., 0], z[..., 1]
    mean = tf.stack([first + second, first * second - 0.5 * first], axis=-1)
    return -2.0 * tf.reduce_sum(tf.square(x - mean), axis=-1)


def test_the_best_full_covariance_is_found_by_grid():
  """No λ near it has a larger ELBO, and none with a diagonal L; the sum over points is that of a quadrature."""
  decoder, x = Curved(dtype="float64"), tf.constant([[1.0, 0.3]], tf.float64)
  kind = POSTERIORS.get("full").kind

  @tf.function(autograph=False)
  def found():
    exact = grid.posterior(decoder, x, size=21)
    best = grid.best_gaussian(exact, iterations=40, kind=kind)
    near = kind.unpack(best.pack() + 0.05 * normal(50, 1, kind.size(2), seed=3))
    diagonal = best._replace(lower=tf.zeros_like(best.lower))
    bounds = [grid.grid_elbo(exact, params) for params in (best, near, diagonal)]
    return exact.log_likelihood, *bounds, grid.elbo(decoder, x, (), best)

  log_likelihood, best, near, diagonal, by_quadrature = (value.numpy() for value in found())
  np.testing.assert_allclose(best, by_quadrature, atol=5e-3)
  assert np.all(near < best) and diagonal < best - 0.05 and best < log_likelihood


@pytest.mark.parametrize("name", ["full", "iaf"])
def test_gap_parts_and_the_likelihood_of_a_model_are_those_of_the_grid(name):
  encoder, x = networks(name), tf.constant([[1.0, 0.3], [0.2, -0.5], [0.0, 0.4]], tf.float64)
  model = SAVAE(encoder, Curved(dtype="float64"), "vae", SVISettings(1), posterior=name, dtype="float64")
  model.ensure_built(x)
  search = optimum.Search(steps=60, draws=4)

  @tf.function(autograph=False)
  def both():
    parts = optimum.gap_parts(model, x, 0, search, bound_draws=400, iw_samples=2000)
    by_grid = grid.elbo(model.decoder, x, (), parts.best, family=model.family)
    return parts, by_grid, grid.posterior(model.decoder, x, size=21).log_likelihood

  parts, by_grid, exact = both()
  np.testing.assert_allclose(parts.log_likelihood, exact, atol=0.1)
  assert np.all(parts.elbo_best < exact + 0.05) and np.all(parts.elbo_best > parts.elbo - 0.05)
  np.testing.assert_allclose(parts.elbo_best, by_grid, atol=0.2)


def test_a_model_is_saved_and_read_with_its_family(tmp_path):
  family = POSTERIORS.get("iaf")(num_flows=3, hidden=4)
  model = SAVAE(tiny.PairEncoder(), tiny.BernoulliDecoder(), svi=SVISettings(1), posterior=family, seed=2)
  x = tiny.bits(dtype="float32")
  model.ensure_built(x)
  for i, variable in enumerate(model.posterior_network.variables):
    variable.assign(normal(*variable.shape, seed=i, dtype="float32"))
  model.save(tmp_path / "model.keras")
  again = keras.saving.load_model(tmp_path / "model.keras")
  assert (again.family.num_flows, again.family.hidden) == (3, 4)
  np.testing.assert_allclose(again.predict(x, verbose=0)["z"], model.predict(x, verbose=0)["z"], rtol=1e-5)


@pytest.mark.parametrize(
  ("options", "words"),
  [
    ({"posterior": "iaf", "free_bits": 0.1}, "free_bits must be 0"),
    ({"posterior": "iaf", "svi": SVISettings(1, draws="mean")}, "needs steps with noise"),
    ({"posterior": "full", "svi": SVISettings(1, rule="natural_multiplicative")}, "natural or adam"),
    ({"posterior": "full", "svi": SVISettings(1, rule=PlainStep())}, "PlainStep is for diagonal"),
    ({"posterior": "none"}, "posterior family"),
  ],
)
def test_what_a_family_cannot_do_is_refused(options, words):
  with pytest.raises(ValueError, match=words):
    SAVAE(tiny.PairEncoder(), tiny.BernoulliDecoder(), **options)
