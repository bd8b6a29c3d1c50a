"""What no client of ours sends: the server answers a clear error, or what the model card says, and stays up."""

import base64
import contextlib

import grpc
import numpy as np
import pytest
import requests
import server as servers
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

HTTP_BAD_REQUEST = 400


@pytest.fixture(scope="module")
def running(exported, served, exported_text, served_text):
  """URLs of a server of images and of a server of text."""
  with contextlib.ExitStack() as stack:
    yield {
      kind: stack.enter_context(servers.running(made.path, session.session))[1]
      for kind, made, session in (("image", exported, served), ("text", exported_text, served_text))
    }


def post(url, signature, inputs):
  body = {"signature_name": signature, "inputs": inputs}
  return requests.post(f"{url}/v1/models/savae:predict", json=body, timeout=30)


def predict(url, signature, key, value):
  request = predict_pb2.PredictRequest()
  request.model_spec.name, request.model_spec.signature_name = "savae", signature
  request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
  with grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    return stub.Predict(request, timeout=30)


def assert_up(urls, kind):
  key, value = ("x", np.zeros([1, 28, 28, 1], np.float32)) if kind == "image" else ("sentence", ["the cat"])
  assert post(urls["http"], "encode", {key: np.asarray(value).tolist()}).status_code == 200
  assert predict(urls["grpc"], "encode", key, value).outputs["mean"].tensor_shape.dim[0].size == 1


def b64(data):
  return {"b64": base64.b64encode(data).decode()}


LONG = "the " * 10_000


@pytest.mark.parametrize(
  ("kind", "signature", "inputs", "message"),
  [
    ("image", "encode", {"x": "text"}, "not of expected type"),
    ("image", "encode", {"x": [[0.0, 1.0]]}, "x must have the shape [batch, 28, 28, 1]"),
    ("image", "encode", {"x": []}, "x must have the shape"),
    ("image", "encode", {"y": [[0.0]]}, "input keys must be"),
    ("image", "encode_png", {"image_bytes": [b64(b"GIF89a")]}, "image_bytes must be PNG files"),
    ("image", "encode_png", {"image_bytes": ["text"]}, "image_bytes must be PNG files"),
    ("image", "nothing", {"x": []}, "not found"),
    ("text", "encode", {"sentence": [LONG]}, "sentence must have at most 12 words"),
    ("text", "encode_ids", {"x": [[4] * 10_000]}, "x must have rows of ids below 14"),
    ("text", "encode_ids", {"x": [4, 2]}, "x must have the shape [batch, length]"),
    ("text", "sample", {"z": [[0.0]]}, "z must have the shape [batch, 3]"),
  ],
)
def test_over_http(kind, signature, inputs, message, running):
  answer = post(running[kind]["http"], signature, inputs)
  assert answer.status_code == HTTP_BAD_REQUEST
  assert message in answer.json()["error"]
  assert_up(running[kind], kind)


@pytest.mark.parametrize(
  ("kind", "signature", "key", "value", "message"),
  [
    ("image", "encode", "x", np.zeros([1, 28, 28, 1], np.int32), "float"),
    ("image", "encode", "x", np.zeros([28, 28, 1], np.float32), "x must have the shape"),
    ("image", "encode", "x", np.float32(0), "x must have the shape"),
    ("image", "encode_png", "image_bytes", [b"", b"\x89PNG\r\n\x1a\n"], "image_bytes must be PNG files"),
    ("image", "encode_png", "image_bytes", [[b"GIF89a"]], "image_bytes must have the shape"),
    ("text", "encode", "sentence", np.zeros([2], np.float32), "string"),
    ("text", "encode", "sentence", [["the", "cat"]], "sentence must have the shape"),
    ("text", "encode", "sentence", ["the", LONG], "sentence must have at most 12 words"),
    ("text", "encode_ids", "x", np.int32([4, 2]), "x must have the shape [batch, length]"),
    ("text", "encode_ids", "x", np.zeros([1, 0], np.int32), "x must have rows of ids below 14"),
  ],
)
def test_over_grpc(kind, signature, key, value, message, running):
  with pytest.raises(grpc.RpcError) as caught:
    predict(running[kind]["grpc"], signature, key, value)
  assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
  assert message in caught.value.details()
  assert_up(running[kind], kind)


def test_an_empty_batch_has_an_empty_answer(running):
  for kind, key, value in (
    ("image", "x", np.zeros([0, 28, 28, 1], np.float32)),
    ("text", "sentence", np.zeros([0], object)),
  ):
    answer = predict(running[kind]["grpc"], "encode", key, value)
    assert [dim.size for dim in answer.outputs["mean"].tensor_shape.dim] == [0, 3]
  assert post(running["text"]["http"], "encode", {"sentence": []}).json()["outputs"] == {
    "mean": [],
    "log_var": [],
  }


def test_sentences_without_words_and_without_known_words_have_answers(running):
  answer = post(running["text"]["http"], "elbo", {"sentence": ["", "   ", "qwerty", "zebra", "the"]}).json()
  elbo, tokens = (answer["outputs"][name] for name in ("elbo", "tokens"))
  assert tokens == [1, 1, 2, 2, 2] and answer["outputs"]["unknown"] == [0, 0, 1, 1, 0]
  assert elbo[0] == elbo[1] and elbo[2] == elbo[3]
  assert np.unique(elbo).size == 3
