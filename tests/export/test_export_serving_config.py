"""The files for the server say what it must know, in its own formats."""

import json

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
  assert "max_batch_size { value: 8 }" in files["batching_parameters.txt"]
  assert "num_batch_threads { value: 3 }" in files["batching_parameters.txt"]
  assert "memory: 512M\n" in files["docker-compose.yml"]
  assert 'limits: {cpu: "3", memory: 512Mi}' in files["kubernetes.yaml"]


def test_the_health_check_is_one_quoted_word_of_the_shell(model_dir):
  [line] = [line for line in made(model_dir)["docker-compose.yml"].splitlines() if "test:" in line]
  *_, script = json.loads(line.partition("test: ")[2])
  assert "GET /v1/models/savae HTTP/1.0\\r\\n" in script
  assert "$" not in script


@pytest.mark.parametrize(
  ("options", "message"),
  [
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
