"""A refinement with a tolerance: who stops when, and that its gradient is that of the steps that were taken."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.tiny import relative_error
from tf_savae import SAVAE
from tf_savae.posterior import GaussianParams
from tf_savae.svi import SVISettings, descent
from tf_savae.svi.adjoint import TruncatedAdjoint
from tf_savae.svi.derivatives import value_and_gradient
from tf_savae.svi.refine import refine
from tf_savae.svi.rules import Adam, GradientStep, MultiplicativeNaturalGradient, NaturalGradient

K, ROWS, LATENT = 6, 4, 2
TOLERANCE = 0.1
FIXED = SVISettings(K, step_size=(0.3, 0.25, 0.2, 0.2, 0.15, 0.1), momentum=0.4, clip_norm=2.0)
DYNAMIC = dataclasses.replace(FIXED, tolerance=TOLERANCE)
# The same noise at every step: what is left to gain falls.
NOISE = tf.repeat(tiny.normal(1, ROWS, LATENT, seed=1), K, axis=0)
# Rows from near to far.
INITIAL = GaussianParams(
  tiny.normal(ROWS, LATENT, seed=2) * [[0.05], [0.3], [1.0], [3.0]], 0.3 * tiny.normal(ROWS, LATENT, seed=3)
)
WEIGHTS = 0.3 * tiny.normal(LATENT, 3, seed=4)


def curved(params, noise, weights):
  """Nonlinear in λ and in `weights`."""
  return tf.reduce_sum(tf.cos(params.sample(noise) @ weights) ** 2, axis=-1) + params.kl_to_prior()


def descend(settings, initial=INITIAL, noise=NOISE, neg_elbo=curved):
  sizes = settings.step_sizes(tf.float64)
  return descent.descend(
    descent.Problem(
      neg_elbo, initial.pack(), sizes, noise[:, None], (WEIGHTS,), settings.step_rule, settings.tolerance
    )
  )


def gradients(settings, adjoint, weigh=None, initial=INITIAL, noise=NOISE, weights=WEIGHTS):
  """Of a loss of λ_K and the trajectory, for λ_0, α and the weights."""
  sizes = tf.constant(FIXED.step_size, tf.float64)
  with tf.GradientTape() as tape:
    tape.watch([*initial, sizes, weights])
    settings = dataclasses.replace(settings, step_size=sizes)
    result = refine(curved, initial, settings, noise=noise, context=(weights,), adjoint=adjoint)
    loss = tf.reduce_sum(tf.sin(result.params.mean) + result.params.log_var**2)
    loss += tf.reduce_sum(weigh * result.trajectory.mean**2) if weigh is not None else 0.0
  return tape.gradient(loss, [*initial, sizes, weights])


def test_tolerance_0_is_all_k_steps_to_the_last_bit():
  fixed = descend(FIXED)
  for trace in (
    descend(dataclasses.replace(FIXED, tolerance=0.0)),
    descend(dataclasses.replace(FIXED, tolerance=1e-300)),
  ):
    for ours, theirs in zip(tf.nest.flatten(trace), tf.nest.flatten(fixed), strict=True):
      np.testing.assert_array_equal(ours, theirs)
    assert np.all(trace.active)
  ours = gradients(dataclasses.replace(FIXED, tolerance=0.0), "exact")
  for a, b in zip(ours, gradients(FIXED, "exact"), strict=True):
    np.testing.assert_array_equal(a, b)


def test_an_example_stops_for_good_where_a_step_promises_too_little():
  trace = descend(DYNAMIC)
  active = trace.active.numpy()
  taken = active.sum(axis=0)
  assert len(set(taken)) == 3 and taken.max() < K  # they differ
  for row in range(ROWS):
    params, velocity = GaussianParams(*(part[row : row + 1] for part in INITIAL)), [np.zeros([1, LATENT])] * 2
    for k in range(K):
      _, gradient = value_and_gradient(curved, params, NOISE[k, row : row + 1], (WEIGHTS,))
      clipped = [g * min(1.0, FIXED.clip_norm / np.linalg.norm(g)) for g in gradient]
      velocity = [0.4 * v - c.numpy() for v, c in zip(velocity, clipped, strict=True)]
      step = [FIXED.step_size[k] * v for v in velocity]
      gain = -sum(np.sum(g.numpy() * s) for g, s in zip(gradient, step, strict=True))
      if gain <= TOLERANCE:
        break
      assert active[k, row]
      params = GaussianParams(*(p + s for p, s in zip(params, step, strict=True)))
    else:
      k = K
    assert not active[k:, row].any()
    for part, final in zip(GaussianParams.unpack(trace.params), params, strict=True):
      np.testing.assert_allclose(part[k:, row], np.repeat(final, K + 1 - k, axis=0), rtol=1e-12)


def test_the_loop_ends_when_all_have_stopped():
  calls = []

  def counted(params, noise, weights):
    calls.append(1)
    return curved(params, noise, weights)

  near = GaussianParams(*(part[:2] for part in INITIAL))
  trace = descend(DYNAMIC, near, NOISE[:, :2], counted)  # eagerly, so that each step is a call
  assert len(calls) < K
  last = len(calls) - 1
  np.testing.assert_array_equal(trace.neg_elbo[last:], np.repeat(trace.neg_elbo[last:][:1], K - last, axis=0))
  assert np.all(trace.gradient[len(calls) :] == 0)


@pytest.mark.parametrize("rows", [slice(None), slice(0, 2)], ids=["all steps", "fewer steps"])
@pytest.mark.parametrize("trajectory", [False, True], ids=["end", "trajectory"])
def test_exact_equals_unrolled(rows, trajectory):
  noise = NOISE[:, rows]
  initial = GaussianParams(*(part[rows] for part in INITIAL))
  assert not np.all(descend(DYNAMIC, initial, noise).active)
  weigh = tiny.normal(K + 1, 1, LATENT, seed=9) if trajectory else None
  reference = gradients(DYNAMIC, "unrolled", weigh, initial, noise)
  for adjoint in ("exact", TruncatedAdjoint(K)):
    for ours, theirs in zip(gradients(DYNAMIC, adjoint, weigh, initial, noise), reference, strict=True):
      assert relative_error(ours, theirs) < 1e-10
  fixed = gradients(FIXED, "exact", weigh, initial, noise)
  assert all(relative_error(a, b) > 1e-3 for a, b in zip(fixed, reference, strict=True))  # it does matter


def test_an_example_does_not_see_its_batch_mates():
  together = descend(DYNAMIC)
  for row in range(ROWS):
    alone = descend(DYNAMIC, GaussianParams(*(p[row : row + 1] for p in INITIAL)), NOISE[:, row : row + 1])
    np.testing.assert_allclose(alone.params[:, 0], together.params[:, row], rtol=1e-12)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "XLA"])
def test_compiled_agrees_with_eager(jit_compile):
  rows = ROWS if jit_compile else None
  signature = [tf.TensorSpec(shape, tf.float64) for shape in ([rows, LATENT], [rows, LATENT], WEIGHTS.shape)]

  @tf.function(jit_compile=jit_compile, autograph=False, input_signature=signature)
  def compiled(mean, log_var, weights):
    return gradients(DYNAMIC, "exact", initial=GaussianParams(mean, log_var), weights=weights)

  for ours, theirs in zip(compiled(*INITIAL, WEIGHTS), gradients(DYNAMIC, "exact"), strict=True):
    assert relative_error(ours, theirs) < 1e-9


@pytest.mark.parametrize(
  ("learned", "tolerance", "rule"),
  [
    ("step", 0.0, GradientStep(0.5, 1.0)),
    ("latent", 0.05, GradientStep(0.5, 1.0)),
    ("block", 0.0, GradientStep(0.5, 1.0)),
    ("block", 0.0, NaturalGradient(trust=0.2)),
    ("block", 0.001, MultiplicativeNaturalGradient()),
    ("block", 0.0, Adam()),
  ],
)
def test_the_gradient_of_learned_step_sizes_is_that_of_finite_differences(learned, tolerance, rule):
  encoder, decoder, x = tiny.lstm_networks(dropout=0.0)
  settings = SVISettings(3, (0.5, 0.3, 0.2), tolerance=tolerance, rule=rule)
  model = SAVAE(encoder, decoder, "savae", settings, learn_step_size=learned, dtype="float64")

  @tf.function(autograph=False)
  def loss():
    return tf.reduce_sum(model.method.loss(model.infer(model.inference(x))))

  @tf.function(autograph=False)
  def derivative():
    with tf.GradientTape() as tape:
      value = loss()
    return tape.gradient(value, model.step_sizes.log_sizes.value)

  model.ensure_built(x)
  sizes = model.step_sizes.log_sizes
  exact, at, r = derivative().numpy(), sizes.numpy(), 1e-5
  assert exact.shape == {"step": (3, 1), "latent": (3, decoder.latent_dim), "block": (3, 2, 1)}[learned]
  for index in np.ndindex(exact.shape):
    values = []
    for sign in (1, -1):
      moved = at.copy()
      moved[index] += sign * r
      sizes.assign(moved)
      values.append(float(loss()))
    assert exact[index] == pytest.approx((values[0] - values[1]) / (2 * r), rel=1e-5, abs=1e-8)
  assert np.max(np.abs(exact)) > 1e-3


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_a_tolerance_that_is_none_is_refused(tolerance):
  with pytest.raises(ValueError, match="tolerance is a number of nats"):
    SVISettings(3, tolerance=tolerance)
