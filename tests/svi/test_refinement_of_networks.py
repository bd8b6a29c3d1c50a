"""A refinement between real networks: where it runs, its total derivative, and that rows do not see each other."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.chain import Chain
from tests.tiny import relative_error
from tf_savae.svi import SVISettings
from tf_savae.svi.adjoint import ADJOINTS, FiniteDifferenceAdjoint

LATE = (tiny.late_image_networks, tiny.late_text_lstm_networks)
SETTINGS = SVISettings(3, step_size=0.1, momentum=0.5, clip_norm=2.0)


class Networks(Chain):
  """A chain as one function of (x, noise of the steps, noise of the loss)."""

  def __init__(self, make, dtype="float64", settings=SETTINGS):
    super().__init__(make(dtype, dropout=0.0), dtype)
    self.settings = settings
    self.inputs = self.x, self.noise(settings.num_steps, seed=1), self.noise(seed=5)
    self.loss(*self.inputs)  # creates the variables
    trainable = [*self.encoder.trainable_variables, *self.decoder.trainable_variables]
    self.variables = [v.value for v in trainable]
    for i, variable in enumerate(self.variables):  # with biases of 0, black pixels sit on the kink of a ReLU
      variable.assign_add(0.1 * tiny.normal(*variable.shape, seed=i, dtype=dtype))

  def loss(self, x, noise, final_noise, adjoint="exact"):
    return self.links(self.settings, noise, final_noise, adjoint, x).loss

  def gradients(self, x, noise, final_noise, adjoint="exact"):
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(self.loss(x, noise, final_noise, adjoint))
    gradients = tape.gradient(loss, self.variables, unconnected_gradients="zero")
    return loss, [tf.convert_to_tensor(g) for g in gradients]

  @property
  def signature(self):
    k = self.settings.num_steps
    x = tf.TensorSpec([None, *self.x.shape[1:]], self.x.dtype)
    return [x, tf.TensorSpec([k, None, 2], self.dtype), tf.TensorSpec([None, 2], self.dtype)]


def flat(tensors):
  return np.concatenate([np.ravel(t) for t in tensors])


@pytest.fixture(scope="module")
def dense():
  return Networks(tiny.dense_networks)


@pytest.fixture(scope="module")
def images():
  return Networks(tiny.image_networks)


class TestWhereItRuns:
  @pytest.fixture(scope="class")
  def eager(self, dense):
    return dense.gradients(*dense.inputs)

  @pytest.mark.parametrize("adjoint", ADJOINTS)
  def test_a_function_of_unknown_batch_equals_eager(self, dense, adjoint):
    if adjoint == "finite_difference":
      adjoint = FiniteDifferenceAdjoint(radius=1e-4)  # the default radius shows its rounding
    compiled = tf.function(
      lambda *inputs: dense.gradients(*inputs, adjoint=adjoint), input_signature=dense.signature
    )
    loss, gradients = compiled(*dense.inputs)
    expected_loss, expected = dense.gradients(*dense.inputs, adjoint=adjoint)
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-12)
    assert relative_error(flat(gradients), flat(expected)) < 1e-9
    # The same trace serves another batch size.
    x, noise, final_noise = dense.inputs
    two = x[:2], noise[:, :2], final_noise[:2]
    _, gradients = compiled(*two)
    assert relative_error(flat(gradients), flat(dense.gradients(*two, adjoint=adjoint)[1])) < 1e-9

  def test_xla_equals_eager(self, dense, eager):
    compiled = tf.function(dense.gradients, jit_compile=True)
    loss, gradients = compiled(*dense.inputs)
    assert float(loss) == pytest.approx(float(eager[0]), rel=1e-12)
    assert relative_error(flat(gradients), flat(eager[1])) < 1e-9

  def test_float32_equals_float64_to_its_precision(self, eager):
    single = Networks(tiny.dense_networks, "float32")
    double = Networks(tiny.dense_networks, "float64")
    for a, b in zip(double.variables, single.variables, strict=True):
      a.assign(tf.cast(b, tf.float64))
    loss, gradients = single.gradients(*single.inputs)
    assert loss.dtype == tf.float32
    assert relative_error(flat(gradients), flat(double.gradients(*double.inputs)[1])) < 1e-5

  def test_a_graph_of_exact_does_not_grow_with_k(self):
    def nodes(k):
      networks = Networks(tiny.dense_networks, settings=SVISettings(k, 0.01, 0.5, 2.0))
      function = tf.function(networks.gradients, input_signature=networks.signature)
      graph = function.get_concrete_function().graph.as_graph_def()
      return len(graph.node) + sum(len(f.node_def) for f in graph.library.function)

    assert nodes(3) == nodes(30)


class TestTotalDerivative:
  """Against central differences of the loss itself, in random directions of the weights."""

  @pytest.mark.parametrize(
    "make",
    [
      tiny.dense_networks,
      tiny.lstm_networks,
      tiny.text_lstm_networks,
      tiny.dilated_conv_networks,
      tiny.image_networks,
      *LATE,
    ],
  )
  @pytest.mark.parametrize("group", ["encoder", "decoder"])
  def test_of_the_weights(self, make, group, request):
    shared = {tiny.dense_networks: "dense", tiny.image_networks: "images"}
    net = request.getfixturevalue(shared[make]) if make in shared else Networks(make)
    trainable = getattr(net, group).trainable_variables
    chosen = {id(v.value) for v in trainable}
    _, gradients = net.gradients(*net.inputs)
    pairs = [(v, g) for v, g in zip(net.variables, gradients, strict=True) if id(v) in chosen]
    assert len(pairs) == len(trainable)
    for seed in range(2):
      rng, h = np.random.default_rng(seed), 1e-5
      directions = [rng.normal(size=v.shape) for v, _ in pairs]

      def loss(shift):
        before = [v.numpy() for v, _ in pairs]
        for (v, _), value, d in zip(pairs, before, directions, strict=True):
          v.assign(value + shift * d)
        value = float(tf.reduce_mean(net.loss(*net.inputs)))
        for (v, _), value_before in zip(pairs, before, strict=True):
          v.assign(value_before)
        return value

      difference = (loss(h) - loss(-h)) / (2 * h)
      derivative = sum(np.sum(d * g.numpy()) for d, (_, g) in zip(directions, pairs, strict=True))
      assert difference == pytest.approx(derivative, rel=1e-6)


@pytest.mark.parametrize("make", [tiny.dense_networks, tiny.text_lstm_networks, tiny.image_networks, *LATE])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
class TestExamplesDoNotSeeEachOther:
  """Given its own noise, an example is refined the same alone, in a batch and in a permuted batch."""

  @pytest.fixture
  def net(self, make, dtype):
    return Networks(make, dtype)

  def rows(self, net, rows):
    x, noise, final_noise = net.inputs
    inputs = tf.gather(noise, rows, axis=1), tf.gather(final_noise, rows)
    links = net.links(net.settings, *inputs, x=tf.gather(x, rows))
    return np.concatenate([*(part[-1] for part in links.trajectory), links.loss[:, None]], axis=1)

  def test_alone_in_a_batch_and_in_a_permuted_batch(self, net):
    together = self.rows(net, [0, 1, 2])
    permuted = self.rows(net, [2, 0, 1])
    np.testing.assert_allclose(permuted, together[[2, 0, 1]], rtol=1e-6, atol=1e-6)
    for i in range(3):
      np.testing.assert_allclose(self.rows(net, [i]), together[[i]], rtol=1e-6, atol=1e-6)
