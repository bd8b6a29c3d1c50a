"""A refinement that takes `k_now` of its K steps is one of K = k_now, gradients included, in one graph for all."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.tiny import relative_error
from tf_savae import SAVAE
from tf_savae.posterior import GaussianParams
from tf_savae.schedules import KWarmup
from tf_savae.svi import SVISettings
from tf_savae.svi.adjoint import (
  ExactAdjoint,
  FirstOrderAdjoint,
  StoredAdjoint,
  TruncatedAdjoint,
  UnrolledAdjoint,
)
from tf_savae.svi.refine import refine_traced
from tf_savae.svi.rules import NaturalGradient

K, ROWS, LATENT = 4, 3, 2
SIZES = tf.constant([0.3, 0.25, 0.2, 0.1], tf.float64)
MOVING = SVISettings(K, SIZES, momentum=0.4, clip_norm=2.0)
PLAIN = SVISettings(K, SIZES, momentum=0.0)
STOPPING = dataclasses.replace(MOVING, tolerance=0.02)
NATURAL = SVISettings(K, SIZES, rule=NaturalGradient(trust=0.5), tolerance=0.001)
ADAM = SVISettings(K, SIZES, rule="adam", tolerance=0.001)
INITIAL = GaussianParams(2.0 * tiny.normal(ROWS, LATENT, seed=2), 0.3 * tiny.normal(ROWS, LATENT, seed=3))
WEIGHTS = 0.3 * tiny.normal(LATENT, 3, seed=4)
NOISE = tiny.normal(K, ROWS, LATENT, seed=5)
ALONG = tiny.normal(K + 1, ROWS, LATENT, seed=6)


def curved(params, noise, weights):
  """Nonlinear in λ and in `weights`."""
  return tf.reduce_sum(tf.cos(params.sample(noise) @ weights) ** 2, axis=-1) + params.kl_to_prior()


def solve(settings, adjoint, k_now=None, along=ALONG, neg_elbo=curved, initial=INITIAL, weights=WEIGHTS):
  """Trajectory, path, and the gradient of a loss of λ_K and ⟨along, μ_0 … μ_K⟩ for λ_0, α and the weights."""
  noise, sizes = NOISE[: settings.num_steps], settings.step_size
  with tf.GradientTape() as tape:
    tape.watch([*initial, sizes, weights])
    (params, trajectory), trace = refine_traced(
      neg_elbo, initial, settings, noise=noise, context=(weights,), adjoint=adjoint, k_now=k_now
    )
    loss = tf.reduce_sum(tf.sin(params.mean) + params.log_var**2) + tf.reduce_sum(along * trajectory.mean**2)
  return trajectory, trace.neg_elbo, tape.gradient(loss, [*initial, sizes, weights])


@pytest.mark.parametrize("adjoint", [ExactAdjoint(), UnrolledAdjoint()], ids=["exact", "unrolled"])
def test_all_steps_are_those_without_a_schedule_to_the_last_bit(adjoint):
  for ours, theirs in zip(
    tf.nest.flatten(solve(MOVING, adjoint, K)), tf.nest.flatten(solve(MOVING, adjoint)), strict=True
  ):
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
  ("settings", "adjoint", "j"),
  [
    (MOVING, ExactAdjoint(), 1),
    (MOVING, ExactAdjoint(), 3),
    (MOVING, UnrolledAdjoint(), 2),
    (MOVING, TruncatedAdjoint(2), 1),
    (MOVING, TruncatedAdjoint(2), 3),
    (MOVING, FirstOrderAdjoint(), 2),
    (PLAIN, ExactAdjoint(), 2),
    (STOPPING, ExactAdjoint(), 3),
    (STOPPING, UnrolledAdjoint(), 3),
    (MOVING, StoredAdjoint(), 3),
    (STOPPING, StoredAdjoint(), 3),
    (NATURAL, ExactAdjoint(), 2),
    (ADAM, ExactAdjoint(), 2),
    (ADAM, TruncatedAdjoint(2), 3),
    (ADAM, StoredAdjoint(), 3),
  ],
)
def test_the_first_j_steps_are_a_refinement_of_j_steps(settings, adjoint, j):
  short = dataclasses.replace(settings, num_steps=j, step_size=SIZES[:j])
  # Where the trajectory has come to rest, its cotangents meet in one point.
  along = tf.concat([ALONG[:j], tf.reduce_sum(ALONG[j:], axis=0, keepdims=True)], axis=0)
  trajectory, path, gradients = solve(settings, adjoint, j)
  expected, short_path, short_gradients = solve(short, adjoint, along=along)
  for part, short_part in zip(trajectory, expected, strict=True):
    np.testing.assert_allclose(part[: j + 1], short_part, rtol=1e-12)
    np.testing.assert_array_equal(part[j:], np.repeat(part[j : j + 1], K + 1 - j, axis=0))
  np.testing.assert_allclose(path[:j], short_path, rtol=1e-12)
  np.testing.assert_array_equal(path[j:], np.repeat(path[j - 1 : j], K - j, axis=0))
  *_, d_sizes, _ = gradients
  np.testing.assert_array_equal(d_sizes[j:], 0)
  gradients[2] = d_sizes[:j]
  for ours, theirs in zip(gradients, short_gradients, strict=True):
    assert relative_error(ours, theirs) < 1e-12


@pytest.mark.parametrize(
  "settings",
  [MOVING, PLAIN, STOPPING, NATURAL, ADAM],
  ids=["momentum and clip", "plain", "tolerance", "natural", "Adam"],
)
def test_exact_equals_unrolled(settings):
  reference = solve(settings, UnrolledAdjoint(), 3)[-1]
  for ours, theirs in zip(solve(settings, ExactAdjoint(), 3)[-1], reference, strict=True):
    assert relative_error(ours, theirs) < 1e-9
  for ours, theirs in zip(solve(settings, ExactAdjoint())[-1], reference, strict=True):
    assert relative_error(ours, theirs) > 1e-3  # it does matter


def test_steps_that_are_not_taken_cost_nothing():
  def calls(k_now):
    counted = []

    def neg_elbo(params, noise, weights):
      counted.append(1)
      return curved(params, noise, weights)

    solve(PLAIN, "exact", k_now, neg_elbo=neg_elbo)  # eagerly, so that each step is a call
    return len(counted)

  one, two, four = (calls(k_now) for k_now in (1, 2, K))
  assert (two - one, four - two) == (2, 4)  # a step forward, a step back
  assert calls(None) == four


def test_more_steps_than_k_are_k_and_fewer_than_one_are_one():
  for wrong, right in ((K + 3, K), (0, 1)):
    np.testing.assert_array_equal(solve(PLAIN, "exact", wrong)[0].mean, solve(PLAIN, "exact", right)[0].mean)


@pytest.mark.parametrize(
  ("adjoint", "jit_compile"),
  [(ExactAdjoint(), False), (TruncatedAdjoint(2), True)],
  ids=["exact, graph", "truncated, XLA"],
)
def test_one_graph_serves_every_number_of_steps(adjoint, jit_compile):
  rows = ROWS if jit_compile else None
  traces = []
  parameters = tf.TensorSpec([rows, LATENT], tf.float64)

  @tf.function(
    jit_compile=jit_compile,
    autograph=False,
    input_signature=[parameters, parameters, tf.TensorSpec.from_tensor(WEIGHTS), tf.TensorSpec([], tf.int32)],
  )
  def compiled(mean, log_var, weights, k_now):
    traces.append(1)
    return solve(MOVING, adjoint, k_now, initial=GaussianParams(mean, log_var), weights=weights)

  for k_now in (1, 3, K):
    ours = tf.nest.flatten(compiled(*INITIAL, WEIGHTS, k_now))
    for value, expected in zip(ours, tf.nest.flatten(solve(MOVING, adjoint, k_now)), strict=True):
      assert relative_error(value, expected) < 1e-9
  assert len(traces) == 1


class TestModel:
  @pytest.fixture(scope="class")
  def model(self):
    encoder, decoder = tiny.PairEncoder(), tiny.BernoulliDecoder()
    model = SAVAE(encoder, decoder, "vae_svi", SVISettings(4, 0.5), k_schedule=KWarmup(4, 6))
    model.compile(optimizer=keras.optimizers.Adam(0.01), jit_compile=False)
    return model

  def test_an_update_takes_the_steps_of_its_number_in_one_graph(self, model):
    x, traces, step = tiny.bits(dtype="float32"), [], model.train_step

    def traced(data):
      traces.append(1)
      return step(data)

    model.train_step = traced
    taken = []
    for _ in range(8):
      model.fit(x, batch_size=tiny.BATCH, verbose=0)  # one update
      taken.append(len(np.unique(model.mean_step_losses.result())))
    assert taken == [int(model.k_schedule(update)) for update in range(8)] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert len(traces) == 1
    # A resumed run knows no more than the number of its next update.
    model.step.assign(3)
    model.fit(x, batch_size=tiny.BATCH, verbose=0)
    assert len(np.unique(model.mean_step_losses.result())) == taken[3]

  def test_evaluation_takes_all_steps(self, model):
    x = tiny.bits(dtype="float32")
    assert model.svi.num_steps == model.eval_k == 4
    model.step.assign(0)
    model.evaluate(x, batch_size=tiny.BATCH, verbose=0)
    assert len(np.unique(model.mean_step_losses.result())) == 4
    batch = model.inference(x)
    trajectory = batch.refine(batch.encode(), adjoint=None)[1]
    assert np.all(np.abs(np.diff(trajectory.mean, axis=0)).max(axis=(1, 2)) > 0)

  def test_the_schedule_is_part_of_the_configuration(self, model):
    again = SAVAE.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert [int(again.k_schedule(step)) for step in (0, 5, 6)] == [1, 3, 4]
    old = model.get_config()
    del old["k_schedule"], old["svi"]["antithetic"]
    assert SAVAE.from_config(old).k_schedule is None  # saved before there was one

  def test_a_method_that_does_not_refine_refuses_it(self):
    with pytest.raises(ValueError, match="for methods that refine"):
      SAVAE(tiny.PairEncoder(), tiny.BernoulliDecoder(), "vae", k_schedule=KWarmup(2, 3))


def test_the_schedule_rises_linearly_to_k_and_stays_there():
  schedule = KWarmup(5, 8)
  assert [int(schedule(step)) for step in range(10)] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
  assert int(KWarmup(20, 10_000_000)(tf.constant(10_000_000, tf.int64))) == 20
  assert int(KWarmup(20, 10_000_000)(tf.constant(9_999_999, tf.int64))) == 19
  assert int(KWarmup(1, 3)(0)) == int(KWarmup(1, 3)(9)) == 1
