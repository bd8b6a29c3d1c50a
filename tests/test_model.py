"""SAVAE as a Keras model: compile, fit, evaluate, predict, save, load; a user's own networks; and what is refused."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tf_savae import SAVAE, SVISettings, methods
from tf_savae.inference import Inference
from tf_savae.posterior import GaussianParams
from tf_savae.svi.adjoint import TruncatedAdjoint

METHODS = list(methods.METHODS)
REFINING = [name for name in methods.METHODS if methods.get(name).refines]
K = 3


def two_patterns(n: int = 60) -> np.ndarray:
  """Noisy copies of two complementary patterns, `[n, 6]` in {0, 1}: one bit of information to put into z."""
  rng = np.random.default_rng(0)
  pattern = np.array([1, 1, 1, 0, 0, 0]) ^ rng.integers(2, size=(n, 1))
  return (pattern ^ (rng.uniform(size=(n, 6)) < 0.1)).astype(np.float32)


def make(method: str = "savae", encoder=None, decoder=None, compiled: bool = True, **options) -> SAVAE:
  """A model of plain Keras networks that know nothing of tf_savae."""
  compile_options = {name: options.pop(name) for name in ("jit_compile", "run_eagerly") if name in options}
  latent = tiny.LATENT if methods.get(method).has_latent else 0
  decoder = decoder or tiny.BernoulliDecoder(latent_dim=latent)
  svi = options.pop("svi", SVISettings(K, 0.1, 0.5, 5.0))
  model = SAVAE(encoder or tiny.PairEncoder(), decoder, method, svi, **options)
  if compiled:
    model.compile(optimizer=keras.optimizers.Adam(0.02), **compile_options)
  return model


def values(variables) -> list[np.ndarray]:
  return [np.array(v) for v in variables]


def assert_same(one, other, **tolerance):
  assert len(one) == len(other)
  for a, b in zip(one, other, strict=True):
    np.testing.assert_allclose(a, b, **tolerance)


class Trained:
  """One model of a method after 15 epochs of 4 batches, the last one short."""

  def __init__(self, method: str):
    self.model, self.x = make(method), two_patterns()
    step, self.traces = self.model.train_step, 0

    def traced(data):
      self.traces += 1
      return step(data)

    self.model.train_step = traced
    keras.utils.set_random_seed(0)  # of the order in which `fit` shuffles
    self.history = self.model.fit(self.x, batch_size=16, epochs=15, verbose=0).history

  def evaluate(self, **options):
    return self.model.evaluate(self.x, verbose=0, return_dict=True, **{"batch_size": 16, **options})


@pytest.fixture(scope="module")
def trained():
  """Trained models by method, each made when it is first asked for."""
  return functools.cache(Trained)


@pytest.mark.parametrize("method", METHODS)
class TestEveryMethod:
  def test_fit_lowers_the_loss(self, trained, method):
    history = trained(method).history
    assert history["loss"][-1] < history["loss"][0] - 0.02
    assert np.all(np.isfinite([history[name] for name in history]))
    expected = {"loss", "bound", "nll", "kl", "gradient_norm_decoder"}
    if methods.get(method).has_encoder:
      expected |= {"bound_initial", "kl_initial", "gradient_norm_encoder"}
    assert set(history) == expected
    np.testing.assert_allclose(history["bound"], np.add(history["nll"], history["kl"]), rtol=1e-5)

  def test_one_trace_serves_the_short_last_batch(self, trained, method):
    assert trained(method).traces == 1

  def test_evaluate_twice_is_identical(self, trained, method):
    one = trained(method).evaluate()
    assert one == trained(method).evaluate()
    assert not any(name.startswith("gradient") for name in one)
    assert one["loss"] == one["bound"]  # β is 1 at evaluation

  def test_evaluate_is_the_mean_of_elbo(self, trained, method):
    model, x = trained(method).model, trained(method).x[:16]
    bound = model.evaluate(x, batch_size=16, verbose=0, return_dict=True)["bound"]
    assert bound == pytest.approx(-float(tf.reduce_mean(model.elbo(x))), rel=1e-5)

  def test_save_and_load(self, trained, method, tmp_path):
    model, x = trained(method).model, trained(method).x[:5]
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded.elbo(x), model.elbo(x))
    assert_same(values(loaded.variables), values(model.variables))
    assert len(model.optimizer.variables) > 2
    assert_same(values(loaded.optimizer.variables), values(model.optimizer.variables))
    assert int(loaded.step) == int(model.step) == 15 * 4

  def test_predict_gives_the_posterior(self, trained, method):
    model, x = trained(method).model, trained(method).x[:5]
    if method == "autoreg":
      with pytest.raises(ValueError, match="autoreg"):
        model.predict(x, verbose=0)
      return
    predicted, refined = model.predict(x, verbose=0), model.refine(x)
    np.testing.assert_allclose(predicted["mean"], refined.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(predicted["log_var"], refined.log_var, rtol=1e-5, atol=1e-6)
    assert ("mean_initial" in predicted) == methods.get(method).has_encoder
    if "mean_initial" in predicted:
      np.testing.assert_allclose(predicted["mean_initial"], model.encode(x).mean, rtol=1e-5, atol=1e-6)

  def test_config_round_trip(self, method):
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 100, 1.0)
    options = {"beta": schedule, "global_clip_norm": 5.0, "seed": 3}
    if methods.get(method).learns_step_size:
      options |= {"learn_step_size": "latent", "adjoint": TruncatedAdjoint(steps=2)}
    if methods.get(method).has_latent:
      options["eval_k"] = 7
    model = make(
      method, svi=SVISettings(3, [0.3, 0.2, 0.1], 0.4, None, num_samples=2, antithetic=True), **options
    )
    config = model.get_config()
    again = SAVAE.from_config(config)
    assert again.get_config() == config
    assert again.svi == model.svi or again.svi.step_size == [0.3, 0.2, 0.1]
    before = {name: value for name, value in config.items() if name != "global_clip_norm"}
    assert (
      SAVAE.from_config(before | {"clip_norm": 5.0}).get_config() == config
    )  # saved under the name of before
    assert again.adjoint == model.adjoint and again.eval_k == model.eval_k
    assert float(again.beta(50)) == float(schedule(50))
    x = two_patterns(4)
    np.testing.assert_allclose(again.elbo(x), model.elbo(x), rtol=1e-6)
    for name in ("svi", "adjoint"):
      config.pop(name)
    assert SAVAE.from_config(config | {"learn_step_size": "none"}).svi == SVISettings()

  def test_numbers_of_numpy_become_pythons_in_the_config(self, method):
    given = {"beta": np.float32(0.5), "free_bits": np.float64(0.1), "seed": np.int64(3)}
    config = make(method, **given).get_config()
    assert [type(config[name]) for name in given] == [float, float, int]


class TestRefinement:
  @pytest.mark.parametrize("method", REFINING)
  def test_zero_steps_are_the_methods_own_start(self, trained, method):
    model, x = trained(method).model, trained(method).x[:5]
    start = model(x)
    np.testing.assert_allclose(model.refine(x, k=0).mean, start.mean, rtol=1e-6)
    assert np.any(np.abs(model.refine(x).mean - start.mean) > 1e-4)

  def test_the_mean_loss_along_the_path_is_measured(self, trained):
    one = trained("vae_svi")
    one.evaluate()
    means = one.model.mean_step_losses.result().numpy()
    assert means.shape == (K,) and np.all(np.isfinite(means)) and np.all(means > 0)


class TestTraining:
  @pytest.mark.parametrize(("method", "eager"), [("savae", True), ("vae", False)])
  def test_is_deterministic_given_the_seed(self, method, eager):
    def train(seed):
      model = make(method, seed=seed, run_eagerly=eager)
      model.fit(two_patterns(16), batch_size=8, epochs=2, shuffle=False, verbose=0)
      return values(model.trainable_variables)

    one = train(1)
    assert_same(train(1), one, rtol=1e-6, atol=1e-6)
    if eager:
      assert any(np.any(np.abs(a - b) > 1e-4) for a, b in zip(train(2), one, strict=True))

  def test_jit_compile(self):
    """Everything a step does, a skipped update included, compiles with XLA."""
    model, x = make("savae", NormalisingEncoder(), jit_compile=True, learn_step_size="step"), two_patterns(16)
    losses = [model.train_on_batch(x, return_dict=True)["loss"] for _ in range(30)]
    assert losses[-1] < losses[0]  # the mean since the beginning
    before = values(model.trainable_variables), values(model.encoder.variables)
    model.train_on_batch(np.full_like(x, np.nan))
    assert int(model.skipped) == 1 and int(model.optimizer.iterations) == 30
    assert_same(values(model.trainable_variables), before[0], rtol=0)
    assert_same(values(model.encoder.variables), before[1], rtol=0)

  def test_targets_are_ignored(self):
    """(x, y) data trains on x."""

    def train(*data):
      model = make("vae", run_eagerly=True)
      model.fit(*data, batch_size=8, shuffle=False, verbose=0)
      return values(model.trainable_variables)

    x = two_patterns(16)
    assert_same(train(x, np.arange(16)), train(x), rtol=1e-6)
    dataset = tf.data.Dataset.from_tensor_slices((x, np.arange(16))).batch(8)
    assert_same(train(dataset), train(x), rtol=1e-6)

  def test_fit_before_compile_is_refused(self):
    with pytest.raises(ValueError, match="compile"):
      make("vae", compiled=False).fit(two_patterns(8), verbose=0)

  def test_beta_may_be_a_schedule_of_the_step(self):
    model = make("vae", beta=keras.optimizers.schedules.PolynomialDecay(0.2, 2, 1.0), run_eagerly=True)
    for beta in (0.2, 0.6, 1.0, 1.0):
      model.reset_metrics()
      logs = model.train_on_batch(two_patterns(8), return_dict=True)
      assert logs["loss"] == pytest.approx(logs["nll"] + beta * logs["kl"], rel=1e-5)

  def test_learned_step_sizes_move_and_stay_positive(self):
    model = make("savae", learn_step_size="latent", run_eagerly=True)
    model.train_on_batch(two_patterns(8))
    sizes = model.step_sizes.sizes(K).numpy()
    assert sizes.shape == (K, tiny.LATENT) and np.all(sizes > 0)
    assert np.all(np.abs(sizes - 0.1) > 1e-5)

  def test_the_outer_clip_bounds_the_step_of_plain_gradient_descent(self):
    model = make("savae", global_clip_norm=0.01, compiled=False)
    model.compile(optimizer=keras.optimizers.SGD(1.0), run_eagerly=True)
    model.ensure_built(tf.constant(two_patterns(8)))
    before = values(model.trainable_variables)
    model.train_on_batch(two_patterns(8))
    moved = [a - b for a, b in zip(values(model.trainable_variables), before, strict=True)]
    assert np.sqrt(sum(np.sum(m**2) for m in moved)) == pytest.approx(0.01, rel=1e-4)


@keras.saving.register_keras_serializable(package="tests")
class NormalisingEncoder(tiny.PairEncoder):
  """With batch statistics."""

  def __init__(self, **kwargs):
    super().__init__(**kwargs)
    self.norm = keras.layers.BatchNormalization(dtype=self.dtype_policy)

  def call(self, x, training=False):
    return super().call(self.norm(x, training=training))


class TestNonFinite:
  def test_update_is_skipped_whole_and_counted_and_training_goes_on(self):
    model = make("vae", NormalisingEncoder())
    good = two_patterns(8)
    bad = good.copy()
    bad[3, 2] = np.nan
    model.train_on_batch(good)
    networks = [*model.encoder.variables, *model.decoder.variables]
    before = values(networks), values(model.optimizer.variables)
    assert any("moving_mean" in v.path for v in networks)

    for count in (1, 2):
      logs = model.train_on_batch(bad, return_dict=True)
      assert_same(values(networks), before[0], rtol=0)
      assert_same(values(model.optimizer.variables), before[1], rtol=0)
      assert (int(model.skipped), int(model.skipped_in_a_row)) == (count, count)
      assert np.isnan(logs["loss"])  # of no batch: this one was skipped
    assert int(model.step) == 3  # the noise of a batch that is tried again is another

    model.train_on_batch(good)
    assert (int(model.skipped), int(model.skipped_in_a_row)) == (2, 0)
    assert int(model.optimizer.iterations) == 2
    for a, b in zip(values(model.trainable_variables), values(networks), strict=False):
      assert np.all(np.isfinite(a)) and np.all(np.isfinite(b))
    moved = [np.any(a != b) for a, b in zip(values(networks), before[0], strict=True)]
    assert all(moved)

  def test_the_very_first_batch_may_be_bad(self):
    model = make("vae", run_eagerly=True)
    model.train_on_batch(np.full([4, 6], np.nan, np.float32))
    assert int(model.skipped) == 1
    assert all(np.all(np.isfinite(v)) for v in values(model.trainable_variables))


class TestOwnNetworks:
  """`PairEncoder` returns a tuple; `BernoulliDecoder` has `latent_dim` and `log_prob` and nothing else."""

  def test_savae_trains_them_with_every_weight_moving(self, trained):
    model = trained("savae").model
    fresh = make("savae")
    fresh.ensure_built(tf.constant(trained("savae").x))
    pairs = zip(values(model.trainable_variables), values(fresh.trainable_variables), strict=True)
    assert all(np.any(a != b) for a, b in pairs)
    assert not hasattr(model.decoder, "precompute")

  def test_their_output_becomes_gaussian_params(self, trained):
    params = trained("savae").model.encode(two_patterns(4))
    assert isinstance(params, GaussianParams) and params.mean.shape == (4, tiny.LATENT)

  def test_a_keras_functional_encoder(self):
    inputs = keras.Input([6])
    hidden = keras.layers.Dense(4, "relu")(inputs)
    encoder = keras.Model(inputs, [keras.layers.Dense(2)(hidden), keras.layers.Dense(2)(hidden)])
    model = make("savae", encoder, run_eagerly=True)
    assert np.isfinite(model.train_on_batch(two_patterns(8), return_dict=True)["loss"])


class TestGeneration:
  @pytest.fixture(scope="class")
  def model(self):
    encoder, decoder, _ = tiny.lstm_networks("float32")
    return make("savae", encoder, decoder, compiled=False)

  def test_samples_are_a_function_of_the_seed(self, model):
    x = model.sample(20, seed=1)
    assert x.shape == (20, 4)
    np.testing.assert_array_equal(x, model.sample(20, seed=1))
    assert np.any(x != model.sample(20, seed=2))

  def test_reconstructions_and_expected_observations(self, model):
    x = tiny.tokens()
    assert model.reconstruct(x).shape == x.shape
    np.testing.assert_allclose(
      tf.reduce_sum(model.decode(model.refine(x).mean), -1), np.ones([3, 4]), rtol=1e-5
    )

  def test_without_latent_z_is_left_out(self):
    decoder = tiny.networks.LSTMDecoder(5, 0, 3, 4, length=4)
    model = SAVAE(None, decoder, "autoreg")
    assert model.sample(7).shape == (7, 4)


class TestEvaluationNoise:
  """The noise of a row is a function of its place: its row in the batch, and the examples evaluated before it."""

  def test_rows_in_the_same_place_agree_whatever_the_batch(self):
    model, x = make("savae"), two_patterns(12)
    np.testing.assert_allclose(model.elbo(x)[:5], model.elbo(x[:5]), rtol=1e-5)

  def test_another_batch_size_is_another_draw_of_the_same_mean(self, trained):
    one, other = trained("vae").evaluate(batch_size=60), trained("vae").evaluate(batch_size=7)
    assert one["kl"] == pytest.approx(other["kl"], rel=1e-5)  # without noise
    assert one["bound"] != other["bound"]
    assert one["bound"] == pytest.approx(other["bound"], rel=0.1)


class TestLogLikelihood:
  """x | z ~ N(W z + c, s² I): log p(x) is known."""

  COPIES = 2000

  @pytest.fixture(scope="class")
  def gaussian(self):
    decoder = tiny.GaussianDecoder(dtype="float64")
    model = SAVAE(
      tiny.PairEncoder(dtype="float64"), decoder, "savae", SVISettings(20, 0.1, 0.5), dtype="float64"
    )
    x = tiny.normal(2, 3, seed=1)
    model.ensure_built(x)
    for variable in model.encoder.heads.variables:  # λ_0 is the prior: as a proposal it covers the posterior
      variable.assign(tf.zeros_like(variable))
    copies = tf.repeat(x, self.COPIES, axis=0)  # a row's draws are its own: copies are independent estimates

    @tf.function
    def estimate(num_samples):
      return model.log_likelihood(copies, num_samples, k=0)

    def rows(tensor):
      return tensor.numpy().reshape(2, self.COPIES)

    return model, x, copies, lambda s: rows(estimate(s)), rows

  def test_importance_weights_average_to_the_exact_value(self, gaussian):
    _, x, _, estimate, _ = gaussian
    exact = gaussian[0].decoder.exact_log_prob(x)
    ratio = np.exp(estimate(10) - exact[:, None])
    standard_error = ratio.std(axis=1) / np.sqrt(self.COPIES)
    assert np.all(standard_error < 0.1)
    assert np.all(np.abs(ratio.mean(axis=1) - 1.0) < 4 * standard_error)

  def test_bounds_tighten_with_the_number_of_samples(self, gaussian):
    model, x, copies, estimate, rows = gaussian
    exact = model.decoder.exact_log_prob(x)
    bounds = [rows(model.elbo(copies, k=0)).mean(axis=1)]
    bounds += [estimate(s).mean(axis=1) for s in (1, 5, 50)]
    elbo, one, five, fifty = bounds
    standard_error = estimate(1).std(axis=1) / np.sqrt(self.COPIES)
    assert np.all(np.abs(elbo - one) < 5 * standard_error)  # one sample's bound is the ELBO
    assert np.all(one < five) and np.all(five < fifty) and np.all(fifty < exact + 4 * standard_error)

  def test_refinement_approaches_the_exact_posterior_mean(self, gaussian):
    model, x, _, _, _ = gaussian
    kernel, bias = model.decoder.kernel.numpy(), model.decoder.bias.numpy()
    precision = kernel @ kernel.T / 0.8**2 + np.eye(2)
    mean = np.linalg.solve(precision, kernel @ (x.numpy() - bias).T / 0.8**2).T

    def error(k):
      copies = tf.repeat(x, 300, axis=0)
      return np.abs(model.refine(copies, k).mean.numpy().reshape(2, 300, 2).mean(axis=1) - mean).max()

    assert error(20) < 0.1 * error(0)
    bound = [float(tf.reduce_mean(model.elbo(x, k))) for k in (0, 20)]
    assert bound[1] > bound[0] + 0.5

  def test_without_latent_it_is_exact(self, trained):
    model, x = trained("autoreg").model, trained("autoreg").x[:4]
    np.testing.assert_array_equal(model.log_likelihood(x, 3), model.elbo(x))


class TestPrecision:
  def test_mixed_bfloat16_keeps_lambda_and_losses_in_float32(self):
    encoder, decoder, x = tiny.lstm_networks("mixed_bfloat16")
    model = SAVAE(encoder, decoder, "savae", SVISettings(K, 0.1), dtype="mixed_bfloat16")
    batch = Inference(encoder, decoder, x, model.svi, training=True)
    params, trajectory, path = batch.refine(batch.encode(), "exact")
    losses = model.infer(batch)
    context = tf.nest.flatten(batch.context)
    assert any(t.dtype == tf.bfloat16 for t in context)
    for tensor in (
      *batch.encode(),
      *params,
      *trajectory,
      path,
      model.method.loss(losses),
      *losses.final[:3],  # its parts
      *losses.initial[:3],
    ):
      assert tensor.dtype == tf.float32

  def test_mixed_bfloat16_trains_float32_weights(self):
    encoder, decoder, x = tiny.lstm_networks("mixed_bfloat16")
    model = SAVAE(encoder, decoder, "savae", SVISettings(K, 0.1), dtype="mixed_bfloat16")
    model.compile(optimizer=keras.optimizers.Adam(0.01), run_eagerly=True)
    losses = [model.train_on_batch(x, return_dict=True)["loss"] for _ in range(2)]
    assert np.all(np.isfinite(losses)) and int(model.skipped) == 0
    assert all(v.dtype == "float32" for v in model.trainable_variables)

  def test_float64(self):
    encoder, decoder, x = tiny.dense_networks("float64")
    model = SAVAE(encoder, decoder, "savae", SVISettings(K, 0.1), learn_step_size="step", dtype="float64")
    model.compile(optimizer=keras.optimizers.Adam(0.01), run_eagerly=True)
    model.train_on_batch(x)
    assert model.elbo(x).dtype == tf.float64
    assert all(v.dtype == "float64" for v in model.trainable_variables)


class TestRefused:
  @pytest.mark.parametrize(
    "wrong",
    [
      lambda: SAVAE(None, tiny.BernoulliDecoder(), "savae"),
      lambda: SAVAE(tiny.PairEncoder(), tiny.BernoulliDecoder(latent_dim=0), "vae"),
      lambda: SAVAE(None, tiny.BernoulliDecoder(), "autoreg"),
      lambda: SAVAE(None, tiny.BernoulliDecoder(latent_dim=0), "autoreg", eval_k=3),
      lambda: make("vae", learn_step_size="step"),
      lambda: make("savae", learn_step_size="magic"),
      lambda: make("savae", learn_step_size="step", svi=SVISettings(3, 0.0)),
      lambda: make("savae", adjoint="magic"),
      lambda: SAVAE(tiny.PairEncoder(), tiny.BernoulliDecoder(), "magic"),
      lambda: make("savae", eval_k=-1),
      lambda: make("savae", global_clip_norm=0.0),
      lambda: make("savae").log_likelihood(two_patterns(2), num_samples=0),
      lambda: make("savae").elbo(two_patterns(2), k=-1),
      lambda: make("svi").encode(two_patterns(2)),
    ],
    ids=[
      "no encoder",
      "no latent",
      "latent",
      "nothing to refine",
      "cannot learn",
      "learn what",
      "start at zero",
      "adjoint",
      "method",
      "eval_k",
      "clip_norm",
      "no samples",
      "k",
      "svi encodes",
    ],
  )
  def test_with_what_was_received(self, wrong):
    with pytest.raises(ValueError, match="Received"):
      wrong()
