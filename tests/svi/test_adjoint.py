"""Every adjoint against the definition, plain nested tapes through unrolled steps, for every network.

Two registries drive the tests, and two tests fail when a network or an adjoint of the package is missing in them.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.chain import Chain
from tests.implicit_definition import implicit_gradients
from tests.tiny import relative_error
from tf_savae import networks
from tf_savae.posterior import GaussianParams
from tf_savae.svi import ADJOINTS, DRAWS, RULES, SVISettings, descent, noise, rules
from tf_savae.svi import adjoint as adjoint_lib
from tf_savae.svi.adjoint import (
  ExactAdjoint,
  FiniteDifferenceAdjoint,
  FirstOrderAdjoint,
  StoredAdjoint,
  TruncatedAdjoint,
  UnrolledAdjoint,
)
from tf_savae.svi.derivatives import value_and_gradient
from tf_savae.svi.implicit import ImplicitAdjoint
from tf_savae.svi.learned import LearnedStep
from tf_savae.svi.refine import refine
from tf_savae.svi.rules import Adam, GradientStep, MultiplicativeNaturalGradient, NaturalGradient

K = 3
BETA = 0.7

# name: (dtype, dropout) -> encoder, decoder, x
NETWORKS = {
  "image": tiny.image_networks,
  "position_image": tiny.position_image_networks,
  "late_image": tiny.late_image_networks,
  "lstm": tiny.lstm_networks,
  "text_lstm": tiny.text_lstm_networks,
  "dilated_conv": tiny.dilated_conv_networks,
  "late_text_lstm": tiny.late_text_lstm_networks,
  "late_text_lstm_in_chunks": tiny.late_text_lstm_networks_in_chunks,
  "late_dilated_conv": tiny.late_dilated_conv_networks,
  "dense": tiny.dense_networks,
}


class Problem(Chain):
  """A loss behind K steps with dropout on, and its gradient for everything that can have one."""

  def __init__(
    self,
    network: str,
    dtype: str,
    clip: bool = False,
    momentum: float | None = None,
    num_steps: int = K,
    samples: int = 1,
    rule: str | rules.Rule = "gradient",
    draws: str = "independent",
  ):
    of_step = noise.get(draws, samples)
    super().__init__(NETWORKS[network](dtype, dropout=0.3), dtype, True, of_step.in_closed_form)
    rule = learned_step(dtype) if isinstance(rule, LearnedStep) else rule
    self.momentum, self.num_steps, self.samples, self.rule = momentum, num_steps, samples, rule
    self.step_noise = of_step.all_samples(self.noise(num_steps, of_step.num_independent, seed=4))
    self.final_noise = self.noise(seed=5)
    # On the trajectory, so that every λ_k has a cotangent of its own.
    self.weights = tiny.normal(2, num_steps + 1, tiny.BATCH, tiny.LATENT, seed=6, dtype=dtype)
    # One size per latent; of other rules than the paper's one for μ and one for log σ² as well.
    sizes = 0.02 + 0.01 * np.arange(2 * num_steps).reshape(num_steps, 2)
    if rule != "gradient":
      sizes = np.stack([sizes, 0.7 * sizes], axis=1)
    self.sizes = tf.Variable(sizes, dtype=dtype)
    # Dropout is on: masks of a few numbers may be equal for two seeds, but not for all.
    others = [self.decoder.precompute(self.x, training=True, seed=tiny.SEED + i) for i in range(1, 5)]
    pairs = [pair for other in others for pair in zip(self.precompute(), other, strict=True)]
    assert any(np.any(a != b) for a, b in pairs)
    # The median norm at λ_0 as the bound: some rows are clipped, others are not.
    self.clip_norm = None
    norms = self.gradient_norms()
    if clip:
      self.clip_norm = float(np.median(norms))
      assert np.any(norms > self.clip_norm) and np.any(norms < self.clip_norm)

  def gradient_norms(self):
    conditions = (self.x, self.beta, self.precompute())
    _, gradient = value_and_gradient(self.objective, self.encode(), self.step_noise[0, 0], conditions)
    return np.concatenate([np.linalg.norm(part, axis=-1) for part in gradient])

  def gradients(self, adjoint, jit_compile: bool = False) -> dict[str, dict[str, np.ndarray]]:
    """{group: {name: gradient}} of the mean final loss plus ⟨weights, trajectory⟩."""
    tensors = functools.partial(self.gradient_tensors, adjoint)
    if jit_compile:
      tensors = tf.function(tensors, jit_compile=True, autograph=False)
    return {group: {n: g.numpy() for n, g in named.items()} for group, named in tensors().items()}

  def gradient_tensors(self, adjoint) -> dict[str, dict[str, tf.Tensor]]:
    with tf.GradientTape() as tape:
      context = self.precompute()
      tape.watch(context)  # masks, too, which depend on no variable
      settings = SVISettings(
        self.num_steps, self.sizes, self.momentum, self.clip_norm, self.samples, rule=self.rule
      )
      links = self.links(settings, self.step_noise, self.final_noise, adjoint, context=context)
      loss = tf.reduce_mean(links.loss) + 0.1 * tf.reduce_sum(self.weights * tf.stack(list(links.trajectory)))
    sources = {
      "initial": dict(links.initial._asdict()),
      "context": {f"{i}": t for i, t in enumerate(context) if t.dtype.is_floating},
      "step sizes": {"": self.sizes},
      "encoder": {v.path: v.value for v in self.encoder.trainable_variables},
      "decoder": {v.path: v.value for v in self.decoder.trainable_variables},
    }
    gradients = tape.gradient(loss, sources)
    # A context may hold what only an expectation in closed form reads, but not that alone.
    read = {name: gradient for name, gradient in gradients["context"].items() if gradient is not None}
    assert read or not context
    gradients["context"] = {n: read.get(n, tf.zeros_like(t)) for n, t in sources["context"].items()}
    assert all(g is not None for g in tf.nest.flatten(gradients))
    return tf.nest.map_structure(tf.convert_to_tensor, gradients)


def tensor_error(ours, reference) -> float:
  """The largest relative error of one tensor; tensors below 1e-4 of the largest by that.

  (A bias before batch normalisation has the gradient 0, and rounding.)
  """
  floor = 1e-4 * max(np.max(np.abs(g)) for group in reference.values() for g in group.values())
  return max(
    relative_error(ours[group][name], value, floor)
    for group in reference
    for name, value in reference[group].items()
  )


def group_error(ours, reference) -> float:
  """The largest ‖ours − reference‖ / ‖reference‖ of λ_0, context, α, φ and θ."""

  def flat(group):
    return np.concatenate([g.ravel() for g in group.values()]).astype(np.float64)

  return max(
    np.linalg.norm(flat(ours[group]) - flat(reference[group])) / np.linalg.norm(flat(reference[group]))
    for group in reference
  )


@pytest.fixture(scope="module")
def problem():
  """Small and fast: the dense networks in float64, clipped, with momentum."""
  return Problem("dense", "float64", clip=True, momentum=0.5)


@pytest.fixture(scope="module")
def unrolled(problem):
  return problem.gradients("unrolled")


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("clip", [False, True], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("network", NETWORKS)
class TestExactEqualsUnrolled:
  def test_in_float64(self, network, clip, momentum):
    problem = Problem(network, "float64", clip, momentum)
    assert tensor_error(problem.gradients("exact"), problem.gradients("unrolled")) < 1e-9

  def test_stored_in_float64(self, network, clip, momentum):
    problem = Problem(network, "float64", clip, momentum)
    assert tensor_error(problem.gradients("stored"), problem.gradients("exact")) < 1e-9

  def test_in_float32(self, network, clip, momentum):
    problem = Problem(network, "float32", clip, momentum)
    assert group_error(problem.gradients("exact"), problem.gradients("unrolled")) < 1e-5


def learned_step(dtype: str = "float64") -> LearnedStep:
  """A rule whose network has left its start, where it does nothing."""
  rule = LearnedStep(trust=100.0, hidden=5)
  network = rule.make_network(tiny.LATENT, seed=3, dtype=dtype)
  for i, weight in enumerate(network.weights):
    weight.assign(0.4 * tiny.normal(*weight.shape, seed=20 + i))
  return dataclasses.replace(rule, network=network)


# Other rules. No entry of the natural step reaches the bound of 100; some reach that of 0.3, others do not.
OTHER_RULES = {
  "natural": NaturalGradient(trust=100.0),
  "natural, bounded": NaturalGradient(0.3, (-0.5, 0.5)),
  "natural, multiplicative": MultiplicativeNaturalGradient(),
  "adam": Adam(beta_1=0.6, beta_2=0.8, epsilon=1e-2),
  "learned": learned_step(),
}


def test_every_rule_is_in_the_registry():
  """A new rule of the package has to be added to OTHER_RULES here."""
  assert {type(rule) for rule in OTHER_RULES.values()} | {GradientStep} == {RULES[name] for name in RULES}


@pytest.mark.parametrize("rule", OTHER_RULES)
@pytest.mark.parametrize("network", NETWORKS)
class TestExactEqualsUnrolledForEveryRule:
  @pytest.mark.parametrize("adjoint", ["exact", "stored"])
  def test_in_float64(self, network, rule, adjoint):
    problem = Problem(network, "float64", rule=OTHER_RULES[rule])
    assert tensor_error(problem.gradients(adjoint), problem.gradients("unrolled")) < 1e-9

  def test_in_float32(self, network, rule):
    problem = Problem(network, "float32", rule=OTHER_RULES[rule])
    assert group_error(problem.gradients("exact"), problem.gradients("unrolled")) < 1e-5


# Rules by their name in the test, with those bounds that some entries reach.
RULES_AND_THE_PAPERS = {"gradient": "gradient", **OTHER_RULES}


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("rule", RULES_AND_THE_PAPERS)
@pytest.mark.parametrize("network", ["dense", "position_image", "late_image"])
class TestExactEqualsUnrolledForEveryRuleAndKindOfDraws:
  def problem(self, network, rule, draws, dtype):
    if DRAWS[draws].in_closed_form and network != "late_image":
      pytest.skip("a decoder without expected_log_prob")
    samples = 2 if draws in ("antithetic", "signs") else 1
    return Problem(network, dtype, samples=samples, rule=RULES_AND_THE_PAPERS[rule], draws=draws)

  def test_in_float64(self, network, rule, draws):
    problem = self.problem(network, rule, draws, "float64")
    assert tensor_error(problem.gradients("exact"), problem.gradients("unrolled")) < 1e-9

  def test_in_float32(self, network, rule, draws):
    problem = self.problem(network, rule, draws, "float32")
    assert group_error(problem.gradients("exact"), problem.gradients("unrolled")) < 1e-5


@pytest.mark.parametrize("rule", RULES_AND_THE_PAPERS)
def test_by_quadrature_the_definition_is_the_derivative(rule):
  problem = Problem("late_image", "float64", rule=RULES_AND_THE_PAPERS[rule], draws="quadrature")
  assert_is_the_derivative_of_lambda_and_alpha(problem, problem.gradients("unrolled"), 1e-6)


@pytest.mark.parametrize("rule", OTHER_RULES)
class TestOtherRules:
  def test_the_definition_is_the_derivative(self, rule):
    problem = Problem("dense", "float64", rule=OTHER_RULES[rule])
    assert_is_the_derivative_of_lambda_and_alpha(problem, problem.gradients("unrolled"), 1e-6)

  def test_the_bound_holds_for_some_entries(self, rule):
    problem = Problem("dense", "float64", rule=OTHER_RULES[rule])
    reference = Problem("dense", "float64", rule=NaturalGradient(trust=None))
    differ = group_error(problem.gradients("exact"), reference.gradients("exact")) > 1e-3
    assert differ == (rule != "natural")

  def test_truncated_over_all_steps_is_exact_and_over_none_is_first_order(self, rule):
    problem = Problem("dense", "float64", rule=OTHER_RULES[rule])
    exact, first = problem.gradients("exact"), problem.gradients("first_order")
    assert tensor_error(problem.gradients(TruncatedAdjoint(steps=K)), exact) < 1e-9
    assert tensor_error(problem.gradients(TruncatedAdjoint(steps=0)), first) < 1e-9
    assert group_error(first, exact) > 1e-2

  def test_finite_differences_approach_the_exact_gradient(self, rule):
    problem = Problem("dense", "float64", rule=OTHER_RULES[rule])
    ours = problem.gradients(FiniteDifferenceAdjoint(radius=1e-6))
    assert tensor_error(ours, problem.gradients("exact")) < 1e-5


@pytest.mark.parametrize("network", ["lstm", "image"])
def test_stored_compiled_by_xla(network):
  """XLA asks for constant shapes and axes, also of what TensorFlow makes to differentiate a loop."""
  problem = Problem(network, "float64", clip=True, momentum=0.5)
  compiled = problem.gradients("stored", jit_compile=True)
  assert tensor_error(compiled, problem.gradients("exact", jit_compile=True)) < 1e-9


def test_every_network_is_in_the_registry():
  """A new network of the package has to be added to NETWORKS here, or have a test of its own like those named."""
  public = [getattr(networks, name) for name in networks.__all__]
  layers = {
    c
    for c in public
    if isinstance(c, type) and issubclass(c, keras.layers.Layer) and not inspect.isabstract(c)
  }
  # Decoders with a likelihood of their own are in tests/networks/test_factorised.py; wrappers, whose x has parts, in
  # tests/networks/test_conditional.py; encoders around another one in test_normalized.py and tests/posteriors.
  elsewhere = {
    networks.ConvDecoder,
    networks.MLPDecoder,
    networks.ConditionalDecoder,
    networks.ConditionalEncoder,
    networks.BatchNormalizedEncoder,
    networks.FullCovarianceEncoder,
  }
  tested = elsewhere | {type(part) for make in NETWORKS.values() for part in make("float32", dropout=0.0)[:2]}
  assert layers <= tested


# What each adjoint is held to: (the adjoint, the reference it must equal, to which relative error).
CONFORMANCE = {
  "unrolled": [(UnrolledAdjoint(), "central differences", 1e-6)],
  "exact": [(ExactAdjoint(), "unrolled", 1e-9)],
  "stored": [(StoredAdjoint(), "unrolled", 1e-9)],
  "truncated": [
    (TruncatedAdjoint(steps=K), "unrolled", 1e-9),
    (TruncatedAdjoint(steps=K + 5), "unrolled", 1e-9),
    (TruncatedAdjoint(steps=0), "first order", 1e-9),
  ],
  "first_order": [(FirstOrderAdjoint(), "first order", 1e-9)],
  "finite_difference": [
    (FiniteDifferenceAdjoint(radius=1e-3), "unrolled", 1e-2),
    (FiniteDifferenceAdjoint(radius=1e-6), "unrolled", 1e-5),
  ],
  "implicit": [(ImplicitAdjoint(iterations=40), "implicit function", 1e-9)],
}


def test_every_adjoint_is_in_the_registry():
  """A new adjoint of the package has to be added to CONFORMANCE here."""
  assert set(CONFORMANCE) == set(ADJOINTS)
  for name, cases in CONFORMANCE.items():
    assert all(type(adjoint) is ADJOINTS[name] for adjoint, _, _ in cases)


@pytest.mark.parametrize(
  ("adjoint", "reference", "tolerance"),
  [case for cases in CONFORMANCE.values() for case in cases],
  ids=lambda value: str(value).replace("Adjoint", ""),
)
def test_conformance(problem, unrolled, adjoint, reference, tolerance):
  ours = problem.gradients(adjoint)
  if reference == "unrolled":
    assert tensor_error(ours, unrolled) < tolerance
  elif reference == "first order":
    assert tensor_error(ours, first_order(problem)) < tolerance
  elif reference == "implicit function":
    near_an_optimum = Problem("dense", "float64", rule=NaturalGradient(), num_steps=20)
    reference = implicit_gradients(near_an_optimum)
    assert tensor_error(near_an_optimum.gradients(adjoint), reference) < tolerance
  else:
    assert_is_the_derivative_of_lambda_and_alpha(problem, ours, tolerance)


def first_order(problem):
  """Written out: every λ_k is λ_0 + a constant, so each ∂/∂λ_k counts for λ_0; θ sees the final loss alone.

  ∂ℓ/∂α_k = ⟨a_{k+1}, v_{k+1}⟩ with a_{k+1} the sum of the cotangents of λ_{k+1} … λ_K.
  """
  with tf.GradientTape() as tape:
    context = problem.precompute()
    tape.watch(context)
    initial = problem.encode()
    settings = SVISettings(problem.num_steps, problem.sizes, problem.momentum, problem.clip_norm)
    conditions = (problem.x, problem.beta, context)
    trace = descent.descend(
      descent.Problem(
        problem.objective,
        tf.stop_gradient(initial.pack()),
        tf.stop_gradient(settings.step_sizes(problem.dtype)),
        problem.step_noise,
        tf.nest.map_structure(tf.stop_gradient, conditions),
        settings.step_rule,
      )
    )
    # λ_{k+1} − λ_k = α_k v_{k+1}.
    moves = tf.stack(GaussianParams.unpack(trace.params[1:] - trace.params[:-1]))
    velocity = moves / tf.stop_gradient(problem.sizes)[:, tf.newaxis]
    steps = tf.concat([tf.zeros([2, 1, tiny.BATCH, tiny.LATENT], problem.dtype), velocity], 1)
    sizes = tf.concat([tf.zeros([1, tiny.LATENT], problem.dtype), problem.sizes], 0)
    moved = tf.cumsum(sizes[:, None] * tf.stop_gradient(steps), axis=1)
    path = tf.stack(list(initial))[:, None] + moved
    final = GaussianParams(path[0, -1], path[1, -1])
    loss = tf.reduce_mean(problem.objective(final, problem.final_noise, *conditions))
    loss += 0.1 * tf.reduce_sum(problem.weights * path)
  sources = {
    "initial": dict(initial._asdict()),
    "context": {f"{i}": t for i, t in enumerate(context) if t.dtype.is_floating},
    "step sizes": {"": problem.sizes},
    "encoder": {v.path: v.value for v in problem.encoder.trainable_variables},
    "decoder": {v.path: v.value for v in problem.decoder.trainable_variables},
  }
  return tape.gradient(loss, sources)


def assert_is_the_derivative_of_lambda_and_alpha(problem, gradients, tolerance):
  """The definition itself has only the loss to be tested against: (ℓ(· + h d) − ℓ(· − h d)) / 2h.

  Encoder and decoder weights are in test_refinement.py.
  """
  context = problem.precompute()
  initial = problem.encode()

  def loss(shift, sizes):
    settings = SVISettings(problem.num_steps, sizes, problem.momentum, problem.clip_norm, rule=problem.rule)
    conditions = (problem.x, problem.beta, context)
    start = GaussianParams(initial.mean + shift[0], initial.log_var + shift[1])
    params, trajectory = refine(
      problem.objective, start, settings, noise=problem.step_noise, context=conditions
    )
    value = tf.reduce_mean(problem.objective(params, problem.final_noise, *conditions))
    return float(value + 0.1 * tf.reduce_sum(problem.weights * tf.stack(list(trajectory))))

  h, nothing = 1e-5, np.zeros([2, tiny.BATCH, tiny.LATENT])
  for part in range(2):
    d = nothing.copy()
    d[part] = tiny.normal(tiny.BATCH, tiny.LATENT, seed=8)
    difference = (loss(h * d, problem.sizes) - loss(-h * d, problem.sizes)) / (2 * h)
    derivative = np.sum(d[part] * gradients["initial"][("mean", "log_var")[part]])
    assert difference == pytest.approx(derivative, rel=tolerance)
  d = tiny.normal(*problem.sizes.shape, seed=9)
  difference = (loss(nothing, problem.sizes + h * d) - loss(nothing, problem.sizes - h * d)) / (2 * h)
  derivative = np.sum(d * gradients["step sizes"][""])
  assert difference == pytest.approx(derivative, rel=tolerance)


def test_truncation_approaches_the_exact_gradient_step_by_step(problem, unrolled):
  errors = [
    group_error(
      {"initial": problem.gradients(TruncatedAdjoint(steps=s))["initial"]}, {"initial": unrolled["initial"]}
    )
    for s in range(K + 1)
  ]
  assert errors[0] > errors[-2] > errors[-1] and errors[-1] < 1e-9


def test_exact_equals_unrolled_with_several_noise_draws_a_step():
  problem = Problem("dense", "float64", clip=True, momentum=0.5, samples=3)
  assert tensor_error(problem.gradients("exact"), problem.gradients("unrolled")) < 1e-9


def test_exact_equals_unrolled_for_one_step():
  problem = Problem("dense", "float64", clip=True, momentum=0.5, num_steps=1)
  assert tensor_error(problem.gradients("exact"), problem.gradients("unrolled")) < 1e-9


def test_finite_differences_of_the_papers_radius_lose_most_digits_in_float32():
  """Why `exact` is the default: at r = 1e-5 the rounding of a difference of float32 gradients is what remains."""
  problem = Problem("image", "float32", clip=False, momentum=0.5)
  exact = problem.gradients("exact")
  narrow = group_error(problem.gradients(FiniteDifferenceAdjoint(radius=1e-5)), exact)
  wide = group_error(problem.gradients(FiniteDifferenceAdjoint(radius=1e-2)), exact)
  assert 1e-3 < narrow < 10.0
  assert wide < narrow / 3


class TestNames:
  @pytest.mark.parametrize("name", ADJOINTS)
  def test_config_round_trip(self, name):
    adjoint = adjoint_lib.get(name)
    assert adjoint_lib.from_config(adjoint_lib.to_config(adjoint)) == adjoint

  def test_config_keeps_parameters(self):
    for adjoint in (TruncatedAdjoint(steps=2), FiniteDifferenceAdjoint(radius=0.5)):
      assert adjoint_lib.from_config(adjoint_lib.to_config(adjoint)) == adjoint

  @pytest.mark.parametrize("steps", [1.5, -1, True])
  def test_steps_are_whole(self, steps):
    with pytest.raises(ValueError, match=f"whole steps. Received: {steps}"):
      TruncatedAdjoint(steps)

  def test_an_object_is_itself(self):
    adjoint = TruncatedAdjoint(steps=2)
    assert adjoint_lib.get(adjoint) is adjoint

  @pytest.mark.parametrize(
    "make",
    [
      lambda: adjoint_lib.get("magic"),
      lambda: TruncatedAdjoint(steps=-1),
      lambda: FiniteDifferenceAdjoint(radius=0.0),
    ],
    ids=["name", "steps", "radius"],
  )
  def test_bad_ones_are_refused(self, make):
    with pytest.raises(ValueError, match="Received"):
      make()
