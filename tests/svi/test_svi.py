"""The SVI steps: v ← γ v − clip(g), λ ← λ + α v, each example for itself."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny import normal
from tf_savae.posterior import GaussianParams
from tf_savae.svi import SVISettings, descent
from tf_savae.svi.derivatives import over_samples
from tf_savae.svi.refine import refine
from tf_savae.svi.rules import Adam, clip
from tf_savae.svi.settings import settings_from_config, settings_to_config

TARGET = normal(2, seed=9)


def quadratic(params, noise):
  """½ ‖z − target‖² + ½ ‖log σ²‖², whose gradient is written down in `quadratic_gradient`."""
  z = params.sample(noise)
  return 0.5 * tf.reduce_sum((z - TARGET) ** 2 + params.log_var**2, axis=-1)


def quadratic_gradient(mean, log_var, noise):
  error = mean + np.exp(0.5 * log_var) * noise - TARGET.numpy()
  return error, 0.5 * error * np.exp(0.5 * log_var) * noise + log_var


def clip_row(row, bound):
  return row * min(1.0, bound / np.linalg.norm(row))


def problem(settings, initial, noise):
  return descent.Problem(
    quadratic, initial.pack(), settings.step_sizes(tf.float64), noise, (), settings.step_rule
  )


@pytest.fixture
def initial():
  return GaussianParams(normal(3, 2, seed=1), 0.5 * normal(3, 2, seed=2))


class TestClip:
  def test_scales_long_rows_to_the_bound_and_leaves_short_ones(self):
    rows = tf.constant([[3.0, 4.0], [0.3, 0.4], [-30.0, 40.0]], tf.float64)
    clipped = clip(tf.concat([rows, rows], 1), 2.0)[:, :2]
    np.testing.assert_allclose(clipped, [[1.2, 1.6], [0.3, 0.4], [-1.2, 1.6]], rtol=1e-12)

  def test_looks_at_one_example_and_one_part_only(self):
    long, short = tf.constant([[300.0, 400.0]], tf.float64), tf.constant([[0.3, 0.4]], tf.float64)
    rows = GaussianParams(tf.concat([long, short], 0), tf.concat([short, long], 0))
    both = GaussianParams.unpack(clip(rows.pack(), 1.0))
    np.testing.assert_allclose(both.mean, [[0.6, 0.8], [0.3, 0.4]], rtol=1e-12)
    np.testing.assert_allclose(both.log_var, [[0.3, 0.4], [0.6, 0.8]], rtol=1e-12)

  def test_none_does_nothing(self):
    rows = tf.concat([1e6 * normal(3, 2), normal(3, 2)], 1)
    assert clip(rows, None) is rows

  @pytest.mark.parametrize("dtype", ["float32", "float64"])
  @pytest.mark.parametrize("bound", [1e-3, 5.0, 1e6])
  def test_derivatives_at_a_zero_gradient_are_those_of_the_identity(self, dtype, bound):
    zero = tf.zeros([2, 6], dtype)
    with tf.GradientTape() as outer:
      outer.watch(zero)
      with tf.GradientTape() as inner:
        inner.watch(zero)
        value = tf.reduce_sum(clip(zero, bound))
      first = inner.gradient(value, zero)
      total = tf.reduce_sum(first * (1.0 + zero))
    np.testing.assert_array_equal(first, np.ones([2, 6]))
    np.testing.assert_array_equal(outer.gradient(total, zero), np.ones([2, 6]))

  def test_derivative_projects_out_the_direction_of_a_clipped_gradient(self):
    row = tf.constant([[3.0, 4.0]], tf.float64)
    with tf.GradientTape() as tape:
      tape.watch(row)
      clipped = clip(tf.concat([row, row], 1), 1.0)[:, :2]
    jacobian = tape.jacobian(clipped, row)[0, :, 0]
    direction = np.array([0.6, 0.8])
    np.testing.assert_allclose(jacobian, (np.eye(2) - np.outer(direction, direction)) / 5.0, rtol=1e-12)


class TestSteps:
  def test_two_steps_by_hand(self, initial):
    settings = SVISettings(2, step_size=[0.1, 0.03], momentum=0.5, clip_norm=0.7)
    noise = normal(2, 3, 2, seed=3)
    trajectory = refine(quadratic, initial, settings, noise=noise).trajectory
    for i in range(3):
      mean, log_var = (part[i].numpy() for part in initial)
      v_mean = v_log_var = np.zeros(2)
      for k, step_size in enumerate([0.1, 0.03]):
        g_mean, g_log_var = quadratic_gradient(mean, log_var, noise[k, i].numpy())
        v_mean = 0.5 * v_mean - clip_row(g_mean, 0.7)
        v_log_var = 0.5 * v_log_var - clip_row(g_log_var, 0.7)
        mean, log_var = mean + step_size * v_mean, log_var + step_size * v_log_var
        np.testing.assert_allclose(trajectory.mean[k + 1, i], mean, rtol=1e-12)
        np.testing.assert_allclose(trajectory.log_var[k + 1, i], log_var, rtol=1e-12)

  def test_momentum_accumulates_geometrically(self, initial):
    """With a constant gradient g, λ_3 = λ_0 − α (3 + 2 γ + γ²) g."""

    def linear(params, noise):
      return tf.reduce_sum(2.0 * params.mean - params.log_var, axis=-1)

    settings = SVISettings(3, step_size=0.1, momentum=0.4)
    params = refine(linear, initial, settings, noise=normal(3, 3, 2)).params
    moved = 0.1 * (3 + 2 * 0.4 + 0.4**2)
    np.testing.assert_allclose(params.mean, initial.mean - 2.0 * moved, rtol=1e-12)
    np.testing.assert_allclose(params.log_var, initial.log_var + moved, rtol=1e-12)

  def test_a_step_size_per_latent_moves_each_latent_by_its_own(self, initial):
    settings = SVISettings(1, step_size=[[0.0, 0.2]])
    noise = normal(1, 3, 2)
    params = refine(quadratic, initial, settings, noise=noise).params
    g_mean, _ = quadratic_gradient(initial.mean.numpy(), initial.log_var.numpy(), noise[0].numpy())
    np.testing.assert_array_equal(params.mean[:, 0], initial.mean[:, 0])
    np.testing.assert_allclose(params.mean[:, 1], initial.mean[:, 1] - 0.2 * g_mean[:, 1], rtol=1e-12)

  def test_several_draws_average_their_gradients(self, initial):
    settings = SVISettings(1, step_size=0.1, num_samples=4)
    noise = normal(1, 4, 3, 2, seed=4)
    params = refine(quadratic, initial, settings, noise=noise).params
    gradients = [
      quadratic_gradient(initial.mean.numpy(), initial.log_var.numpy(), e.numpy()) for e in noise[0]
    ]
    g_mean, g_log_var = np.mean(gradients, axis=0)
    np.testing.assert_allclose(params.mean, initial.mean - 0.1 * g_mean, rtol=1e-12)
    np.testing.assert_allclose(params.log_var, initial.log_var - 0.1 * g_log_var, rtol=1e-12)

  def test_an_antithetic_pair_cancels_what_is_odd_in_the_noise(self, initial):
    settings = SVISettings(1, step_size=0.1, num_samples=2, antithetic=True)
    assert settings.noise_draws.num_independent == 1
    noise = settings.noise_draws.all_samples(normal(1, 1, 3, 2, seed=4))
    params = refine(quadratic, initial, settings, noise=noise).params
    mean, log_var = (part.numpy() for part in initial)
    of_pair = [quadratic_gradient(mean, log_var, sign * noise[0, 0].numpy()) for sign in (1, -1)]
    np.testing.assert_allclose(params.log_var, log_var - 0.05 * (of_pair[0][1] + of_pair[1][1]), rtol=1e-12)
    # Here the gradient for μ is linear in ε: nothing is left of the noise.
    np.testing.assert_allclose(params.mean, mean - 0.1 * (mean - TARGET), rtol=1e-12)

  def test_the_trace_holds_what_the_adjoint_needs(self, initial):
    settings = SVISettings(3, step_size=0.1, momentum=0.5, clip_norm=0.7)
    noise = normal(3, 1, 3, 2, seed=5)
    trace = descent.descend(problem(settings, initial, noise))
    params, gradient = GaussianParams.unpack(trace.params), GaussianParams.unpack(trace.gradient)
    velocity = GaussianParams.unpack(trace.state[0])  # before each step
    assert params.mean.shape == (4, 3, 2) and np.all(trace.active) and np.all(velocity.mean[0] == 0)
    for k in range(3):
      at = GaussianParams(params.mean[k], params.log_var[k])
      np.testing.assert_allclose(trace.neg_elbo[k], quadratic(at, noise[k, 0]), rtol=1e-12)
      expected = quadratic_gradient(at.mean.numpy(), at.log_var.numpy(), noise[k, 0].numpy())
      np.testing.assert_allclose(gradient.mean[k], expected[0], rtol=1e-12)
      np.testing.assert_allclose(gradient.log_var[k], expected[1], rtol=1e-12)
      if k < 2:
        moved = params.mean[k + 1] - params.mean[k]
        np.testing.assert_allclose(0.1 * velocity.mean[k + 1], moved, rtol=1e-9)

  def test_no_gradient_goes_back_through_the_loss_along_the_way(self, initial):
    """Not even zeros, which would be a second pass back through the decoder in every step of a stored loop."""
    settings = SVISettings(1, 0.1)
    with tf.GradientTape(persistent=True) as tape:
      tape.watch(initial)
      of_one_step = problem(settings, initial, normal(1, 1, 3, 2, seed=3))
      point, _ = descent.step(of_one_step, 0, descent.start(of_one_step))
    assert tape.gradient(point.neg_elbo, list(initial)) == [None, None]
    assert None not in tape.gradient(point.params, list(initial))


class TestSettings:
  def test_other_draws_are_not_antithetic_any_more(self):
    pairs = SVISettings(2, num_samples=2, antithetic=True)
    assert pairs.antithetic and pairs.draws == "antithetic"
    alone = dataclasses.replace(pairs, draws="independent")
    assert not alone.antithetic and alone.draws == "independent"
    assert (
      dataclasses.replace(alone, antithetic=True) == dataclasses.replace(alone, draws="antithetic") == pairs
    )
    with pytest.raises(ValueError, match="antithetic=False, draws='antithetic'"):
      dataclasses.replace(pairs, antithetic=False)

  def test_their_configuration_is_json_whatever_numbers_they_were_given(self):
    settings = SVISettings(
      np.int64(2), np.float32(0.5), tolerance=np.float64(1.0), rule=Adam(np.float32(0.5))
    )
    assert settings_from_config(json.loads(json.dumps(settings_to_config(settings)))) == settings

  def test_sizes_for_another_number_of_latents_are_refused(self):
    for sizes in (np.ones([2, 5]), np.ones([2, 2, 5])):
      with pytest.raises(ValueError, match=r"must be for 3 latents. Received shape: \(2,.* 5\)"):
        SVISettings(2, step_size=sizes).step_sizes(tf.float32, latent_dim=3)

  @pytest.mark.parametrize(
    "wrong",
    [
      {"num_steps": -1},
      {"num_steps": 2.5},
      {"num_steps": True, "step_size": 0.1},
      {"num_samples": True},
      {"momentum": 1.0},
      {"momentum": -0.1},
      {"clip_norm": 0.0},
      {"clip_norm": -5.0},
      {"clip_norm": float("nan")},
      {"num_samples": 0},
      {"num_samples": 1.5},
      {"antithetic": True},
      {"antithetic": True, "num_samples": 3},
      {"antithetic": True, "num_samples": 2, "draws": "signs"},
      {"antithetic": False, "num_samples": 2, "draws": "antithetic"},
      {"step_size": -0.1},
      {"step_size": float("nan")},
      {"step_size": [0.1, float("inf"), 0.1]},
      {"step_size": [0.1, 0.2]},
      {"step_size": np.ones([2, 4])},
      {"step_size": np.ones([3, 1, 1])},
      {"step_size": tf.ones([2])},
      {"step_size": tf.ones([4, 2])},
      {"step_size": tf.ones([3, 1, 1])},
    ],
    ids=str,
  )
  def test_refuse_and_name_what_they_received(self, wrong):
    with pytest.raises(ValueError, match="Received"):
      SVISettings(**{"num_steps": 3, "step_size": 0.1, **wrong})

  @pytest.mark.parametrize("sizes", [0.1, [0.1, 0.1, 0.1], np.full([3, 1], 0.1), tf.fill([3], 0.1)], ids=str)
  def test_one_number_or_one_a_step_become_a_column(self, sizes):
    column = SVISettings(3, step_size=sizes).step_sizes(tf.float64)
    assert column.dtype == tf.float64
    np.testing.assert_allclose(column, np.full([3, 1], 0.1), rtol=1e-6)

  def test_one_per_latent_serve_its_mean_and_its_log_variance(self):
    sizes = tf.Variable(tf.random.stateless_uniform([3, 2], [1, 2]))
    ours = SVISettings(3, step_size=sizes).step_sizes(tf.float32)
    np.testing.assert_array_equal(ours, np.concatenate([sizes, sizes], axis=1))

  @pytest.mark.parametrize("latent", [1, 2], ids=["one per block", "one per block and latent"])
  def test_blocks_have_sizes_of_their_own(self, latent):
    sizes = tf.random.stateless_uniform([3, 2, latent], [1, 2])
    ours = SVISettings(3, step_size=sizes).step_sizes(tf.float32, 2)
    np.testing.assert_array_equal(ours, np.broadcast_to(sizes, [3, 2, 2]).reshape(3, 4))

  def test_zero_steps_need_no_step_sizes(self):
    assert SVISettings(0).step_sizes(tf.float32).shape == (0, 1)
    assert SVISettings(0, step_size=[]).step_sizes(tf.float32).shape == (0, 1)

  def test_are_immutable(self):
    with pytest.raises(AttributeError):
      SVISettings().num_steps = 3


def test_the_mean_over_draws_is_taken_one_draw_at_a_time():
  """The same graph, whatever the number of draws."""

  def nodes(num_samples):
    @tf.function
    def mean(noise):
      return over_samples(lambda e: [tf.reduce_sum(e**2, axis=-1)], noise)[0]

    graph = mean.get_concrete_function(tf.TensorSpec([num_samples, 3, 2], tf.float64)).graph.as_graph_def()
    return len(graph.node) + sum(len(f.node_def) for f in graph.library.function)

  assert nodes(3) == nodes(30)
  noise = normal(5, 3, 2)
  mean = over_samples(lambda e: [tf.reduce_sum(e**2, axis=-1)], noise)[0]
  np.testing.assert_allclose(mean, np.mean(np.sum(noise.numpy() ** 2, -1), 0), rtol=1e-12)
