"""The files for the server say what it must know, in its own formats."""

import json
import re

import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from tf_savae.commands import serving_config as command
from tf_savae.errors import UserError
from tf_savae.serving import serving_config


@pytest.fixture
def model_dir(tmp_path):
  for version in (1, 2, 10):
    (tmp_path / "savae" / str(version)).mkdir(parents=True)
  return tmp_path / "savae"


def made(model_dir, **options):
  return serving_config.files(model_dir, model_dir.parent / "serving", name="savae", **options)


def config_of(files):
  [model] = text_format.Parse(
    files["models.config"], model_server_config_pb2.ModelServerConfig()
  ).model_config_list.config
  return model


def test_the_newest_version_is_stable_and_canary_unless_told_otherwise(model_dir):
  model = config_of(made(model_dir))
  assert (model.name, model.base_path, model.model_platform) == ("savae", "/models/savae", "tensorflow")
  assert dict(model.version_labels) == {"stable": 10, "canary": 10}
  assert list(model.model_version_policy.specific.versions) == [10]


def test_both_labelled_versions_are_served(model_dir):
  model = config_of(made(model_dir, stable=2, canary=10))
  assert dict(model.version_labels) == {"stable": 2, "canary": 10}
  assert list(model.model_version_policy.specific.versions) == [2, 10]


def test_the_image_is_that_of_the_tensorflow_that_exported(model_dir):
  files = made(model_dir)
  minor = ".".join(tf.__version__.split(".")[:2])
  for name in ("docker-compose.yml", "kubernetes.yaml"):
    assert f"image: tensorflow/serving:{minor}." in files[name]


def test_what_the_server_is_pointed_at_is_what_is_mounted(model_dir):
  files = made(model_dir)
  for name in ("docker-compose.yml", "kubernetes.yaml"):
    for option in ("model_config_file", "batching_parameters_file", "monitoring_config_file"):
      [path] = [line.partition("=")[2] for line in files[name].splitlines() if f"--{option}=" in line]
      assert path.removeprefix("/config/") in files
  assert f'"{model_dir}:/models/savae:ro"' in files["docker-compose.yml"]
  config_map = files["kubernetes.yaml"].partition("---")[0]
  for line in files["models.config"].splitlines():
    assert f"    {line}\n" in config_map


def test_limits_and_batch_size_are_as_asked_for(model_dir):
  files = made(model_dir, cores=3, memory_mb=512, max_batch_size=8)
  assert "max_execution_batch_size { value: 8 }" in files["batching_parameters.txt"]
  assert "num_batch_threads { value: 3 }" in files["batching_parameters.txt"]
  assert "memory: 512M\n" in files["docker-compose.yml"]
  assert 'limits: {cpu: "3", memory: 512Mi}' in files["kubernetes.yaml"]


def test_the_health_check_is_one_quoted_word_of_the_shell(model_dir):
  [line] = [line for line in made(model_dir)["docker-compose.yml"].splitlines() if "test:" in line]
  *_, script = json.loads(line.partition("test: ")[2])
  assert "GET /v1/models/savae HTTP/1.0\\r\\n" in script
  assert "$" not in script


def parameters(**options):
  """Names and values of the batching file, whose format has no Python classes in the server's API."""
  sizes = {"cores": 2, "max_batch_size": 64, "max_request_size": 4096, "allowed": ()}
  found = {}
  for line in serving_config.batching(**{**sizes, **options}).splitlines():
    name, value = re.fullmatch(r"(\w+)(?: \{ value: (?:\w+) \}|: \d+)(?:  # [\w ]+)?", line)[1], line.split()
    found.setdefault(name, []).append(value[3] if "{" in value else value[1])
  return found


def test_large_requests_are_split_into_batches():
  found = parameters(max_batch_size=32, max_request_size=1000)
  assert found["max_batch_size"] == ["1000"] and found["max_execution_batch_size"] == ["32"]
  assert found["enable_large_batch_splitting"] == ["true"]
  assert "allowed_batch_sizes" not in found
  assert parameters(allowed=(1, 8, 64))["allowed_batch_sizes"] == ["1", "8", "64"]


