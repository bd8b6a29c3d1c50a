"""The rules of a step: each against its formula, its derivatives against central differences, rows apart."""

from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny import normal, relative_error
from tf_savae import SVISettings, refine
from tf_savae.posterior import GaussianParams
from tf_savae.svi import RULES, rules
from tf_savae.svi.learned import LearnedStep
from tf_savae.svi.rules import Adam, GradientStep, MultiplicativeNaturalGradient, NaturalGradient
from tf_savae.svi.settings import settings_from_config, settings_to_config

BATCH, LATENT = 3, 2
PARAMS = tf.concat([normal(BATCH, LATENT, seed=1), 0.5 * normal(BATCH, LATENT, seed=2)], 1)
GRADIENT = 2.0 * normal(BATCH, 2 * LATENT, seed=3)
SIZES = tf.constant([0.3, 0.2, 0.1, 0.05], tf.float64)


def of_dtype(rule, dtype):
  """A rule that is trained, with a network of this dtype that has left its start; any other rule itself."""
  if not rule.trained:
    return rule
  network = rule.make_network(LATENT, dtype=dtype)
  for i, weight in enumerate(network.weights):
    weight.assign(0.4 * normal(*weight.shape, seed=50 + i))
  return dataclasses.replace(rule, network=network)


# name: the rules whose derivatives are checked; clips and bounds that hold for some entries and not for others.
CASES = {
  "gradient": [GradientStep(0.5), GradientStep(0.3, clip_norm=2.0)],
  "natural": [NaturalGradient(trust=None), NaturalGradient(1.5, (-0.5, 0.2))],
  "natural_multiplicative": [MultiplicativeNaturalGradient(), MultiplicativeNaturalGradient(1.5, None)],
  "adam": [Adam(), Adam(0.5, 0.7, 1e-3)],
  "learned": [of_dtype(LearnedStep(1.5, (-0.5, 0.2), hidden=3), "float64")],
}
EVERY = [pytest.param(rule, id=str(rule)) for cases in CASES.values() for rule in cases]


def state_of(rule):
  """A state as it is after some steps: positive, as second moments are."""
  return tuple(tf.abs(0.5 * normal(*s.shape, seed=4 + i)) for i, s in enumerate(rule.init(PARAMS)))


def test_every_rule_is_in_the_registry():
  """A new rule of the package has to be added to CASES here."""
  assert set(CASES) == set(RULES)
  assert all(type(rule) is RULES[name] for name, cases in CASES.items() for rule in cases)


