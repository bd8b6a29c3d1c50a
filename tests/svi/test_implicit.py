"""The implicit adjoint: its solver, and its limit as the steps converge."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.tiny import relative_error
from tf_savae.posterior import GaussianParams
from tf_savae.svi import SVISettings
from tf_savae.svi.implicit import ImplicitAdjoint, conjugate_gradients
from tf_savae.svi.refine import refine
from tf_savae.svi.rules import NaturalGradient

BATCH, N = 5, 6


@pytest.fixture
def matrices():
  """Symmetric and positive definite, one for each row."""
  root = np.array(tiny.normal(BATCH, N, N, seed=1))
  return root @ np.swapaxes(root, 1, 2) + 0.5 * np.eye(N)


def solve(matrices, a, iterations=N + 2):
  matrices = tf.constant(matrices)
  preconditioner = 1.0 / tf.linalg.diag_part(matrices)
  preconditioner = tf.where(preconditioner > 0, preconditioner, 1.0)
  return conjugate_gradients(
    lambda d: tf.linalg.matvec(matrices, d), tf.constant(a), preconditioner, iterations
  ).numpy()


class TestConjugateGradients:
  def test_solve_each_row(self, matrices):
    a = tiny.normal(BATCH, N, seed=2)
    assert relative_error(solve(matrices, a), np.linalg.solve(matrices, a[..., None])[..., 0]) < 1e-8

  def test_fewer_iterations_solve_less_well(self, matrices):
    a = tiny.normal(BATCH, N, seed=2)
    exact = np.linalg.solve(matrices, a[..., None])[..., 0]
    errors = [relative_error(solve(matrices, a, i), exact) for i in (1, 3, N + 2)]
    assert errors[0] > errors[1] > errors[2]

  def test_a_row_without_positive_curvature_stops_and_leaves_the_others_alone(self, matrices):
    a = tiny.normal(BATCH, N, seed=2)
    good = solve(matrices, a)
    matrices[1] = -matrices[1]
    found = solve(matrices, a)
    assert np.all(found[1] == 0)
    np.testing.assert_array_equal(np.delete(found, 1, axis=0), np.delete(good, 1, axis=0))

  def test_a_row_of_zeros_has_the_solution_0_and_a_finite_derivative(self, matrices):
    a = tiny.normal(BATCH, N, seed=2)
    a = np.array(a)
    a[2] = 0
    assert np.all(solve(matrices, a)[2] == 0) and np.all(np.isfinite(solve(matrices, a)))


def loss_of_x(params, noise, x):
  """Convex in μ and with one minimum in log σ²; depends on x `[batch, latent]` without noise."""
  del noise
  nll = tf.reduce_sum(tf.nn.softplus(2.0 * params.mean - x) + 0.5 * tf.exp(params.log_var), axis=-1)
  return nll + params.kl_to_prior()


def gradients(adjoint, k, start=0.0):
  x = tf.constant(tiny.normal(4, 3, seed=5))
  initial = GaussianParams(*(tf.constant(start + 0.3 * tiny.normal(4, 3, seed=s)) for s in (6, 7)))
  settings = SVISettings(k, 0.5, rule=NaturalGradient(trust=None, log_var_range=None))
  with tf.GradientTape() as tape:
    tape.watch([x, *initial])
    noise = tf.zeros([k, 4, 3], tf.float64)
    found = refine(loss_of_x, initial, settings, noise=noise, context=(x,), adjoint=adjoint)
    loss = tf.reduce_sum(tf.sin(found.params.mean) + found.params.log_var**2)
  return [g.numpy() for g in tape.gradient(loss, [x, *initial])]


class TestTheLimit:
  def test_tends_to_the_exact_gradient_as_k_grows(self):
    errors = [
      relative_error(gradients(ImplicitAdjoint(20), k)[0], gradients("exact", k)[0]) for k in (1, 4, 16, 60)
    ]
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[0] > 1e-2 and errors[3] < 1e-9

  def test_does_not_depend_on_where_the_steps_began(self):
    x, mean, log_var = gradients(ImplicitAdjoint(20), 80)
    assert relative_error(gradients(ImplicitAdjoint(20), 80, start=0.5)[0], x) < 1e-9
    assert not mean.any() and not log_var.any()
    _, exact_mean, exact_log_var = gradients("exact", 80)
    assert np.max(np.abs([exact_mean, exact_log_var])) < 1e-9


@pytest.mark.parametrize("iterations", [0, -1, 2.5, True, "3"])
def test_a_wrong_number_of_iterations_is_refused(iterations):
  with pytest.raises(ValueError, match=f"1 or more steps of conjugate gradients. Received: {iterations}"):
    ImplicitAdjoint(iterations)