def test_liveness_is_asked_of_the_health_service_that_the_server_is_told_to_have(model_dir):
  text = made(model_dir)["kubernetes.yaml"]
  assert "--enable_grpc_healthcheck_service=true" in text
  assert re.search(r"livenessProbe:\n +grpc: \{port: 8500\}\n", text)
  assert "tcpSocket" not in text


def test_accelerators_have_their_image_and_their_limits(model_dir):
  without, with_gpus = made(model_dir), made(model_dir, gpus=2)
  for name in ("docker-compose.yml", "kubernetes.yaml", "kserve.yaml"):
    assert re.search(r"image: tensorflow/serving:[\d.]+-gpu\n", with_gpus[name])
    assert "gpu" not in without[name]
  for name in ("kubernetes.yaml", "kserve.yaml"):
    assert "Mi, nvidia.com/gpu: 2}" in with_gpus[name]
  reservation = "- driver: nvidia\n              count: 2\n              capabilities: [gpu]\n"
  assert reservation in with_gpus["docker-compose.yml"]
  assert "image: mine:1\n" in made(model_dir, gpus=1, image="mine:1")["kubernetes.yaml"]


def test_manifests_are_yaml_of_their_kinds(model_dir):
  yaml = pytest.importorskip("yaml")
  for gpus in (0, 1):
    files = made(model_dir, gpus=gpus)
    config_map, deployment, service = yaml.safe_load_all(files["kubernetes.yaml"])
    assert [part["kind"] for part in (config_map, deployment, service)] == [
      "ConfigMap",
      "Deployment",
      "Service",
    ]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"].get("nvidia.com/gpu", 0) == gpus
    kserve = yaml.safe_load(files["kserve.yaml"])
    assert (kserve["kind"], kserve["metadata"]["name"]) == ("InferenceService", "savae")
    model = kserve["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "tensorflow"} and model["storageUri"] == "pvc://savae-models"
    [compose] = yaml.safe_load(files["docker-compose.yml"])["services"].values()
    assert compose["platform"] == "linux/amd64"  # of the official image, which Apple silicon has to emulate
    assert ("reservations" in compose["deploy"]["resources"]) == bool(gpus)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"allowed_batch_sizes": (8, 1, 64)}, "must rise and end with --max_batch_size=64; received 8,1,64"),
    ({"allowed_batch_sizes": (1, 32)}, "must rise and end with --max_batch_size=64; received 1,32"),
    ({"max_request_size": 8}, "--max_request_size must be at least --max_batch_size=64; received 8"),
    ({"stable": 3}, "--stable=3 is no version in .*; there are 1, 2, 10"),
    ({"name": "Savae_1"}, "received 'Savae_1'"),
  ],
)
def test_what_cannot_be_served_is_refused(options, message, model_dir):
  with pytest.raises(UserError, match=message):
    serving_config.files(model_dir, model_dir, **{"name": "savae", **options})


def test_without_a_version_there_is_nothing_to_serve(tmp_path, capsys):
  assert command.main(["x", f"--model_dir={tmp_path}", f"--output={tmp_path / 'out'}"]) == 1
  error = capsys.readouterr().err
  assert error.startswith("error: ") and error.count("\n") == 1 and "holds no version" in error


def test_the_command_writes_the_files(model_dir, capsys):
  output = model_dir.parent / "serving"
  assert command.main(["x", f"--model_dir={model_dir}", f"--output={output}"]) == 0
  assert {path.name for path in output.iterdir()} == made(model_dir).keys()
  assert (output / "models.config").read_text() == made(model_dir)["models.config"]


def test_every_signature_is_warmed_up_with_a_request_that_it_answers(exported, served):
  file = exported.path / "assets.extra" / "tf_serving_warmup_requests"
  names = set()
  for record in tf.data.TFRecordDataset(str(file)):
    request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
    assert request.model_spec.name == "savae"
    name = request.model_spec.signature_name
    [(key, value)] = request.inputs.items()
    assert {key} == exported.interfaces[name].inputs.keys()
    assert all(len(output) == 1 for output in served(name, tf.make_ndarray(value)).values())
    names.add(name)
  assert names == exported.interfaces.keys()