class TestFormulas:
  def test_the_gradient_step_is_momentum_on_clipped_gradients(self):
    (velocity,) = state_of(GradientStep())
    params, (new,) = GradientStep(0.3, 2.0).update(1, PARAMS, GRADIENT, (velocity,), SIZES)
    clipped = np.array(GRADIENT).reshape(BATCH, 2, LATENT)
    norms = np.linalg.norm(clipped, axis=-1, keepdims=True)
    assert np.any(norms > 2) and np.any(norms < 2)
    clipped = (clipped * np.minimum(1, 2 / norms)).reshape(BATCH, -1)
    np.testing.assert_allclose(new, 0.3 * velocity - clipped, rtol=1e-12)
    np.testing.assert_allclose(params, PARAMS + SIZES * new, rtol=1e-12)

  def test_the_natural_gradient_is_that_of_the_fisher_information(self):
    """F⁻¹ g with F = E_q[∇ log q ∇ log qᵀ], here estimated from draws of q."""
    mean, log_var = (part[0].numpy() for part in GaussianParams.unpack(PARAMS))
    z = mean + np.exp(0.5 * log_var) * np.random.default_rng(0).normal(size=[400_000, LATENT])
    score = np.concatenate(
      [(z - mean) / np.exp(log_var), 0.5 * ((z - mean) ** 2 / np.exp(log_var) - 1.0)], axis=1
    )
    fisher = score.T @ score / len(z)
    step = PARAMS - NaturalGradient(None, None).update(0, PARAMS, GRADIENT, (), tf.ones([1], tf.float64))[0]
    np.testing.assert_allclose(step[0], np.linalg.solve(fisher, GRADIENT[0]), rtol=0.02, atol=0.02)

  def test_trust_bounds_the_whitened_step(self):
    bounded, _ = NaturalGradient(1.5, None).update(0, PARAMS, GRADIENT, (), SIZES)
    stddev = np.exp(0.5 * PARAMS[:, LATENT:])
    whitened = np.concatenate([stddev * GRADIENT[:, :LATENT], 2 * GRADIENT[:, LATENT:]], axis=1)
    assert np.any(np.abs(whitened) > 1.5) and np.any(np.abs(whitened) < 1.5)
    to_step = np.concatenate([stddev, np.ones([BATCH, LATENT])], axis=1)
    np.testing.assert_allclose(bounded, PARAMS - SIZES * to_step * np.clip(whitened, -1.5, 1.5), rtol=1e-12)

  def test_log_var_stays_within_its_range(self):
    for rule in (NaturalGradient, MultiplicativeNaturalGradient):
      free, bounded = (
        rule(None, limits).update(0, PARAMS, GRADIENT, (), SIZES)[0] for limits in (None, (-0.5, 0.2))
      )
      np.testing.assert_array_equal(bounded[:, :LATENT], free[:, :LATENT])
      np.testing.assert_array_equal(bounded[:, LATENT:], np.clip(free[:, LATENT:], -0.5, 0.2))
      assert np.any(bounded != free) and np.any(bounded[:, LATENT:] == free[:, LATENT:])

  def test_one_multiplicative_step_of_signs_reaches_the_gaussian_posterior(self):
    """From any start: signs make both gradients of a quadratic L exact."""
    precision, pull = np.array([0.4, 0.1]), np.array([0.7, -0.4])

    def neg_elbo(params, noise):
      z = params.sample(noise)
      return tf.reduce_sum(0.5 * precision * z**2 - pull * z, axis=-1) + params.kl_to_prior()

    start = GaussianParams(*tf.split(0.3 * PARAMS, 2, axis=-1))
    settings = SVISettings(2, 1.0, num_samples=2, rule="natural_multiplicative", draws="signs")
    noise = settings.noise_draws.all_samples(normal(2, 1, BATCH, LATENT, seed=5))
    params = refine(neg_elbo, start, settings, noise=noise).trajectory
    np.testing.assert_allclose(params.log_var[1], np.tile(-np.log(1 + precision), [BATCH, 1]), rtol=1e-9)
    # The step in μ takes the σ² of before: the second one is exact.
    np.testing.assert_allclose(params.mean[2], np.tile(pull / (1 + precision), [BATCH, 1]), rtol=1e-9)

  def test_one_natural_step_reaches_the_mean_of_a_gaussian_posterior(self):
    """L quadratic in z with curvature 1 + p_j: at σ² = 1 / (1 + p_j) a step of 1 is Newton's, with no noise in μ."""
    precision, pull = np.array([3.0, 0.5]), np.array([0.7, -0.4])

    def neg_elbo(params, noise):
      z = params.sample(noise)
      return tf.reduce_sum(0.5 * precision * z**2 - pull * z, axis=-1) + params.kl_to_prior()

    start = GaussianParams(
      0.3 * normal(BATCH, LATENT, seed=1),
      tf.constant(np.tile(-np.log(1 + precision), [BATCH, 1])),
    )
    settings = SVISettings(1, 1.0, num_samples=2, rule="natural", draws="antithetic")
    noise = settings.noise_draws.all_samples(normal(1, 1, BATCH, LATENT, seed=5))
    params = refine(neg_elbo, start, settings, noise=noise).params
    np.testing.assert_allclose(params.mean, np.tile(pull / (1 + precision), [BATCH, 1]), rtol=1e-9)

  def test_adam_is_the_optimiser_of_keras(self):
    variable = keras.Variable(PARAMS, dtype="float64")
    optimizer = keras.optimizers.Adam(0.1, 0.8, 0.9, epsilon=1e-9)
    rule, params = Adam(0.8, 0.9, 1e-9), PARAMS
    state = rule.init(params)
    for k in range(4):
      gradient = normal(BATCH, 2 * LATENT, seed=20 + k)
      optimizer.apply([gradient], [variable])
      params, state = rule.update(k, params, gradient, state, tf.constant([0.1], tf.float64))
    # Keras keeps its hyper-parameters in float32.
    np.testing.assert_allclose(params, variable.numpy(), rtol=1e-5)


