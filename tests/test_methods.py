"""Which variables get which gradient: every row of the table against its definition in plain TensorFlow.

Nothing of `refine`, the adjoints or the bounds is used in the definitions below: K steps are written out, and the total
derivative is what a tape makes of them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.tiny import relative_error
from tf_savae import SAVAE, SVISettings, methods
from tf_savae.inference import Inference
from tf_savae.posterior import GaussianParams
from tf_savae.seeds import Purpose

K, GAMMA, CLIP, BETA = 3, 0.5, 1.5, 0.3
SIZES = [0.3, 0.2, 0.1]


class Setting:
  """A model of one method and one training batch of it, with dropout, β, momentum and clipping on."""

  def __init__(
    self,
    method: str,
    num_steps: int = K,
    beta: float = BETA,
    learn: str = "none",
    weight: float = 0.0,
    trains: str = "encoder",
    draws: str = "independent",
    adjoint: str = "exact",
  ):
    encoder, decoder, self.x = tiny.dense_networks()
    if method == "autoreg":
      decoder = tiny.BernoulliDecoder(latent_dim=0, dtype="float64")
    svi = SVISettings(num_steps, SIZES[:num_steps], GAMMA, CLIP, draws=draws)
    options = {"beta": beta, "learn_step_size": learn}
    options |= {"initial_loss_weight": weight, "initial_loss_trains": trains, "adjoint": adjoint}
    self.model = SAVAE(encoder, decoder, method, svi, **options, dtype="float64", seed=4)
    self.model.ensure_built(self.x)
    self.method, self.decoder = self.model.method, decoder

  def inference(self, x=None, step: int = 5, purpose: Purpose = Purpose.NOISE, svi=None) -> Inference:
    return Inference(
      self.model.encoder,
      self.decoder,
      self.x if x is None else x,
      svi or self.model.step_sizes.settings(self.model.svi.num_steps),
      seed=self.model.seed,
      step=step,
      purpose=purpose,
      beta=self.model.beta,
      training=True,
      dtype="float64",
    )

  def infer(self):
    """What the method's loss is made of, and the loss `[batch]`."""
    inferred = self.model.infer(self.inference())
    return inferred, self.method.loss(inferred)

  @property
  def theta(self):
    return [v.value for v in self.model.decoder.trainable_variables]

  @property
  def phi(self):
    return [v.value for v in self.model.encoder.trainable_variables] if self.model.encoder else []

  @property
  def alpha(self):
    return [v.value for v in self.model.step_sizes.trainable_variables]

  def gradients(self):
    """(θ, φ, α)'s gradients of the method's mean loss."""
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(self.infer()[1])
    gradients = tape.gradient(loss, [*self.theta, *self.phi, *self.alpha], unconnected_gradients="zero")
    t, p = len(self.theta), len(self.phi)
    return gradients[:t], gradients[t : t + p], gradients[t + p :]


class Definition:
  """Section 3 of the paper, written out, for the same batch: λ is a pair (μ, log σ²)."""

  def __init__(self, setting: Setting):
    self.s, batch = setting, setting.inference()
    self.noise, self.start = batch.noise, batch.random_initial(0.1)
    self.seed, self.beta = batch.seed(Purpose.DROPOUT), setting.model.beta

  def encode(self):
    return self.s.model.encoder(self.s.x)

  def loss(self, params, noise):
    """−log p(x | z) + β KL(q ‖ p), `[batch]`."""
    mean, log_var = params
    kl = 0.5 * tf.reduce_sum(mean**2 + tf.exp(log_var) - log_var - 1.0, axis=-1)
    return self.nll(params, noise) + self.beta * kl

  def nll(self, params, noise):
    if self.s.model.latent_dim == 0:
      return -self.s.decoder.log_prob(self.s.x, None, ())
    context = self.s.decoder.precompute(self.s.x, training=True, seed=self.seed)
    z = params[0] + tf.exp(params[1] / 2.0) * noise
    return -self.s.decoder.log_prob(self.s.x, z, context)

  def final(self, params):
    return tf.reduce_mean(self.loss(params, self.noise[-1]))

  def initial(self, params):
    """The mean L(λ_0) as a loss of φ: with the noise of the first step."""
    return tf.reduce_mean(self.loss(params, self.noise[0]))

  def steps(self, params, sizes=None):
    """λ_K, differentiable; each row's gradient is clipped by its own norm."""
    velocity = [tf.zeros_like(part) for part in params]
    for k in range(self.s.model.svi.num_steps):
      with tf.GradientTape() as tape:
        tape.watch(params)
        loss = tf.reduce_sum(self.loss(params, self.noise[k]))
      gradient = tape.gradient(loss, params)
      clipped = [g * tf.minimum(1.0, CLIP / tf.norm(g, axis=-1, keepdims=True)) for g in gradient]
      velocity = [GAMMA * v - c for v, c in zip(velocity, clipped, strict=True)]
      size = SIZES[k] if sizes is None else sizes[k]
      params = [p + size * v for p, v in zip(params, velocity, strict=True)]
    return params

  def gradient(self, function, variables):
    with tf.GradientTape() as tape:
      value = function()
    return tape.gradient(value, variables, unconnected_gradients="zero")


