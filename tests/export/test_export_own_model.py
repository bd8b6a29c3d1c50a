"""`SAVAE.export` serves a model of one's own networks, without a run directory, through the same gate."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from exports import Served
from tensorflow_serving.apis import prediction_log_pb2

from tests import tiny
from tf_savae import SAVAE, SVISettings
from tf_savae.errors import UserError
from tf_savae.observations import Support
from tf_savae.serving import gate
from tf_savae.serving.payloads import Input

SIZE, LATENT = 6, 2


class FunctionalDecoder(keras.layers.Layer):
  """A user's decoder: p(x | z) of independent bits, whose logits are a functional Keras model of z."""

  support = (0, 1)

  def __init__(self, network, **kwargs):
    super().__init__(**kwargs)
    self.network, self.latent_dim = network, network.input_shape[-1]

  def log_prob(self, x, z, context):
    logits = self.network(z)
    return -tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits), axis=-1)

  def decode(self, z):
    return tf.sigmoid(self.network(z))


def functional_encoder(size=SIZE):
  x = keras.Input([size])
  hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(8, "tanh")(x))
  return keras.Model(x, [keras.layers.Dense(LATENT)(hidden), keras.layers.Dense(LATENT)(hidden)])


def functional_decoder():
  z = keras.Input([LATENT])
  return FunctionalDecoder(keras.Model(z, keras.layers.Dense(SIZE)(keras.layers.Dense(8, "tanh")(z))))


def functional(method="savae"):
  keras.utils.set_random_seed(0)
  return SAVAE(functional_encoder(), functional_decoder(), method, SVISettings(3, 0.1))


def bits(n=5):
  return np.random.default_rng(0).integers(0, 2, [n, SIZE]).astype(np.float32)


def exported(model, path, **options):
  model.export(path, **options)
  return Served(path, gate.interfaces(gate.read_meta_graph(path)))


@pytest.fixture(scope="module")
def model():
  made = functional()
  made.compile("sgd")
  made.fit(bits(), verbose=0)
  return made


@pytest.fixture(scope="module")
def served(model, tmp_path_factory):
  return exported(model, tmp_path_factory.mktemp("models") / "own" / "7", k=(0, 2))


def test_functional_networks_are_served_with_every_signature(model, served):
  assert served._interfaces.keys() == {
    *("serve", "serving_default", "encode", "encode_refined", "encode_refined_0", "encode_refined_2"),
    *("elbo", "reconstruct", "decode"),
  }
  x = bits()
  np.testing.assert_allclose(served("encode", x)["mean"], model.encode(x).mean, rtol=1e-5, atol=1e-6)
  refined = served("encode_refined_2", x)
  assert (refined["elbo_refined"] != refined["elbo_initial"]).all()
  decoded = served("decode", refined["mean"])["decoded"]
  np.testing.assert_allclose(decoded, model.decode(refined["mean"]), rtol=1e-5, atol=1e-6)


def test_the_default_signature_is_predict_with_and_without_k(model, served, tmp_path):
  plain, x = exported(model, tmp_path / "plain"), bits()
  alone = np.concatenate([model.predict(x[i : i + 1], verbose=0)["mean"] for i in range(len(x))])
  for name in ("serve", "serving_default"):
    answer = served(name, x)
    assert answer.keys() == plain(name, x).keys() == model.predict(x, verbose=0).keys()
    np.testing.assert_allclose(answer["mean"], alone, rtol=1e-4, atol=1e-5)
    for key, value in plain(name, x).items():
      np.testing.assert_allclose(answer[key], value, rtol=1e-5, atol=1e-6)


def test_card_and_warm_up_come_with_it(model, tmp_path):
  model.export(tmp_path / "own" / "7", k=2)
  extra = tmp_path / "own" / "7" / "assets.extra"
  card = (extra / "README.md").read_text()
  assert "largest\nrelative" in card or "relative difference was" in card
  assert "what it was trained on is not known" in card
  requests = [
    prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
    for record in tf.data.TFRecordDataset(str(extra / "tf_serving_warmup_requests"))
  ]
  assert {request.model_spec.name for request in requests} == {"own"}
  assert {request.model_spec.signature_name for request in requests} >= {"encode", "encode_refined", "serve"}


def test_further_inputs_get_signatures_with_their_suffix(model, tmp_path):
  def from_text(text):
    return tf.strings.to_number(tf.strings.bytes_split(text).to_tensor("0", shape=[None, SIZE]))

  spec = tf.TensorSpec([None], tf.string, "text")
  text = Input(spec, from_text, lambda n: np.array([b"010011"] * n, object), "six digits")
  served = exported(model, tmp_path / "1", k=0, inputs={"": bits(), "_text": text})
  answer = served("encode_text", np.array([b"110010"], object))
  expected = served("encode", np.float32([[1, 1, 0, 0, 1, 0]]))
  np.testing.assert_allclose(answer["mean"], expected["mean"], rtol=1e-6)


def test_a_model_that_saw_no_data_is_built_on_the_examples(tmp_path):
  served = exported(functional("vae"), tmp_path / "1", inputs=bits(2))
  assert len(served("encode_refined", bits())["mean"]) == 5


def test_a_table_inside_an_encoder_travels_with_it(tmp_path):
  class Lookup(keras.layers.Layer):
    def __init__(self):
      super().__init__()
      keys, values = tf.constant([0, 1], tf.int64), tf.constant([0.5, -1.5])
      self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0.0)
      self.scale = tf.Variable(2.0)

    def call(self, x):
      found = self.scale * self.table.lookup(tf.cast(x, tf.int64))
      return found[:, :LATENT], found[:, :LATENT]

  model = SAVAE(Lookup(), functional_decoder(), "vae")
  served = exported(model, tmp_path / "1", inputs=bits())
  np.testing.assert_allclose(served("encode", bits())["mean"], np.where(bits() > 0, -3.0, 1.0)[:, :LATENT])


