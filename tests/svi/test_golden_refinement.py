"""The whole training step of an image model equals independent float64 numbers; testdata/README.md says whose."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests import golden_images
from tf_savae import SAVAE, SVISettings
from tf_savae.inference import Inference
from tf_savae.posterior import GaussianParams

BETA = 0.7
# Golden steps are of size 1 on the mean loss of 3 examples; here the loss of a step is each example's own.
SETTINGS = SVISettings(num_steps=4, step_size=1 / 3, momentum=0.5, clip_norm=None)
ARRAYS = golden_images.load()


class Step:
  """One training batch of a method with golden weights and noise."""

  def __init__(self, method: str, noise_final: str, adjoint: str = "exact"):
    if method == "autoreg":
      encoder, (decoder, self.layout) = None, golden_images.build_autoregressive()
    else:
      encoder, decoder, self.layout = golden_images.build()
    self.model = SAVAE(encoder, decoder, method, SETTINGS, beta=BETA, adjoint=adjoint, dtype="float64")
    self.noise = tf.constant(np.concatenate([ARRAYS["noise_svi"], ARRAYS[noise_final][None]]))

  def inference(self) -> Inference:
    x, networks = tf.constant(golden_images.images()), (self.model.encoder, self.model.decoder)
    batch = Inference(*networks, x, SETTINGS, beta=BETA, training=True, dtype="float64")
    batch.noise = self.noise  # in place of the draw from the seed
    batch.random_initial = lambda scale: GaussianParams(
      tf.zeros([3, 3], tf.float64), tf.zeros([3, 3], tf.float64)
    )
    return batch

  def run(self):
    """The mean loss, the bounds behind it, and {golden name: gradient of the mean loss}."""
    with tf.GradientTape() as tape:
      inferred = self.model.infer(self.inference())
      loss = tf.reduce_mean(self.model.method.loss(inferred))
    variables = [v.value for v in self.layout.variables]
    return loss, inferred, self.layout.to_golden(tape.gradient(loss, variables, unconnected_gradients="zero"))


def mean(values) -> float:
  return float(tf.reduce_mean(values))


def golden(prefix: str, part: str = "") -> dict[str, np.ndarray]:
  """The golden arrays called prefix + part…, by the rest of their names."""
  names = [name for name in ARRAYS if name.startswith(prefix + part)]
  return {name[len(prefix) :]: ARRAYS[name] for name in names}


def assert_equal(gradients, expected):
  """To 1e-9 of each array's largest entry; arrays below 1e-4 of the largest (zero but for rounding) by that."""
  assert expected
  floor = 1e-4 * max(np.max(np.abs(g)) for g in expected.values())
  for name, value in expected.items():
    error = np.max(np.abs(gradients[name] - value)) / max(np.max(np.abs(value)), floor)
    assert error < 1e-9, f"{name}: {error}"


@pytest.fixture(scope="module", params=["exact", "stored", "unrolled"])
def savae(request):
  return Step("savae", "noise_final", request.param).run()


class TestSAVAE:
  def test_bound_at_lambda_k(self, savae):
    loss, inferred, _ = savae
    final = inferred.final
    for value, key in ((loss, "loss"), (final.nll, "nll"), (final.kl, "kl")):
      assert mean(value) == pytest.approx(float(ARRAYS["c0." + key]), rel=1e-9)

  def test_total_derivative_of_every_weight(self, savae):
    expected = golden("c0.exact.grad.")
    assert len(expected) == len(savae[2])
    assert_equal(savae[2], expected)

  def test_trajectory_and_the_gradients_of_its_ends(self):
    step = Step("savae", "noise_final")
    with tf.GradientTape() as tape:
      batch = step.inference()
      initial = batch.encode()
      params, trajectory, _ = batch.refine(initial, "exact")
      loss = tf.reduce_mean(batch.bound(params).weighted(batch.beta))
    ours = {
      "mean0": initial.mean,
      "logvar0": initial.log_var,
      "c0.traj_mean": trajectory.mean,
      "c0.traj_logvar": trajectory.log_var,
    }
    names = ["c0.exact.dmean0", "c0.exact.dlogvar0", "c0.dmeanK", "c0.dlogvarK"]
    ours |= dict(zip(names, tape.gradient(loss, [*initial, *params]), strict=True))
    for name, value in ours.items():
      np.testing.assert_allclose(value, ARRAYS[name], rtol=1e-9, atol=1e-9, err_msg=name)

  def test_decoder_gradient_at_constant_lambda_k(self):
    step = Step("savae", "noise_final", adjoint="first_order")
    *_, gradients = step.run()
    assert_equal(gradients, golden("c0.first."))


class TestOtherMethods:
  def test_vae(self):
    loss, losses, gradients = Step("vae", "noise_vae").run()
    assert mean(losses.final.nll) == pytest.approx(float(ARRAYS["vae.nll"]), rel=1e-9)
    assert mean(losses.final.kl) == pytest.approx(float(ARRAYS["vae.kl"]), rel=1e-9)
    assert mean(loss) == pytest.approx(float(ARRAYS["vae.loss"]), rel=1e-9)
    expected = golden("vae.grad.")
    assert len(expected) == len(gradients)
    assert_equal(gradients, expected)

  def test_autoreg(self):
    loss, _, gradients = Step("autoreg", "noise_final").run()
    assert mean(loss) == pytest.approx(float(ARRAYS["ar.nll"]), rel=1e-9)
    expected = golden("ar.grad.")
    assert len(expected) == len(gradients)
    assert_equal(gradients, expected)

  def test_svi_from_zero(self):
    step = Step("svi", "noise_final")
    _, losses, gradients = step.run()
    batch = step.inference()
    params, _, _ = batch.refine(batch.random_initial(0.1), None)
    np.testing.assert_allclose(params.mean, ARRAYS["svi0.meanK"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(params.log_var, ARRAYS["svi0.logvarK"], rtol=1e-9, atol=1e-9)
    assert mean(losses.final.nll) == pytest.approx(float(ARRAYS["svi0.nll"]), rel=1e-9)
    assert mean(losses.final.kl) == pytest.approx(float(ARRAYS["svi0.kl"]), rel=1e-9)
    assert_equal(gradients, golden("svi0.grad.", "dec"))

  def test_vae_svi_kl(self):
    """The encoder by KL(q_λ0 ‖ q_λK); the decoder as at a constant λ_K."""
    loss, losses, gradients = Step("vae_svi_kl", "noise_final").run()
    kl = mean(loss - losses.final.weighted(BETA))
    assert kl == pytest.approx(float(ARRAYS["klif.loss"]), rel=1e-9)
    assert_equal(gradients, golden("klif.grad."))
    assert_equal(gradients, golden("c0.first."))

  def test_vae_svi(self):
    """The encoder as in `vae`, with the noise of the final bound; the decoder as at a constant λ_K."""
    step = Step("vae_svi", "noise_vae")
    *_, gradients = step.run()
    assert_equal(gradients, golden("vae.grad.", "enc") | golden("vae.grad.", "latent"))
    step.noise = Step("savae", "noise_final").noise
    *_, gradients = step.run()
    assert_equal(gradients, golden("c0.first."))