@pytest.mark.parametrize("rule", EVERY)
class TestEveryRule:
  def test_its_vjp_is_that_of_central_differences(self, rule):
    inputs = [PARAMS, GRADIENT, SIZES, *state_of(rule)]
    shapes = [PARAMS, *state_of(rule)]
    weights = [normal(*like.shape, seed=30 + i) for i, like in enumerate(shapes)]

    def value(params, gradient, size, *state):
      new, new_state = rule.update(tf.constant(2), params, gradient, state, size)
      return sum(tf.reduce_sum(w * part) for w, part in zip(weights, (new, *new_state), strict=True))

    with tf.GradientTape() as tape:
      tape.watch(inputs)
      result = value(*inputs)
    found = tape.gradient(result, inputs, unconnected_gradients="zero")
    for i, (at, gradient) in enumerate(zip(inputs, found, strict=True)):
      d, h = normal(*at.shape, seed=40 + i), 1e-6
      there, back = ([*inputs[:i], at + sign * h * d, *inputs[i + 1 :]] for sign in (1, -1))
      difference = float(value(*there) - value(*back)) / (2 * h)
      assert difference == pytest.approx(float(tf.reduce_sum(gradient * d)), rel=1e-6, abs=1e-9)

  def test_rows_do_not_see_each_other(self, rule):
    together, state = rule.update(1, PARAMS, GRADIENT, state_of(rule), SIZES)
    for row in range(BATCH):
      of_row = slice(row, row + 1)
      before = tuple(s[of_row] for s in state_of(rule))
      alone, alone_state = rule.update(1, PARAMS[of_row], GRADIENT[of_row], before, SIZES)
      for ours, theirs in zip((alone, *alone_state), (together, *state), strict=True):
        np.testing.assert_allclose(ours[0], theirs[row], rtol=1e-12)

  @pytest.mark.parametrize("dtype", ["float32", "float64"])
  def test_a_gradient_of_zero_is_no_nan(self, rule, dtype):
    zero, rule = tf.zeros([2, 4], dtype), of_dtype(rule, dtype)
    with tf.GradientTape() as tape:
      tape.watch(zero)
      params, state = rule.update(0, zero, zero, rule.init(zero), tf.constant([0.1], dtype))
    for tensor in (params, *state, tape.gradient(params, zero)):
      assert np.all(np.isfinite(tensor))

  def test_settings_with_it_survive_their_configuration(self, rule):
    settings = SVISettings(3, [0.3, 0.2, 0.1], rule=rule)
    config = settings_to_config(settings)
    assert settings_from_config(config) == dataclasses.replace(settings, step_size=[0.3, 0.2, 0.1])
    assert config["rule"]["name"] in RULES


class TestALearnedRule:
  """A rule with weights, as Marino et al. (2018) have: the adjoint reaches them, too."""

  def gradients(self, adjoint, where):
    weights = tf.Variable(0.3 * normal(2, seed=6))
    outside = 0.1 * normal(2 * LATENT, seed=7)

    @dataclasses.dataclass(frozen=True)
    class Learned(rules.Rule):
      def update(self, k, params, gradient, state, step_size):
        gated = tf.tanh(weights[0] * gradient + outside) * tf.exp(weights[1] * params)
        return params - step_size * gated, state

    def neg_elbo(params, noise):
      return tf.reduce_sum(tf.cos(params.sample(noise)) ** 2, axis=-1) + params.kl_to_prior()

    def run():
      initial, sizes = GaussianParams.unpack(PARAMS), tf.constant([0.2, 0.1, 0.1], tf.float64)
      with tf.GradientTape() as tape:
        tape.watch([initial, outside, sizes])
        settings = SVISettings(3, sizes, rule=Learned())
        noise = normal(3, BATCH, LATENT, seed=8)
        params = refine(neg_elbo, initial, settings, noise=noise, adjoint=adjoint).params
        loss = tf.reduce_sum(tf.sin(params.mean) + params.log_var**2)
      return tape.gradient(loss, [*initial, weights, outside, sizes])

    return tf.function(run)() if where == "graph" else run()

  @pytest.mark.parametrize("where", ["eager", "graph"])
  @pytest.mark.parametrize("adjoint", ["exact", "stored"])
  def test_its_weights_and_tensors_get_the_gradient_of_the_definition(self, adjoint, where):
    for ours, theirs in zip(self.gradients(adjoint, where), self.gradients("unrolled", where), strict=True):
      assert relative_error(tf.convert_to_tensor(ours), tf.convert_to_tensor(theirs)) < 1e-9
      assert np.max(np.abs(theirs)) > 1e-4


