"""The implicit derivative of an optimum written out, with full Hessians: what `ImplicitAdjoint` is tested against."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_savae.posterior import GaussianParams
from tf_savae.svi import SVISettings
from tf_savae.svi.refine import refine


def implicit_gradients(problem) -> dict[str, dict[str, tf.Tensor]]:
  """{group: {name: gradient}} of the mean final loss plus ⟨weights, trajectory⟩, as `Problem.gradients` names them.

  Args:
    problem: a `tests.svi.test_adjoint.Problem` with one draw per step.
  """
  theta = [v.value for v in problem.decoder.trainable_variables]
  with tf.GradientTape(persistent=True) as tape:
    context = problem.precompute()
    tape.watch(context)
    conditions = (problem.x, problem.beta, context)
    initial = problem.encode()
    settings = SVISettings(
      problem.num_steps, problem.sizes, problem.momentum, problem.clip_norm, rule=problem.rule
    )
    found = refine(
      problem.objective,
      GaussianParams(*map(tf.stop_gradient, initial)),
      settings,
      noise=problem.step_noise,
      context=tf.nest.map_structure(tf.stop_gradient, conditions),
      adjoint="unrolled",
    )
    optimum = tf.stop_gradient(found.params.pack())
    tape.watch(optimum)
    at = GaussianParams.unpack(optimum)
    loss = tf.reduce_mean(problem.objective(at, problem.final_noise, *conditions))
    # Every λ_k from k = 1 counts as the optimum.
    rows = tf.stack([tf.reduce_sum(problem.weights[:, 1:], axis=1), problem.weights[:, 0]])
    loss += 0.1 * tf.reduce_sum(rows[0] * tf.stack(list(at)))
    loss += 0.1 * tf.reduce_sum(rows[1] * tf.stack(list(initial)))
    with tf.GradientTape() as inner:
      inner.watch(optimum)
      step_loss = problem.objective(GaussianParams.unpack(optimum), problem.step_noise[-1, 0], *conditions)
    gradient = inner.gradient(step_loss, optimum)
    a = tape.gradient(loss, optimum)
    hessian = tape.batch_jacobian(gradient, optimum)
    assert np.all(
      np.linalg.eigvalsh(hessian.numpy()) > 0
    )  # else λ_K is no minimum, and the solver stops early
    u = tf.stop_gradient(tf.linalg.solve(hessian, a[..., tf.newaxis])[..., 0])
    total = loss - tf.reduce_sum(u * gradient)
  sources = {
    "initial": dict(initial._asdict()),
    "context": {f"{i}": t for i, t in enumerate(context) if t.dtype.is_floating},
    "encoder": {v.path: v.value for v in problem.encoder.trainable_variables},
    "decoder": {v.path: t for v, t in zip(problem.decoder.trainable_variables, theta, strict=True)},
  }
  gradients = tape.gradient(total, sources, unconnected_gradients="zero")
  gradients["step sizes"] = {"": tf.zeros_like(problem.sizes)}
  return tf.nest.map_structure(lambda g: tf.convert_to_tensor(g).numpy(), gradients)
