"""TensorFlow Serving over gRPC."""

from __future__ import annotations

from typing import Any

from tf_savae import startup
from tf_savae.errors import UserError
from tf_savae.serving.remote import (
  DTYPES,
  INTERNAL,
  SIDES,
  Connection,
  Passing,
  Server,
  SignatureInfo,
  TensorInfo,
  is_tls_error,
  read,
  said,
  tls_reason,
)

_MAX_MESSAGE = 1 << 28  # bytes of a gRPC message: images are larger than its default of 4 MB


class Grpc(Server):
  """TensorFlow Serving's gRPC interface.

  Args:
    connection: its address is host:port.
    tls: whether the connection is encrypted.

  Raises:
    UserError: the file of authorities cannot be read.
  """

  def __init__(self, connection: Connection, tls: bool = False):
    startup.require_serving()
    super().__init__(connection)
    import grpc
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    options = [(f"grpc.max_{way}_message_length", _MAX_MESSAGE) for way in ("send", "receive")]
    if tls:
      roots = None if connection.ca_file is None else read(connection.ca_file)
      self._channel = grpc.secure_channel(connection.address, grpc.ssl_channel_credentials(roots), options)
    else:
      self._channel = grpc.insecure_channel(connection.address, options)
    self._metadata_of_call = tuple((name.lower(), value) for name, value in connection.headers.items())
    self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

  def _metadata(self):
    from tensorflow_serving.apis import get_model_metadata_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    answer = self._call(self._stub.GetModelMetadata, self._for_model(request))
    found = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(found)
    return {
      name: SignatureInfo(*({k: _from_proto(t) for k, t in getattr(d, side).items()} for side in SIDES))
      for name, d in found.signature_def.items()
      if not name.startswith(INTERNAL)
    }

  def _predict(self, signature, batches, info):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = self._for_model(predict_pb2.PredictRequest())
    request.model_spec.signature_name = signature
    for key, batch in batches.items():
      request.inputs[key].CopyFrom(tf.make_tensor_proto(batch))
    answer = self._call(self._stub.Predict, request)
    return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}

  def _for_model(self, request):
    request.model_spec.name = self.model
    number = self.connection.version_number
    if number is not None:
      request.model_spec.version.value = number
    elif self.connection.version:
      request.model_spec.version_label = self.connection.version
    return request

  def _call(self, method, request):
    import grpc

    try:
      return method(request, timeout=self.connection.timeout, metadata=self._metadata_of_call)
    except grpc.RpcError as error:
      code, message = error.code(), said(error.details() or "")
      if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        raise Passing(f"no answer within {self.connection.timeout:g} s") from error
      if code == grpc.StatusCode.UNAVAILABLE and is_tls_error(message):
        raise UserError(f"{self.address}: TLS fails: {tls_reason(message)}") from error
      if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
        raise Passing(f"no connection, or the server is not ready ({message})") from error
      if code == grpc.StatusCode.NOT_FOUND:
        raise self.unknown(message) from error
      raise UserError(f"{self.address} refuses ({code.name}): {message}") from error

  def close(self):
    self._channel.close()


def _from_proto(tensor: Any) -> TensorInfo:
  from tensorflow.core.framework import types_pb2

  sizes = (dim.size for dim in tensor.tensor_shape.dim)
  return TensorInfo(
    DTYPES[types_pb2.DataType.Name(tensor.dtype)], tuple(None if size < 0 else size for size in sizes)
  )