class TestAStateThatBeginsSomewhere:
  """s_0 may be made from λ_0, a variable or a tensor: the adjoint goes back through `init`, too."""

  def gradients(self, adjoint, tolerance):
    pull, outside = tf.Variable(0.3, dtype=tf.float64), 0.1 * normal(2 * LATENT, seed=7)

    @dataclasses.dataclass(frozen=True)
    class Anchored(rules.Rule):
      def init(self, params):
        return params, pull * tf.ones_like(params) + outside

      def update(self, k, params, gradient, state, step_size):
        anchor, strength = state
        return params - step_size * gradient - strength * tf.sin(params - anchor), (anchor, 0.9 * strength)

    def neg_elbo(params, noise):
      return tf.reduce_sum(tf.cos(params.sample(noise)) ** 2, axis=-1) + params.kl_to_prior()

    initial = GaussianParams.unpack(PARAMS)
    with tf.GradientTape() as tape:
      tape.watch([initial, outside])
      settings = SVISettings(3, 0.2, rule=Anchored(), tolerance=tolerance)
      params = refine(
        neg_elbo, initial, settings, noise=normal(3, BATCH, LATENT, seed=8), adjoint=adjoint
      ).params
      loss = tf.reduce_sum(tf.sin(params.mean) + params.log_var**2)
    return tape.gradient(loss, [*initial, pull, outside])

  @pytest.mark.parametrize("tolerance", [0.0, 1e-3])
  @pytest.mark.parametrize("adjoint", ["exact", "stored"])
  def test_exact_equals_unrolled(self, adjoint, tolerance):
    ours, reference = self.gradients(adjoint, tolerance), self.gradients("unrolled", tolerance)
    for a, b in zip(ours, reference, strict=True):
      assert relative_error(a, b) < 1e-9 and np.max(np.abs(b)) > 1e-4


@pytest.mark.parametrize("step_size", [1.0, 2.0, 30.0])
def test_the_precision_stays_positive_whatever_the_step_size(step_size):
  rule = MultiplicativeNaturalGradient(log_var_range=None)
  moved, _ = rule.update(0, PARAMS, GRADIENT, (), tf.constant([step_size], tf.float64))
  assert np.any(GRADIENT[:, LATENT:] < -0.45) and np.all(np.isfinite(moved))


def test_settings_can_be_changed_to_another_rule():
  natural = dataclasses.replace(SVISettings(3, 0.1), rule="natural")
  assert natural.step_rule == NaturalGradient()
  assert SVISettings(3, 0.1).step_rule == GradientStep(momentum=0.5)


