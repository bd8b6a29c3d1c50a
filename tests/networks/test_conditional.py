"""Conditional models: a label beside the image, in networks that know no labels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import tiny, tiny_runs
from tests.tiny import relative_error
from tf_savae import SAVAE, SVISettings
from tf_savae.errors import UserError
from tf_savae.networks import (
  ConditionalDecoder,
  ConditionalEncoder,
  ConvDecoder,
  GatedPixelCNN,
  LatePixelCNN,
  MLPDecoder,
  ResNetEncoder,
)
from tf_savae.posterior import GaussianParams

SHAPE = (8, 8, 1)
LABELS = 3
LATENT = 2
MAKERS = {
  "pixelcnn": lambda size, **k: GatedPixelCNN(size, 3, (3, 3), 1, SHAPE, **k),
  "late_pixelcnn": lambda size, **k: LatePixelCNN(size, 3, (3, 3), SHAPE, **k),
  "conv": lambda size, **k: ConvDecoder(size, SHAPE, width=3, **k),
  "mlp": lambda size, **k: MLPDecoder(size, SHAPE, units=(5,), **k),
}
every_decoder = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def observations(num=4, dtype=tf.float32):
  image = tf.cast(tf.random.stateless_uniform([num, *SHAPE], [1, 2]) < 0.4, dtype)
  return {"image": image, "label": tf.range(num) % LABELS}


def arrays(num=12):
  return tf.nest.map_structure(lambda part: part.numpy(), observations(num))


def decoder_of(make, latent_dim=LATENT, **options):
  decoder = ConditionalDecoder(make(latent_dim + LABELS, **options), LABELS)
  for i, v in enumerate(decoder.weights):
    v.assign_add(tf.cast(0.3 * tiny.normal(*v.shape, seed=i), v.dtype))
  return decoder


def model_of(make=MAKERS["conv"], **options):
  encoder = ConditionalEncoder(ResNetEncoder(LATENT, (3,)), LABELS)
  model = SAVAE(
    encoder, ConditionalDecoder(make(LATENT + LABELS), LABELS), svi=SVISettings(2, 0.02), **options
  )
  model.compile(keras.optimizers.Adam(1e-2))
  return model


@every_decoder
def test_the_likelihood_is_the_decoders_at_z_and_the_label(make):
  decoder, x, z = decoder_of(make), observations(), tiny.normal(4, LATENT, dtype="float32")
  ours = decoder.log_prob(x, z, decoder.precompute(x))
  inner, both = decoder.decoder, tf.concat([z, tf.one_hot(x["label"], LABELS)], axis=-1)
  np.testing.assert_allclose(ours, inner.log_prob(x["image"], both, inner.precompute(x["image"])), rtol=1e-6)
  other = {**x, "label": (x["label"] + 1) % LABELS}
  assert np.all(np.abs(ours - decoder.log_prob(other, z, decoder.precompute(other))) > 1e-4)


@every_decoder
def test_without_z_it_is_a_model_of_x_given_the_label(make):
  decoder, x = decoder_of(make, latent_dim=0), observations()
  assert decoder.latent_dim == 0
  assert decoder.log_prob(x, None, decoder.precompute(x)).shape == (4,)
  assert decoder.sample(None, (1, 2), num=5).shape == (5, *SHAPE)
  assert decoder.sample(None, (1, 2), condition=[1, 1]).shape == (2, *SHAPE)


@every_decoder
def test_samples_take_labels_or_count_them_through(make):
  decoder, z = decoder_of(make), tf.zeros([4, LATENT])
  through = decoder.sample(z, (1, 2))
  np.testing.assert_array_equal(through, decoder.sample(z, (1, 2), condition=[0, 1, 2, 0]))
  assert np.any(through != decoder.sample(z, (1, 2), condition=[1] * 4))
  assert np.ptp(decoder.decode(z, condition=[0, 1, 2, 0]), axis=0).max() > 1e-3
  np.testing.assert_array_equal(decoder.condition_of({"image": z, "label": [2]}), [2])


@every_decoder
def test_a_derivative_written_by_hand_is_taken_along_z_alone(make):
  decoder, x, z = decoder_of(make, dtype="float64"), observations(2, tf.float64), tiny.normal(2, LATENT)
  assert hasattr(decoder, "log_prob_derivative") == hasattr(decoder.decoder, "log_prob_derivative")
  if hasattr(decoder, "log_prob_derivative"):
    dz = tiny.normal(2, LATENT, seed=3)
    tiny.check_log_prob_derivative(decoder, x, z, dz, decoder.precompute(x))


class TestClosedForm:
  """A decoder that integrates over z itself does so beside a label."""

  @pytest.fixture
  def late(self):
    return decoder_of(MAKERS["late_pixelcnn"], dtype="float64")

  def inputs(self):
    params = GaussianParams(tiny.normal(3, LATENT, seed=2), tiny.normal(3, LATENT, seed=3) - 1.0)
    return observations(3, tf.float64), params

  def test_without_variance_it_is_the_log_probability(self, late):
    x, params = self.inputs()
    narrow = GaussianParams(params.mean, tf.fill([3, LATENT], tf.constant(-40.0, tf.float64)))
    context = late.precompute(x)
    np.testing.assert_allclose(
      late.expected_log_prob(x, narrow, context), late.log_prob(x, params.mean, context), rtol=1e-6
    )

  def test_its_derivative_is_that_of_a_tape(self, late):
    x, params = self.inputs()
    context = late.precompute(x)
    tangent = GaussianParams(tiny.normal(3, LATENT, seed=5), tiny.normal(3, LATENT, seed=6))
    with tf.GradientTape() as tape:
      tape.watch(params)
      value = late.expected_log_prob(x, params, context)
    gradient = tape.gradient(value, list(params))
    expected = sum(tf.reduce_sum(t * g, axis=-1) for t, g in zip(tangent, gradient, strict=True))
    np.testing.assert_allclose(
      late.expected_log_prob_derivative(x, params, tangent, context), expected, rtol=1e-6
    )

  def test_others_do_not_offer_it(self):
    assert not hasattr(decoder_of(MAKERS["conv"]), "expected_log_prob")


def test_parts_of_a_tuple_have_places():
  x, z = observations(), tf.zeros([4, LATENT])
  named = decoder_of(MAKERS["mlp"])
  placed = ConditionalDecoder(named.decoder, LABELS, observed=0, given=1)
  pair = x["image"], x["label"]
  np.testing.assert_array_equal(
    named.log_prob(x, z, named.precompute(x)), placed.log_prob(pair, z, placed.precompute(pair))
  )


def test_the_encoder_sees_the_label():
  encoder, x = ConditionalEncoder(ResNetEncoder(LATENT, (3,)), LABELS), observations()
  ours = encoder(x)
  others = encoder({**x, "label": (x["label"] + 1) % LABELS})
  assert ours[0].shape == (4, LATENT) and np.all(np.abs(ours[0] - others[0]) > 1e-6)


class TestModel:
  @pytest.mark.parametrize("k", [0, 2])
  def test_exact_gradients_are_those_of_the_unrolled_refinement(self, k):
    x = observations(3)
    found = []
    for adjoint in ("exact", "unrolled"):
      model = SAVAE(
        ConditionalEncoder(ResNetEncoder(LATENT, (3,), dtype="float64"), LABELS),
        decoder_of(MAKERS["conv"], dtype="float64"),
        svi=SVISettings(k, 0.02),
        adjoint=adjoint,
        dtype="float64",
      )
      double = {**x, "image": tf.cast(x["image"], tf.float64)}
      model.ensure_built(double)
      with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model.infer(model.inference(double)).final.neg_elbo)
      gradients = tape.gradient(
        loss, [v.value for v in model.trainable_variables], unconnected_gradients="zero"
      )
      found.append(np.concatenate([np.ravel(g) for g in gradients]))
    assert relative_error(*found) < 1e-9

  def test_it_trains_evaluates_predicts_and_reconstructs(self):
    model, x = model_of(), arrays()
    before = model.evaluate(x, batch_size=4, verbose=0, return_dict=True)["bound"]
    model.fit(x, batch_size=4, epochs=6, verbose=0)
    assert model.evaluate(x, batch_size=4, verbose=0, return_dict=True)["bound"] < before - 1
    assert model.predict(x, batch_size=4, verbose=0)["mean"].shape == (12, LATENT)
    assert model.refine(x).mean.shape == (12, LATENT)
    assert model.log_likelihood(x, 3).shape == (12,)
    assert model.reconstruct(x).shape == model.sample(12).shape == (12, *SHAPE)
    assert model.sample(2, condition=[1, 1]).shape == (2, *SHAPE)

  def test_data_sets_and_weights_are_taken(self):
    model, x = model_of(), arrays()
    batches = tf.data.Dataset.from_tensor_slices(x).batch(4)
    model.fit(batches, epochs=1, verbose=0)
    model.fit(x, sample_weight=np.ones(12, np.float32), batch_size=4, epochs=1, verbose=0)
    assert int(model.step.value) == 6

  def test_a_saved_model_is_the_same(self, tmp_path):
    model, x = model_of(MAKERS["pixelcnn"]), arrays(4)
    model.fit(x, batch_size=2, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.refine(x).mean, model.refine(x).mean)

  def test_its_posterior_is_exported(self, tmp_path):
    model, x = model_of(), arrays(4)
    model.ensure_built(x)
    model.export(tmp_path / "posterior", verbose=False)
    served = tf.saved_model.load(tmp_path / "posterior").signatures["serving_default"](
      **{name: tf.constant(part) for name, part in x.items()}
    )
    alone = [
      model.predict(tf.nest.map_structure(lambda p, i=i: p[i : i + 1], x), verbose=0)["mean"]
      for i in range(4)
    ]
    np.testing.assert_allclose(served["mean"], np.concatenate(alone), rtol=1e-4, atol=1e-5)

  def test_bad_observations_are_one_line(self):
    model, x = model_of(), arrays()
    with pytest.raises(UserError, match="from 0 to 2; received numbers from 0 to 3"):
      model.fit({**x, "label": np.arange(12) % 4}, batch_size=4, verbose=0)
    with pytest.raises(UserError, match="from 0 to 1; received numbers from 0 to 255"):
      model.evaluate({**x, "image": 255 * x["image"]}, batch_size=4, verbose=0)
    with pytest.raises(UserError, match="a part 'label'; received the parts 'image'"):
      model_of().fit({"image": x["image"]}, batch_size=4, verbose=0)
    with pytest.raises(UserError, match="a part 'image'; received a ndarray"):
      model_of().fit(x["image"], batch_size=4, verbose=0)


def test_impossible_numbers_of_labels_are_one_line():
  for num in (0, 6):
    with pytest.raises(UserError, match="num_labels must be from 1 to the decoder's latent_dim=5"):
      ConditionalDecoder(MAKERS["mlp"](5), num)
  with pytest.raises(UserError, match="num_labels must be 1 or more"):
    ConditionalEncoder(ResNetEncoder(LATENT, (3,)), 0)


def test_the_data_set_gives_the_labels_it_is_told_to():
  data = tiny_runs.image_data()
  with pytest.raises(UserError, match="has no labels; pictures have one in folders"):
    data.condition_on("label")
  data.labels = {"half": {"train": ["b", "a"] * 6, "valid": ["a"] * 10, "test": ["b"] * 6}}
  with pytest.raises(UserError, match=r"--condition=alphabet .* has labels called half"):
    data.condition_on("alphabet")
  assert data.condition_on("label").label_names == ("a", "b")
  assert "given the half, one of 2" in data.source
  assert data.examples("train", 3)["label"].tolist() == [1, 0, 1]
