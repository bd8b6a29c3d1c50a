"""A server with TensorFlow Serving's REST and gRPC interfaces, for one exported version, on loopback.

Written from the interfaces' documentation, so that the client is tested against a contract and not against itself. The
answers come from TensorFlow's C++ session, as the official server's do.
"""

import base64
import contextlib
import json
import re
import ssl
import subprocess
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
  get_model_metadata_pb2,
  predict_pb2,
  prediction_service_pb2_grpc,
)

from tf_savae.serving import c_loader, gate

MODEL, VERSION, LABEL = "savae", 1, "stable"


class Refusal(Exception):
  """An answer that is an error: HTTP status, gRPC code, message."""


class Backend:
  """The model behind both interfaces. `failures` first requests fail as on a server that is starting."""

  def __init__(self, path, session):
    self._session = session
    meta_graph = gate.read_meta_graph(path)
    self.definitions = meta_graph.signature_def
    self.failures, self.requests = 0, 0
    self.max_batch_size = None  # rows of a request, beyond which it is refused
    self.headers = {}  # of the last request, by names in small letters
    self.bodies = []  # of REST requests
    self.is_slow, self._stopped = False, threading.Event()

  def pause(self):
    if self.is_slow:
      self._stopped.wait(5)

  def stop(self):
    self._stopped.set()

  def count(self):
    self.requests += 1
    if self.failures > 0:
      self.failures -= 1
      raise Refusal(503, grpc.StatusCode.UNAVAILABLE, "not ready")

  def check(self, model, version=None, label=None):
    if model != MODEL or version not in (None, VERSION) or label not in (None, LABEL):
      raise Refusal(404, grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({model})")

  def predict(self, name, arrays):
    name = name or "serving_default"
    if name not in self.definitions:
      raise Refusal(400, grpc.StatusCode.INVALID_ARGUMENT, f'Serving signature name: "{name}" not found')
    definition = self.definitions[name]
    if arrays.keys() != definition.inputs.keys():
      raise Refusal(400, grpc.StatusCode.INVALID_ARGUMENT, f"input keys must be {list(definition.inputs)}")
    rows = max(np.shape(value)[0] if np.ndim(value) else 1 for value in arrays.values())
    if self.max_batch_size and rows > self.max_batch_size:
      message = f"Task size {rows} is larger than maximum input batch size {self.max_batch_size}"
      raise Refusal(400, grpc.StatusCode.INVALID_ARGUMENT, message)
    feeds = {definition.inputs[key].name: value for key, value in arrays.items()}
    try:
      values = self._session.run(feeds, [tensor.name for tensor in definition.outputs.values()])
    except c_loader.SessionError as error:
      raise Refusal(400, grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
    return dict(zip(definition.outputs, values, strict=True))


def _array(value, dtype):
  if dtype == tf.string:
    return np.array(
      [base64.b64decode(v["b64"]) if isinstance(v, dict) else v.encode() for v in value], object
    )
  try:
    return np.array(value, dtype.as_numpy_dtype)
  except (ValueError, TypeError) as error:
    raise Refusal(400, None, f"JSON Value is not of expected type: {error}") from error


def _json(value):
  """Strings as they are: only outputs whose names end in _bytes are in base64."""
  return [v.decode() for v in value] if value.dtype == object else value.tolist()


def _handler(backend):
  class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
      backend.headers = {name.lower(): value for name, value in self.headers.items()}
      self._answer(self._get)

    def do_POST(self):
      backend.headers = {name.lower(): value for name, value in self.headers.items()}
      body = self.rfile.read(int(self.headers["Content-Length"]))
      backend.bodies.append(body)
      self._answer(lambda: self._post(json.loads(body)))

    def _model(self, rest):
      match = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?" + rest, self.path)
      if match is None:
        raise Refusal(404, None, "Malformed request")
      model, version, label = match.groups()
      backend.check(model, None if version is None else int(version), label)

    def _get(self):
      self._model("/metadata")
      found = get_model_metadata_pb2.SignatureDefMap(signature_def=backend.definitions)
      as_json = json_format.MessageToDict(
        found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
      )
      return {"model_spec": {"name": MODEL}, "metadata": {"signature_def": as_json}}

    def _post(self, request):
      self._model(":predict")
      name = request.get("signature_name", "serving_default")
      inputs = backend.definitions[name].inputs if name in backend.definitions else {}
      by_row = "instances" in request
      given = request["instances"] if by_row else request["inputs"]
      if by_row and isinstance(given[0], dict):
        given = {key: [row[key] for row in given] for key in given[0]}
      elif not isinstance(given, dict):
        given = {next(iter(inputs)): given}
      arrays = {
        k: _array(v, tf.as_dtype(inputs[k].dtype) if k in inputs else tf.float32) for k, v in given.items()
      }
      answer = {k: _json(v) for k, v in backend.predict(name, arrays).items()}
      if by_row:
        rows = [dict(zip(answer, row, strict=True)) for row in zip(*answer.values(), strict=True)]
        return {"predictions": [next(iter(row.values())) if len(row) == 1 else row for row in rows]}
      return {"outputs": next(iter(answer.values())) if len(answer) == 1 else answer}

    def _answer(self, make):
      backend.pause()
      try:
        backend.count()
        status, body = 200, make()
      except Refusal as error:
        status, body = error.args[0], {"error": error.args[2]}
      data = json.dumps(body).encode()
      with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
      pass

  return Handler


class _Service(prediction_service_pb2_grpc.PredictionServiceServicer):
  def __init__(self, backend):
    self._backend = backend

  def _checked(self, request, context, make):
    self._backend.pause()
    self._backend.headers = dict(context.invocation_metadata())
    spec = request.model_spec
    try:
      self._backend.count()
      version = spec.version.value if spec.HasField("version") else None
      self._backend.check(spec.name, version, spec.version_label or None)
      return make()
    except Refusal as error:
      context.abort(error.args[1], error.args[2])

  def GetModelMetadata(self, request, context):
    def make():
      found = get_model_metadata_pb2.SignatureDefMap(signature_def=self._backend.definitions)
      response = get_model_metadata_pb2.GetModelMetadataResponse()
      response.metadata["signature_def"].Pack(found)
      return response

    return self._checked(request, context, make)

  def Predict(self, request, context):
    def make():
      arrays = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
      answer = self._backend.predict(request.model_spec.signature_name, arrays)
      response = predict_pb2.PredictResponse()
      for key, value in answer.items():
        response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
      return response

    return self._checked(request, context, make)


def certificate(folder):
  """A key and a certificate of this machine that nobody signed, as paths of PEM files."""
  key, found = folder / "key.pem", folder / "certificate.pem"
  names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
  command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
  subprocess.run([*command, "-keyout", str(key), "-out", str(found)], check=True, capture_output=True)
  return key, found


@contextlib.contextmanager
def running(path, session, tls=None):
  """Serves `path`, loaded as `session`; yields the backend and both URLs, `{"http": …, "grpc": …}`.

  With `tls`, a pair of key and certificate, they are encrypted, and the URLs begin with https and grpcs.
  """
  backend = Backend(path, session)
  web = ThreadingHTTPServer(("127.0.0.1", 0), _handler(backend))
  web.daemon_threads = True
  if tls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls[1], tls[0])
    web.socket = context.wrap_socket(web.socket, server_side=True)
  thread = threading.Thread(target=web.serve_forever, args=(0.05,), daemon=True)
  thread.start()
  server = grpc.server(futures.ThreadPoolExecutor(2))
  prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Service(backend), server)
  if tls:
    pair = [(tls[0].read_bytes(), tls[1].read_bytes())]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair))
  else:
    port = server.add_insecure_port("127.0.0.1:0")
  server.start()
  try:
    end = "s" if tls else ""
    urls = {"http": f"http{end}://127.0.0.1:{web.server_port}", "grpc": f"grpc{end}://127.0.0.1:{port}"}
    yield backend, urls
  finally:
    backend.stop()
    web.shutdown()
    web.server_close()
    server.stop(None)