def constant(params):
  return [tf.constant(part.numpy()) for part in params]


def autoreg(d: Definition):
  """θ by −log p(x)."""
  return d.gradient(lambda: tf.reduce_mean(d.nll(None, None)), d.s.theta), []


def vae(d: Definition):
  """θ and φ by L(λ_0)."""
  return tuple(d.gradient(lambda: d.final(d.encode()), part) for part in (d.s.theta, d.s.phi))


def svi(d: Definition):
  """θ by L(λ_K), λ_K constant, from a random start; there is no φ."""
  refined = constant(d.steps(list(d.start)))
  return d.gradient(lambda: d.final(refined), d.s.theta), []


def vae_svi(d: Definition):
  """θ by L(λ_K), λ_K constant; φ by L(λ_0)."""
  refined = constant(d.steps(list(d.encode())))
  return d.gradient(lambda: d.final(refined), d.s.theta), d.gradient(lambda: d.final(d.encode()), d.s.phi)


def vae_svi_kl(d: Definition):
  """θ by L(λ_K), φ by KL(q_λ0 ‖ q_λK), λ_K constant in both."""
  mean, log_var = refined = constant(d.steps(list(d.encode())))

  def kl():
    mean_0, log_var_0 = d.encode()
    ratio = tf.exp(log_var_0 - log_var) + (mean - mean_0) ** 2 / tf.exp(log_var)
    return 0.5 * tf.reduce_mean(tf.reduce_sum(ratio - 1.0 + log_var - log_var_0, axis=-1))

  return d.gradient(lambda: d.final(refined), d.s.theta), d.gradient(kl, d.s.phi)


def savae(d: Definition):
  """θ and φ by the total derivative of L(λ_K)."""
  total = d.gradient(lambda: d.final(d.steps(list(d.encode()))), [*d.s.theta, *d.s.phi])
  return total[: len(d.s.theta)], total[len(d.s.theta) :]


DEFINITIONS = {f.__name__: f for f in (autoreg, vae, svi, vae_svi, vae_svi_kl, savae)}


@pytest.fixture(scope="module")
def settings():
  return {name: Setting(name) for name in methods.METHODS}


def assert_equal(ours, expected):
  assert len(ours) == len(expected)
  for a, b in zip(ours, expected, strict=True):
    assert relative_error(a, b) < 1e-9


def test_every_method_has_a_definition():
  """A new method of the package has to be defined in DEFINITIONS here."""
  assert set(DEFINITIONS) == set(methods.METHODS)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_gradients_are_those_of_the_definition(settings, name):
  setting = settings[name]
  theta, phi, alpha = setting.gradients()
  expected_theta, expected_phi = DEFINITIONS[name](Definition(setting))
  assert all(np.max(np.abs(g)) > 1e-6 for g in [*expected_theta, *expected_phi])
  assert_equal(theta, expected_theta)
  assert_equal(phi, expected_phi)
  assert alpha == []


def test_definitions_differ(settings):
  """So that none of the comparisons above holds for another method's reason."""
  with_encoder = ["vae", "vae_svi", "vae_svi_kl", "savae"]
  gradients = {name: settings[name].gradients() for name in with_encoder}

  def error(part, one, other):
    return max(
      relative_error(a, b) for a, b in zip(gradients[one][part], gradients[other][part], strict=True)
    )

  for one, other in (("vae", "vae_svi_kl"), ("vae", "savae"), ("vae_svi_kl", "savae")):
    assert error(1, one, other) > 1e-2
  for one, other in (("vae", "vae_svi"), ("vae_svi", "savae")):
    assert error(0, one, other) > 1e-2
  assert error(1, "vae", "vae_svi") < 1e-9 and error(0, "vae_svi", "vae_svi_kl") < 1e-9


