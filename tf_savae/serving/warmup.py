"""Warm-up requests, which a server runs before a version answers its first client, so that no client has to wait."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tf_savae.errors import UserError
from tf_savae.serving.signatures import Signature

FILE = "tf_serving_warmup_requests"  # in assets.extra: where TensorFlow Serving looks


def write(path: Path, model: str, signatures: Mapping[str, Signature]) -> None:
  """Writes one request of one row for each signature.

  Args:
    path: the file.
    model: the model's name.
    signatures: by name.

  Raises:
    UserError: the file cannot be written.
  """
  try:
    with tf.io.TFRecordWriter(str(path)) as writer:
      for name, signature in signatures.items():
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = model, name
        for key, value in signature.feeds(1).items():
          request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        log = prediction_log_pb2.PredictLog(request=request)
        writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
  except tf.errors.OpError as error:
    raise UserError(f"cannot write {path}: {error.message.splitlines()[0]}") from error