class TestWhatIsRefused:
  @pytest.mark.parametrize(
    "wrong",
    [
      {"rule": "magic"},
      {"rule": 3},
      {"rule": "natural", "momentum": 0.5},
      {"rule": "adam", "clip_norm": 5.0},
      {"rule": GradientStep(), "momentum": 0.5},
      {"draws": "magic"},
      {"draws": "mean", "num_samples": 2},
      {"draws": "mean", "antithetic": True, "num_samples": 2},
    ],
    ids=str,
  )
  def test_settings_that_do_not_go_together(self, wrong):
    with pytest.raises(ValueError, match="Received"):
      SVISettings(3, 0.1, **wrong)

  @pytest.mark.parametrize(
    "make",
    [
      lambda: NaturalGradient(trust=0.0),
      lambda: NaturalGradient(log_var_range=(1.0, 1.0)),
      lambda: NaturalGradient(log_var_range=(-8.0, 1.0, 2.0)),
      lambda: NaturalGradient(log_var_range=(-8.0,)),
      lambda: Adam(beta_1=1.0),
      lambda: Adam(epsilon=0.0),
      lambda: GradientStep(momentum=1.0),
      lambda: GradientStep(clip_norm=-1.0),
    ],
  )
  def test_rules_out_of_their_range(self, make):
    with pytest.raises(ValueError, match="Received"):
      make()

  def test_a_rule_without_a_name_cannot_be_saved(self):
    @dataclasses.dataclass(frozen=True)
    class Mine(GradientStep):
      pass

    with pytest.raises(ValueError, match="register it"):
      settings_to_config(SVISettings(1, 0.1, rule=Mine()))


def test_signs_come_in_pairs_of_ones():
  settings = SVISettings(2, 0.1, num_samples=4, draws="signs")
  noise = settings.noise_draws.all_samples(normal(2, settings.noise_draws.num_independent, BATCH, LATENT))
  assert noise.shape == (2, 4, BATCH, LATENT)
  np.testing.assert_array_equal(tf.abs(noise), np.ones(noise.shape))
  np.testing.assert_array_equal(noise[:, :2], -noise[:, 2:])
  assert len(np.unique(noise[:, :2])) == 2
  with pytest.raises(ValueError, match="even"):
    SVISettings(2, 0.1, num_samples=3, draws="signs")


def test_at_the_mean_there_is_no_noise():
  settings = SVISettings(2, 0.1, draws="mean")
  noise = settings.noise_draws.all_samples(normal(2, 1, BATCH, LATENT))
  np.testing.assert_array_equal(noise, np.zeros([2, 1, BATCH, LATENT]))


@dataclasses.dataclass(frozen=True)
class Named(GradientStep):
  """A rule with a field that is called as the name of rules in a configuration."""

  name: str = "mine"
  fields: int = 0


def test_a_rule_may_have_a_field_called_name(monkeypatch):
  monkeypatch.setattr(RULES, "_parts", dict(RULES._parts))
  RULES.register("named", Named)
  settings = SVISettings(1, 0.1, rule=Named(0.25, name="yours", fields=3))
  assert settings_from_config(json.loads(json.dumps(settings_to_config(settings)))) == settings
  # Others keep the form that files of earlier versions have.
  assert settings_to_config(SVISettings(1, 0.1, rule=Adam()))["rule"] == {
    "name": "adam",
    "beta_1": 0.9,
    "beta_2": 0.999,
    "epsilon": 1e-7,
  }


@dataclasses.dataclass(frozen=True)
class WithList(GradientStep):
  """A rule whose state is a list."""

  def init(self, params):
    return list(super().init(params))

  def update(self, *args):
    params, state = super().update(*args)
    return params, list(state)


class WithTensor(WithList):
  """A rule whose state is a tensor, which is not allowed."""

  def init(self, params):
    return super().init(params)[0]


@pytest.mark.parametrize("tolerance", [0.0, 1e-3])
def test_a_state_may_be_a_list_and_nothing_else(tolerance):
  initial = GaussianParams(normal(BATCH, LATENT, seed=1), 0.1 * normal(BATCH, LATENT, seed=2))

  def refined(rule):
    settings = SVISettings(3, 0.1, rule=rule, tolerance=tolerance)
    noise = normal(3, BATCH, LATENT, seed=3)
    return refine(
      lambda q, noise: tf.reduce_sum(q.sample(noise) ** 2, -1), initial, settings, noise=noise
    ).params

  for ours, theirs in zip(refined(WithList()), refined(GradientStep()), strict=True):
    np.testing.assert_array_equal(ours, theirs)
  with pytest.raises(ValueError, match="state must be a tuple of tensors"):
    refined(WithTensor())