class TestStepSizes:
  @pytest.mark.parametrize("learn", ["step", "latent"])
  def test_savae_trains_them_by_the_total_derivative_of_log_alpha(self, learn):
    setting = Setting("savae", learn=learn)
    (log_sizes,) = setting.alpha
    assert log_sizes.dtype == tf.float64
    assert log_sizes.shape == ((K, 1) if learn == "step" else (K, tiny.LATENT))
    np.testing.assert_allclose(tf.exp(log_sizes)[:, 0], SIZES, rtol=1e-12)
    d = Definition(setting)
    expected = d.gradient(lambda: d.final(d.steps(list(d.encode()), tf.exp(log_sizes))), log_sizes)
    assert_equal(setting.gradients()[2], [expected])

  @pytest.mark.parametrize("name", [name for name in methods.METHODS if name != "savae"])
  def test_other_methods_refuse_to_learn_them(self, name):
    with pytest.raises(ValueError, match="Received"):
      Setting(name, learn="step")

  def test_more_steps_than_trained_repeat_the_last_size(self):
    sizes = Setting("savae", learn="step").model.step_sizes
    np.testing.assert_allclose(sizes.settings(5).step_size, [0.3, 0.2, 0.1, 0.1, 0.1], rtol=1e-12)
    np.testing.assert_allclose(sizes.settings(2).step_size, [0.3, 0.2], rtol=1e-12)
    assert sizes.settings(0).num_steps == 0


class TestInitialLoss:
  def test_it_is_added_for_the_encoder_and_for_nothing_else(self, settings):
    setting = Setting("savae", learn="step", weight=0.4)
    d = Definition(setting)
    theta, phi, alpha = setting.gradients()
    plain_theta, plain_phi, plain_alpha = Setting("savae", learn="step").gradients()
    by_initial = d.gradient(lambda: d.initial(d.encode()), d.s.phi)
    assert_equal([*theta, *alpha], [*plain_theta, *plain_alpha])
    assert_equal(phi, [a + 0.4 * b for a, b in zip(plain_phi, by_initial, strict=True)])
    inferred = setting.infer()[0]
    np.testing.assert_allclose(
      inferred.initial_loss, 0.4 * d.loss(inferred.start, d.noise[0]).numpy(), rtol=1e-9
    )

  @pytest.mark.parametrize(("draws", "num_steps"), [("mean", K), ("independent", 0)])
  def test_steps_whose_draws_do_not_estimate_it_leave_it_a_draw_of_its_own(self, draws, num_steps):
    """The gradient at the mean is not that of the bound, and without steps there is none."""
    options = {"num_steps": num_steps, "draws": draws}
    setting = Setting("savae", weight=0.4, **options)
    phi, plain_phi = setting.gradients()[1], Setting("savae", **options).gradients()[1]
    assert_equal(phi, [a + 0.4 * b for a, b in zip(plain_phi, vae(Definition(setting))[1], strict=True)])

  def test_of_both_is_added_for_the_decoder_too(self):
    setting = Setting("savae", learn="step", weight=0.4, trains="both")
    d = Definition(setting)
    theta, phi, alpha = setting.gradients()
    plain_theta, plain_phi, plain_alpha = Setting("savae", learn="step").gradients()
    by_initial = [g for part in vae(d) for g in part]
    expected = [a + 0.4 * b for a, b in zip([*plain_theta, *plain_phi], by_initial, strict=True)]
    assert_equal([*theta, *phi, *alpha], [*expected, *plain_alpha])
    _, loss = setting.infer()
    refined, start = d.steps(list(d.encode())), d.encode()
    np.testing.assert_allclose(
      loss, d.loss(refined, d.noise[-1]) + 0.4 * d.loss(start, d.noise[-1]), rtol=1e-9
    )

  @pytest.mark.parametrize("adjoint", ["stored", "unrolled"])
  def test_of_both_is_that_of_the_first_step_where_the_adjoint_keeps_it(self, adjoint):
    options = {"num_steps": 1, "adjoint": adjoint}
    setting = Setting("savae", weight=0.4, trains="both", **options)
    d, found, plain = Definition(setting), setting.gradients(), Setting("savae", **options).gradients()
    for part, variables in enumerate((setting.theta, setting.phi)):
      by_initial = d.gradient(lambda: d.initial(d.encode()), variables)
      assert_equal(found[part], [a + 0.4 * b for a, b in zip(plain[part], by_initial, strict=True)])
    inferred = setting.infer()[0]
    np.testing.assert_allclose(
      inferred.initial_loss, 0.4 * d.loss(inferred.start, d.noise[0]).numpy(), rtol=1e-9
    )

  @pytest.mark.parametrize(("weight", "trains"), [(0.0, "both"), (1.0, "decoder")])
  def test_what_it_trains_is_a_known_name_and_there_is_such_a_loss(self, weight, trains):
    with pytest.raises(ValueError, match=r"initial_loss_trains.*Received"):
      Setting("savae", weight=weight, trains=trains)

  @pytest.mark.parametrize(("name", "weight"), [("vae", 0.1), ("svi", 1.0), ("savae", -0.1)])
  def test_of_a_method_without_total_derivative_or_negative_is_refused(self, name, weight):
    with pytest.raises(ValueError, match=f"Received: .*{weight}"):
      Setting(name, weight=weight)