@pytest.mark.parametrize("method", ["svi", "autoreg"])
def test_methods_without_encoder_or_latent(method, tmp_path):
  latent = 0 if method == "autoreg" else LATENT
  model = SAVAE(None, tiny.BernoulliDecoder(latent_dim=latent), method, SVISettings(2, 0.1))
  served = exported(model, tmp_path / "1", inputs=bits())
  assert "elbo" in served._interfaces and "encode" not in served._interfaces
  assert ("encode_refined" in served._interfaces) == bool(latent)
  assert "decode" not in served._interfaces  # the decoder has none


@pytest.mark.parametrize(
  ("support", "dtype", "expected"),
  [
    (Support(0, 9, whole=True), "int32", lambda x: (x >= 0) & (x <= 9)),
    ((0, 1), "float32", lambda x: (x == 0) | (x == 1)),
    ((0.0, 255.0), "float32", lambda x: (x >= 0) & (x <= 255)),
    (None, "float32", np.isfinite),
  ],
)
def test_made_up_examples_are_within_the_support(support, dtype, expected):
  from tf_savae.serving import own_inputs

  x = own_inputs._made_up(support, [SIZE], tf.as_dtype(dtype), 7)
  assert x.shape == (7, SIZE) and x.dtype == dtype and expected(x).all()
  assert len(np.unique(x)) > 1


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"k": -1}, "k must be whole numbers of SVI steps, 0 or more, each once; received -1"),
    ({"k": (2, 2)}, "each once"),
    ({"k": ()}, "k must be"),
    ({"k": 2.5}, "k must be"),
    ({"k": 1, "format": "onnx"}, "tf_saved_model"),
    ({"inputs": np.zeros([0, SIZE])}, r"at least one example observation, \[n, ...\]; received"),
    ({"inputs": np.zeros([2, SIZE, 1], np.float32)}, "the model was built on x of shape"),
    ({"inputs": {"_png": bits()}}, "tf_savae.serving.payloads.Input; received '_png': ndarray"),
  ],
)
def test_a_wrong_argument_is_one_line_and_writes_nothing(options, message, model, tmp_path):
  with pytest.raises(UserError, match=message) as caught:
    model.export(tmp_path / "1", **options)
  assert "\n" not in str(caught.value)
  assert not list(tmp_path.iterdir())


def test_a_model_without_shape_or_support_asks_for_examples(tmp_path):
  with pytest.raises(UserError, match=r"saw no data; call it on a batch first, or give inputs=x\[:4\]"):
    functional().export(tmp_path / "1", k=0)
  free = functional()
  free._built_on = [None, None], "float32"
  with pytest.raises(UserError, match=r"length is free in the shape \[None, None\]; give inputs"):
    free.export(tmp_path / "1", k=0)
  whole = functional()
  whole.decoder.support, whole._built_on = None, ([None, SIZE], "int32")
  with pytest.raises(UserError, match="x is int32; give inputs"):
    whole.export(tmp_path / "1", k=0)


def test_a_network_that_is_not_finite_does_not_pass_the_gate(tmp_path):
  model = functional("vae")
  model.ensure_built(tf.constant(bits()))
  model.encoder.layers[-1].bias.assign([np.nan, 0.0])
  with pytest.raises(UserError, match=r"gate: signature .* is not finite"):
    model.export(tmp_path / "own" / "1", k=0)
  assert not list((tmp_path / "own").iterdir())


def test_a_saved_model_is_replaced_and_nothing_else_is(model, tmp_path):
  model.export(tmp_path / "1", k=0)
  before = (tmp_path / "1" / "saved_model.pb").stat().st_ino
  model.export(tmp_path / "1", k=1)
  assert (tmp_path / "1" / "saved_model.pb").stat().st_ino != before
  assert [path.name for path in tmp_path.iterdir()] == ["1"]
  (tmp_path / "notes").mkdir()
  (tmp_path / "notes" / "text.txt").write_text("mine")
  (tmp_path / "file").touch()
  for name in ("notes", "file"):
    with pytest.raises(UserError, match=f"{name} exists and is no SavedModel; name a new folder"):
      model.export(tmp_path / name, k=0)
  with pytest.raises(UserError, match="a local folder; received gs://bucket/model; copy"):
    model.export("gs://bucket/model", k=0)


@pytest.mark.parametrize("name", ["full", "iaf"])
def test_other_posteriors_are_served_with_their_columns(name, tmp_path):
  model = SAVAE(functional_encoder(), functional_decoder(), svi=SVISettings(1, 0.1), posterior=name)
  model.compile(keras.optimizers.Adam(0.05))
  model.fit(bits(), epochs=2, verbose=0)
  served = exported(model, tmp_path / "1", k=(1,))
  found, params = served("encode_refined", bits()), model.encode(bits())
  column = {"full": "scale_tril", "iaf": "z"}[name]
  assert {"mean", "log_var", column} < set(found)
  expected = model.family.columns(params)
  for output, value in served("encode", bits()).items():
    np.testing.assert_allclose(value, expected[output], rtol=1e-5, atol=1e-6)
  if name == "iaf":  # what is decoded is where the flow takes the mean
    decoded = served("decode", found["z"])["decoded"]
    np.testing.assert_allclose(served("reconstruct", bits())["decoded"], decoded, rtol=1e-5, atol=1e-6)
    assert np.abs(found["z"] - found["mean"]).max() > 1e-4
