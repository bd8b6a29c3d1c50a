"""`refine` as a function: what its gradient reaches, how many steps it takes, and the tapes around it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.tiny import relative_error
from tf_savae.networks import GatedPixelCNN
from tf_savae.objective import NegELBO
from tf_savae.posterior import GaussianParams
from tf_savae.svi import SVISettings
from tf_savae.svi.refine import refine, refine_traced

K = 3
SETTINGS = SVISettings(K, step_size=0.1, momentum=0.5, clip_norm=2.0)
NOISE = tiny.normal(K, 3, 2, seed=1)
INITIAL = GaussianParams(tiny.normal(3, 2, seed=2), 0.5 * tiny.normal(3, 2, seed=3))


def toy(params, noise, weights):
  """A neg_elbo that is nonlinear in λ and in `weights` `[2, n]`."""
  return tf.reduce_sum(tf.cos(params.sample(noise) @ weights) ** 2, axis=-1) + params.kl_to_prior()


def loss_of(result):
  return tf.reduce_sum(tf.sin(result.params.mean) + result.params.log_var**2)


def run(neg_elbo, sources, context=(), adjoint="exact", initial=INITIAL, settings=SETTINGS):
  """Gradients of a loss of λ_K with respect to `sources`, a flat list, and the loss."""
  with tf.GradientTape() as tape:
    # Always: eagerly, a custom gradient none of whose arguments is watched is by-passed.
    tape.watch(initial)
    tape.watch([source for source in tf.nest.flatten(sources) if not isinstance(source, tf.Variable)])
    conditions = context() if callable(context) else context
    loss = loss_of(refine(neg_elbo, initial, settings, noise=NOISE, context=conditions, adjoint=adjoint))
  gradients = tape.gradient(loss, tf.nest.flatten(sources))
  return [None if g is None else tf.convert_to_tensor(g) for g in gradients], loss


def assert_equal(ours, reference, tolerance=1e-9):
  for a, b in zip(ours, reference, strict=True):
    assert a is not None and relative_error(a, b) < tolerance


def assert_exact_is_unrolled(neg_elbo, sources, **kwargs):
  """And that there is something to lose: no gradient is zero."""
  reference, _ = run(neg_elbo, sources, adjoint="unrolled", **kwargs)
  assert all(np.max(np.abs(g)) > 1e-6 for g in reference)
  assert_equal(run(neg_elbo, sources, **kwargs)[0], reference)


def in_graph(function):
  """The result of `function` as a tf.function; closed-over eager tensors are captured."""
  return tf.function(function)()


class TestWhatTheGradientReaches:
  # 2 × 2 numbers fit into a constant of a graph, 2 × 200 do not: TensorFlow brings them in by different ways.
  @pytest.mark.parametrize("size", [2, 200], ids=["small", "large"])
  def test_a_closed_over_eager_tensor(self, size):
    weights = tiny.normal(2, size, seed=4)
    assert_exact_is_unrolled(lambda p, e: toy(p, e, weights), [weights])

  def test_closed_over_tensors_of_a_graph(self):
    def gradient(adjoint):
      @tf.function(input_signature=[tf.TensorSpec([2, 2], tf.float64)])
      def f(raw):
        with tf.GradientTape() as tape:
          tape.watch([raw, INITIAL])
          weights = tf.sin(raw)  # a tensor of the graph
          loss = loss_of(
            refine(lambda p, e: toy(p, e, weights), INITIAL, SETTINGS, noise=NOISE, adjoint=adjoint)
          )
        return tape.gradient(loss, [raw, weights])

      return f(tiny.normal(2, 2, seed=4))

    assert_equal(gradient("exact"), gradient("unrolled"))

  @pytest.mark.parametrize("wrap", ["while", "cond", "map", "function"])
  def test_a_tensor_that_only_an_inner_function_closes_over(self, wrap):
    weights = tiny.normal(2, 2, seed=4)
    inner = tf.function(lambda z: tf.reduce_sum(tf.cos(z @ weights), axis=-1))

    def neg_elbo(params, noise):
      z = params.sample(noise)
      if wrap == "while":
        loop = (tf.constant(0), z)
        _, z = tf.while_loop(
          lambda i, _: i < 2, lambda i, z: (i + 1, tf.tanh(z @ weights)), loop, maximum_iterations=2
        )
        value = tf.reduce_sum(z, axis=-1)
      elif wrap == "cond":
        value = tf.cond(tf.reduce_sum(z) < 1e9, lambda: inner(z), lambda: z[:, 0])
      elif wrap == "map":
        value = tf.map_fn(lambda row: tf.reduce_sum(tf.cos(row[None] @ weights)), z)
      else:
        value = inner(z)
      return value + params.kl_to_prior()

    assert_exact_is_unrolled(neg_elbo, [weights])

  @pytest.mark.parametrize("where", ["eager", "graph"])
  def test_variables_in_any_order_and_embeddings(self, where):
    """A gathered table has `tf.IndexedSlices` for a gradient."""
    weights = tf.Variable(tiny.normal(2, 3, seed=4))
    table = tf.Variable(tiny.normal(5, 3, seed=5))
    unused = tf.Variable(tiny.normal(2, seed=6))

    def neg_elbo(params, noise):
      shift = tf.gather(table, [0, 3, 3])
      return toy(params, noise, weights) + tf.reduce_sum(tf.cos(params.sample(noise) @ weights + shift), -1)

    def gradients(adjoint):
      def f():
        return [tf.convert_to_tensor(g) for g in run(neg_elbo, [table, weights], adjoint=adjoint)[0]]

      return in_graph(f) if where == "graph" else f()

    assert_equal(gradients("exact"), gradients("unrolled"))
    assert run(neg_elbo, [unused])[0] == [None]

  def test_context_in_nests_with_what_is_no_float_tensor(self):
    weights = tiny.normal(2, 2, seed=4)
    scale, shift = tiny.normal(3, seed=5), tiny.normal(2, seed=6)

    def neg_elbo(params, noise, nest, number, array):
      chosen = tf.gather(nest["shift"], nest["index"])
      value = toy(params, noise, nest["pair"][0] * chosen)
      return value * tf.exp(nest["pair"][1]) * number + tf.reduce_sum(array * params.mean, axis=-1)

    def context():
      nest = {"pair": (weights, scale), "shift": shift, "index": tf.constant([1, 0]), "none": None}
      return nest, 0.5, np.array([0.1, 0.2])

    assert_exact_is_unrolled(neg_elbo, [weights, scale, shift], context=context)

  def test_a_tensor_counts_once_however_often_it_is_passed(self):
    weights = tiny.normal(2, 2, seed=4)

    def neg_elbo(params, noise, one, other):
      return toy(params, noise, one) + toy(params, noise, other @ weights)

    assert_exact_is_unrolled(neg_elbo, [weights], context=(weights, weights))

  def test_lambda_0_itself_as_a_condition(self):
    """A neg_elbo that holds λ_K near λ_0: a constant for the steps, a further path for the gradient."""

    def near(params, noise):
      return toy(params, noise, tf.ones([2, 2], tf.float64)) + tf.reduce_sum(
        tf.cos(params.mean * INITIAL.mean), axis=-1
      )

    assert_exact_is_unrolled(near, [INITIAL])
    copy = GaussianParams(*map(tf.identity, INITIAL))
    apart = refine(near, copy, SETTINGS, noise=NOISE).params
    np.testing.assert_array_equal(refine(near, INITIAL, SETTINGS, noise=NOISE).params.mean, apart.mean)

  def test_not_what_stop_gradient_shields(self):
    raw = tiny.normal(2, 2, seed=4)

    def neg_elbo(params, noise):
      return toy(params, noise, tf.stop_gradient(raw))

    for gradients, _ in (run(neg_elbo, [raw]), run(toy, [raw], context=lambda: (tf.stop_gradient(raw),))):
      assert gradients[0] is None or np.all(gradients[0] == 0)

  def test_initial_step_size_and_the_whole_trajectory(self):
    weights = tiny.normal(2, 2, seed=4)
    sizes = tf.Variable([0.1, 0.05, 0.2], dtype=tf.float64)

    def gradients(adjoint):
      with tf.GradientTape() as tape:
        tape.watch(INITIAL)
        settings = SVISettings(K, sizes, 0.5, 2.0)
        trajectory = refine(
          lambda p, e: toy(p, e, weights), INITIAL, settings, noise=NOISE, adjoint=adjoint
        ).trajectory
        loss = tf.reduce_sum(tf.stack(list(trajectory)) * tiny.normal(2, K + 1, 3, 2, seed=7))
      return tape.gradient(loss, [*INITIAL, sizes])

    assert_equal(gradients("exact"), gradients("unrolled"))


class TestNumberOfSteps:
  def test_zero_steps_are_the_identity(self):
    weights = tiny.normal(2, 2, seed=4)
    settings = SVISettings(0)
    result, trace = refine_traced(
      lambda p, e: toy(p, e, weights), INITIAL, settings, noise=tf.zeros([0, 3, 2], tf.float64)
    )
    np.testing.assert_array_equal(result.params.mean, INITIAL.mean)
    np.testing.assert_array_equal(result.trajectory.log_var, INITIAL.log_var[None])
    assert trace.neg_elbo.shape == (0, 3) and trace.gradient.shape == (0, 3, 4)
    with tf.GradientTape() as tape:
      tape.watch([INITIAL, weights])
      result = refine(
        lambda p, e: toy(p, e, weights), INITIAL, settings, noise=tf.zeros([0, 3, 2], tf.float64)
      )
      loss = loss_of(result)
    gradients = tape.gradient(loss, [INITIAL.mean, weights])
    np.testing.assert_allclose(gradients[0], tf.cos(INITIAL.mean), rtol=1e-12)
    assert gradients[1] is None

  @pytest.mark.parametrize("k", [1, 2, 5])
  @pytest.mark.parametrize("adjoint", ["exact", "unrolled"])
  def test_k_steps_are_one_step_k_times(self, k, adjoint):
    """Without momentum, which a single step forgets."""
    weights, noise = tiny.normal(2, 2, seed=4), tiny.normal(k, 3, 2, seed=8)

    def neg_elbo(params, noise):
      return toy(params, noise, weights)

    settings = SVISettings(k, 0.1, momentum=0.0, clip_norm=2.0)
    result = refine(neg_elbo, INITIAL, settings, noise=noise, adjoint=adjoint)
    params = INITIAL
    for i in range(k):
      np.testing.assert_allclose(result.trajectory.mean[i], params.mean, rtol=1e-12)
      params = refine(neg_elbo, params, SVISettings(1, 0.1, 0.0, 2.0), noise=noise[i : i + 1]).params
    np.testing.assert_allclose(result.params.log_var, params.log_var, rtol=1e-12)

  def test_by_products_are_the_loss_and_its_gradient_at_every_step(self):
    weights = tiny.normal(2, 2, seed=4)
    result, trace = refine_traced(lambda p, e: toy(p, e, weights), INITIAL, SETTINGS, noise=NOISE)
    for k in range(K):
      at = GaussianParams(result.trajectory.mean[k], result.trajectory.log_var[k])
      with tf.GradientTape() as tape:
        tape.watch(at)
        loss = toy(at, NOISE[k], weights)
      np.testing.assert_allclose(trace.neg_elbo[k], loss, rtol=1e-12)
      np.testing.assert_allclose(trace.gradient[k], tf.concat(tape.gradient(loss, [*at]), -1), rtol=1e-12)


class TestTapes:
  def test_a_persistent_tape_gives_several_gradients(self):
    weights = tf.Variable(tiny.normal(2, 2, seed=4))

    def both(adjoint):
      with tf.GradientTape(persistent=True) as tape:
        result = refine(lambda p, e: toy(p, e, weights), INITIAL, SETTINGS, noise=NOISE, adjoint=adjoint)
        one, other = loss_of(result), tf.reduce_sum(result.trajectory.mean**2)
      return tape.gradient(one, weights), tape.gradient(other, weights)

    reference = both("unrolled")
    assert_equal(both("exact"), reference)
    assert_equal(tf.function(both)("exact"), reference)

  def test_two_nested_tapes_each_see_the_refinement(self):
    weights = tiny.normal(2, 2, seed=4)

    def outer_and_inner(adjoint):
      with tf.GradientTape() as outer:
        outer.watch(weights)
        with tf.GradientTape() as inner:
          inner.watch(weights)
          loss = loss_of(
            refine(lambda p, e: toy(p, e, weights), INITIAL, SETTINGS, noise=NOISE, adjoint=adjoint)
          )
      return inner.gradient(loss, weights), outer.gradient(loss, weights)

    reference, _ = outer_and_inner("unrolled")
    for gradient in outer_and_inner("exact"):
      assert relative_error(gradient, reference) < 1e-9

  def test_the_gradient_can_be_differentiated_again(self):
    """The backward sweep is made of differentiable operations, and so is its λ_k."""
    weights = tiny.normal(2, 2, seed=4)

    def second(adjoint):
      with tf.GradientTape() as outer:
        outer.watch([weights, INITIAL])
        with tf.GradientTape() as inner:
          inner.watch([weights, INITIAL])
          loss = loss_of(
            refine(lambda p, e: toy(p, e, weights), INITIAL, SETTINGS, noise=NOISE, adjoint=adjoint)
          )
        first = inner.gradient(loss, [weights, INITIAL.mean])
        total = sum(tf.reduce_sum(tf.sin(g)) for g in first)
      return outer.gradient(total, [weights, INITIAL.mean, INITIAL.log_var])

    assert_equal(second("exact"), second("unrolled"))


def test_xla_differentiates_a_decoder_that_pads_and_slices():
  """TensorFlow writes these gradients differently under XLA; see tf_savae/xla_gradients.py."""
  decoder = GatedPixelCNN(2, 2, (3, 3), 1, (4, 4, 1), dtype="float64")
  objective, x = NegELBO(decoder), tiny.images()[:, :4, :4]
  variables = [v.value for v in decoder.trainable_variables]

  def gradients():
    with tf.GradientTape() as tape:
      conditions = (x, tf.constant(0.7, tf.float64), decoder.precompute(x))
      loss = loss_of(refine(objective, INITIAL, SETTINGS, noise=NOISE, context=conditions))
    return tape.gradient(loss, variables)

  assert_equal(tf.function(gradients, jit_compile=True)(), gradients())


class TestNoise:
  @pytest.mark.parametrize(
    ("settings", "shape"),
    [
      (SETTINGS, (K - 1, 3, 2)),
      (SETTINGS, (K, 2, 2)),
      (SETTINGS, (K, 3, 4)),
      (SETTINGS, (3, 2)),
      (SETTINGS, (K, 2, 3, 2)),
      (SVISettings(K, num_samples=2), (K, 3, 2)),
      (SVISettings(K, num_samples=2), (K, 1, 3, 2)),
    ],
    ids=str,
  )
  def test_of_another_shape_is_refused(self, settings, shape):
    with pytest.raises(ValueError, match="Received"):
      refine(
        lambda p, e: toy(p, e, tf.ones([2, 2], tf.float64)), INITIAL, settings, noise=tiny.normal(*shape)
      )

  def test_may_have_an_axis_for_its_one_draw(self):
    def result(noise):
      return refine(
        lambda p, e: toy(p, e, tf.eye(2, dtype=tf.float64)), INITIAL, SETTINGS, noise=noise
      ).params.mean

    np.testing.assert_array_equal(result(NOISE), result(NOISE[:, None]))

  def test_an_unknown_adjoint_is_refused(self):
    with pytest.raises(ValueError, match="Received"):
      refine(toy, INITIAL, SETTINGS, noise=NOISE, context=(tf.eye(2, dtype=tf.float64),), adjoint="magic")


class TestDecoderThatOffersItsDerivative:
  def test_is_asked_for_it_and_gives_the_gradient_of_nested_tapes(self):
    x = tiny.normal(3, 3, seed=12)

    def gradients(decoder_class, adjoint="exact"):
      encoder, decoder = tiny.PairEncoder(dtype="float64"), decoder_class(dtype="float64")
      objective = NegELBO(decoder)
      with tf.GradientTape() as tape:
        initial = tiny.encode(encoder, x)
        conditions = (x, tf.constant(0.7, tf.float64), ())
        params = refine(objective, initial, SETTINGS, noise=NOISE, context=conditions, adjoint=adjoint).params
        loss = tf.reduce_mean(objective(params, tiny.normal(3, 2, seed=5), *conditions))
      variables = [v.value for v in (*encoder.trainable_variables, *decoder.trainable_variables)]
      return tape.gradient(loss, variables), decoder

    reference, _ = gradients(tiny.GaussianDecoder, "unrolled")
    assert_equal(gradients(tiny.GaussianDecoder)[0], reference)
    ours, decoder = gradients(tiny.GaussianDecoderWithDerivative)
    assert decoder.asked == K
    assert_equal(ours, reference)