class TestLosses:
  @pytest.mark.parametrize("name", ["vae", "svi", "savae"])
  def test_the_loss_weights_the_kl_by_beta_and_the_bounds_do_not(self, settings, name):
    losses, loss = settings[name].infer()
    np.testing.assert_allclose(loss, losses.final.nll + BETA * losses.final.kl, rtol=1e-12)
    np.testing.assert_allclose(losses.final.neg_elbo, losses.final.nll + losses.final.kl, rtol=1e-12)

  @pytest.mark.parametrize("name", ["vae_svi", "vae_svi_kl", "savae"])
  def test_bounds_at_both_ends_and_the_path_between(self, settings, name):
    d = Definition(settings[name])
    losses, _ = settings[name].infer()
    start = d.encode()
    refined = d.steps(list(start))
    np.testing.assert_allclose(losses.initial.nll, d.nll(start, d.noise[0]), rtol=1e-9)  # of the first step
    np.testing.assert_allclose(losses.final.nll, d.nll(refined, d.noise[-1]), rtol=1e-9)
    np.testing.assert_allclose(losses.final.kl, GaussianParams(*refined).kl_to_prior(), rtol=1e-9)
    assert losses.step_losses.shape == (K, tiny.BATCH)
    np.testing.assert_allclose(losses.step_losses[0], d.loss(start, d.noise[0]), rtol=1e-9)

  @pytest.mark.parametrize("name", ["vae", "savae"])
  def test_without_steps_and_beta_it_is_the_autoencoders_loss(self, name):
    setting = Setting(name, num_steps=0, beta=0.0)
    d = Definition(setting)
    _, loss = setting.infer()
    np.testing.assert_allclose(loss, d.nll(d.encode(), d.noise[-1]), rtol=1e-12)
    expected = d.gradient(lambda: tf.reduce_mean(d.nll(d.encode(), d.noise[-1])), [*d.s.theta, *d.s.phi])
    theta, phi, _ = setting.gradients()
    assert_equal([*theta, *phi], expected)

  def test_without_steps_savae_is_a_vae(self):
    ours, vae_gradients = (Setting(name, num_steps=0).gradients() for name in ("savae", "vae"))
    assert_equal([*ours[0], *ours[1]], [*vae_gradients[0], *vae_gradients[1]])


class TestRandomness:
  def test_svi_starts_at_a_tenth_of_a_standard_normal(self):
    for part in Setting("svi").inference(tf.tile(tiny.bits(), [3000, 1]), step=0).start():
      assert float(tf.math.reduce_std(part)) == pytest.approx(0.1, rel=0.03)
      assert abs(float(tf.reduce_mean(part))) < 0.005

  def test_noise_is_a_function_of_seed_step_purpose_and_row(self, settings):
    setting = settings["savae"]

    def noise(step=0, purpose=Purpose.NOISE, rows=tiny.BATCH):
      return setting.inference(setting.x[:rows], step, purpose).noise.numpy()

    assert noise().shape == (K + 1, tiny.BATCH, tiny.LATENT)
    np.testing.assert_array_equal(noise(), noise())
    np.testing.assert_array_equal(noise(rows=2), noise()[:, :2])
    assert np.all(noise() != noise(step=1)) and np.all(noise() != noise(purpose=Purpose.EVALUATION))
    assert len(np.unique(noise())) == noise().size

  def test_antithetic_draws_of_a_step_come_in_pairs_and_the_last_draw_alone(self, settings):
    setting = settings["savae"]
    svi = dataclasses.replace(setting.model.svi, num_samples=4, antithetic=True)

    def noise(rows=tiny.BATCH):
      return setting.inference(setting.x[:rows], 0, svi=svi).noise.numpy()

    assert noise().shape == (4 * K + 1, tiny.BATCH, tiny.LATENT)
    steps = noise()[:-1].reshape(K, 4, tiny.BATCH, tiny.LATENT)
    np.testing.assert_array_equal(steps[:, :2], -steps[:, 2:])
    assert len(np.unique(np.abs(noise()))) == (2 * K + 1) * tiny.BATCH * tiny.LATENT
    np.testing.assert_array_equal(noise(rows=2), noise()[:, :2])


def test_an_unknown_method_is_refused():
  with pytest.raises(ValueError, match="Received: 'magic'"):
    methods.get("magic")
