"""Files to serve an exported model with, for TensorFlow Serving by itself, by Docker or by Kubernetes.

    models.config             which versions are served, and their labels stable and canary
    batching_parameters.txt   how requests are put together into batches
    monitoring.config         where Prometheus finds the server's figures
    docker-compose.yml        the official image on one machine: REST on 8501, gRPC on 8500
    kubernetes.yaml           a Deployment, its Service, and the three files above as a ConfigMap
    kserve.yaml               the same model as an InferenceService of KServe, which has a server of its own

Warm-up requests are part of each exported version: `exporter` writes them.
"""

from __future__ import annotations

import importlib.metadata
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_savae.atomic_files import atomic_write_text
from tf_savae.errors import UserError, reason
from tf_savae.serving.version_dir import check_model_dir, versions, without_versions

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?")  # what Kubernetes takes as a name

_MONITORING = """\
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""

# The image has neither curl nor wget.
_HEALTH = (
  "exec 3<>/dev/tcp/127.0.0.1/8501 && printf 'GET /v1/models/{name} HTTP/1.0\\r\\n\\r\\n' >&3"
  " && grep -q '\"AVAILABLE\"' <&3"
)

_COMPOSE = """\
# docker compose up
services:
  {name}:
    image: {image}
    platform: linux/amd64 # the official image has no other; Apple silicon emulates it, slowly
    command:
{arguments}
    ports:
      - "8500:8500" # gRPC
      - "8501:8501" # REST
    volumes:
      - "{model_dir}:/models/{name}:ro"
      - "{output}:/config:ro"
    environment:
      TF_CPP_MIN_LOG_LEVEL: "1"
    healthcheck:
      test: ["CMD", "bash", "-c", {health}]
      interval: 10s
      timeout: 5s
      retries: 3
      start_period: 60s
    deploy:
      resources:
        limits:
          cpus: "{cores}"
          memory: {memory_mb}M
{compose_gpus}    restart: unless-stopped
"""

_COMPOSE_GPUS = """\
        reservations:
          devices:
            - driver: nvidia
              count: {gpus}
              capabilities: [gpu]
"""

_KUBERNETES = """\
# kubectl apply -f kubernetes.yaml; the versions are expected in a PersistentVolumeClaim named {name}-models.
apiVersion: v1
kind: ConfigMap
metadata:
  name: {name}-serving
data:
{files}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  labels: {{app: {name}}}
spec:
  replicas: 1
  selector:
    matchLabels: {{app: {name}}}
  template:
    metadata:
      labels: {{app: {name}}}
    spec:
      containers:
        - name: serving
          image: {image}
          args:
{arguments}
          ports:
            - {{name: grpc, containerPort: 8500}}
            - {{name: rest, containerPort: 8501}}
          startupProbe:
            httpGet: {{path: /v1/models/{name}/metadata, port: rest}}
            periodSeconds: 5
            failureThreshold: 36
          readinessProbe:
            httpGet: {{path: /v1/models/{name}/metadata, port: rest}}
            periodSeconds: 10
          # The standard health service of gRPC; Kubernetes 1.27 or later.
          livenessProbe:
            grpc: {{port: 8500}}
            periodSeconds: 20
          resources:
            requests: {{cpu: "{cores}", memory: {memory_mb}Mi}}
            limits: {{cpu: "{cores}", memory: {memory_mb}Mi{pod_gpus}}}
          volumeMounts:
            - {{name: models, mountPath: /models/{name}, readOnly: true}}
            - {{name: config, mountPath: /config, readOnly: true}}
      volumes:
        - name: models
          persistentVolumeClaim: {{claimName: {name}-models, readOnly: true}}
        - name: config
          configMap: {{name: {name}-serving}}
---
apiVersion: v1
kind: Service
metadata:
  name: {name}
spec:
  selector: {{app: {name}}}
  ports:
    - {{name: grpc, port: 8500, targetPort: grpc}}
    - {{name: rest, port: 8501, targetPort: rest}}
"""

_KSERVE = """\
# kubectl apply -f kserve.yaml; KServe mounts the PersistentVolumeClaim {name}-models and serves the newest version in
# it, with its own ports, probes and image. Version labels and the batching file are for the other manifest.
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
spec:
  predictor:
    minReplicas: 1
    model:
      modelFormat: {{name: tensorflow}}
      image: {image}
      storageUri: pvc://{name}-models
      resources:
        requests: {{cpu: "{cores}", memory: {memory_mb}Mi}}
        limits: {{cpu: "{cores}", memory: {memory_mb}Mi{pod_gpus}}}
"""


def default_image(gpus: int = 0) -> str:
  """The official image of the version whose API is installed, for processors or for GPUs."""
  version = importlib.metadata.version("tensorflow-serving-api")
  return f"tensorflow/serving:{version}{'-gpu' if gpus else ''}"


def files(
  model_dir: Path,
  output: Path,
  *,
  name: str,
  stable: int | None = None,
  canary: int | None = None,
  image: str | None = None,
  cores: int = 2,
  memory_mb: int = 2048,
  gpus: int = 0,
  max_batch_size: int = 64,
  max_request_size: int = 4096,
  allowed_batch_sizes: Sequence[int] | None = None,
) -> dict[str, str]:
  """The files' contents by their names.

  Args:
    model_dir: directory of the versions.
    output: where the files will be.
    name: under which the model is served.
    stable, canary: versions that get these labels; default: the newest.
    image: of the server; default: `default_image`.
    cores, memory_mb: limits of the server.
    gpus: NVIDIA GPUs that the server gets.
    max_batch_size: rows that the server computes at once.
    max_request_size: rows of the largest request, which the server splits; those of larger ones are refused.
    allowed_batch_sizes: rising sizes to which the server fills up batches, the last of them `max_batch_size`; default:
      batches stay as they are.

  Raises:
    UserError: there is no such version, the name is not one that Kubernetes takes, or sizes do not fit together.
  """
  check_model_dir(model_dir, f"--model_dir={model_dir}")
  found = versions(model_dir)
  if not found:
    why = without_versions(model_dir)
    raise UserError(f"--model_dir={model_dir} {why}; export one with python -m tf_savae export")
  if not _NAME.fullmatch(name):
    raise UserError(
      f"a model's name must be lower-case letters, digits and -, for Kubernetes; received {name!r}"
    )
  labels = {"stable": stable or found[-1], "canary": canary or found[-1]}
  for label, version in labels.items():
    if version not in found:
      known = ", ".join(map(str, found))
      raise UserError(f"--{label}={version} is no version in {model_dir}; there are {known}")
  settings = {
    "models.config": models_config(name, labels),
    "batching_parameters.txt": batching(cores, max_batch_size, max_request_size, allowed_batch_sizes or ()),
    "monitoring.config": _MONITORING,
  }
  common = {"name": name, "image": image or default_image(gpus), "cores": cores, "memory_mb": memory_mb}
  common |= {
    "compose_gpus": _COMPOSE_GPUS.format(gpus=gpus) if gpus else "",
    "pod_gpus": f", nvidia.com/gpu: {gpus}" if gpus else "",
  }
  health = _yaml_string(_HEALTH.format(name=name))
  where = {"model_dir": model_dir.resolve(), "output": output.resolve()}
  return {
    **settings,
    "docker-compose.yml": _COMPOSE.format(**common, **where, arguments=_arguments(6), health=health),
    "kubernetes.yaml": _KUBERNETES.format(**common, arguments=_arguments(12), files=_blocks(settings)),
    "kserve.yaml": _KSERVE.format(**common),
  }


def write(model_dir: Path, output: Path, *, name: str, **settings: Any) -> list[str]:
  """Writes the files to the directory `output`; arguments and errors as of `files`. Returns the files' names."""
  made = files(model_dir, output, name=name, **settings)
  try:
    output.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f"cannot write in --output={output}: {reason(error)}; name another --output") from error
  for file, text in made.items():
    atomic_write_text(output / file, text)
  return list(made)


def models_config(name: str, labels: Mapping[str, int]) -> str:
  """models.config: serves the labelled versions, text of a ModelServerConfig."""
  from google.protobuf import text_format
  from tensorflow_serving.config import model_server_config_pb2

  config = model_server_config_pb2.ModelServerConfig()
  model = config.model_config_list.config.add()
  model.name, model.base_path, model.model_platform = name, f"/models/{name}", "tensorflow"
  model.model_version_policy.specific.versions.extend(sorted(set(labels.values())))
  for label, version in labels.items():
    model.version_labels[label] = version
  return text_format.MessageToString(config)


def batching(cores: int, max_batch_size: int, max_request_size: int, allowed: Sequence[int]) -> str:
  """batching_parameters.txt, text of a BatchingParameters: large requests are split into batches.

  Raises:
    UserError: sizes do not fit together.
  """
  if max_request_size < max_batch_size:
    raise UserError(
      f"--max_request_size must be at least --max_batch_size={max_batch_size}; received {max_request_size}"
    )
  if allowed and (list(allowed) != sorted(set(allowed)) or allowed[-1] != max_batch_size):
    received = ",".join(map(str, allowed))
    raise UserError(
      f"--allowed_batch_sizes must rise and end with --max_batch_size={max_batch_size}; received {received}"
    )
  lines = [
    f"max_batch_size {{ value: {max_request_size} }}  # rows of a request",
    "enable_large_batch_splitting { value: true }",
    f"max_execution_batch_size {{ value: {max_batch_size} }}  # rows computed at once",
    *(f"allowed_batch_sizes: {size}" for size in allowed),
    "batch_timeout_micros { value: 2000 }",
    "max_enqueued_batches { value: 100 }",
    f"num_batch_threads {{ value: {cores} }}",
  ]
  return "".join(f"{line}\n" for line in lines)


def _arguments(indent: int) -> str:
  arguments = (
    "--port=8500",
    "--rest_api_port=8501",
    "--model_config_file=/config/models.config",
    "--model_config_file_poll_wait_seconds=30",
    "--allow_version_labels_for_unavailable_models=true",
    "--enable_grpc_healthcheck_service=true",
    "--enable_batching=true",
    "--batching_parameters_file=/config/batching_parameters.txt",
    "--monitoring_config_file=/config/monitoring.config",
  )
  return textwrap.indent("\n".join(f"- {argument}" for argument in arguments), " " * indent)


def _blocks(texts: Mapping[str, str]) -> str:
  blocks = (f"{name}: |\n{textwrap.indent(text, '  ')}".rstrip() for name, text in texts.items())
  return textwrap.indent("\n".join(blocks), "  ")


def _yaml_string(text: str) -> str:
  """A double-quoted scalar; $ doubled, which docker compose would replace."""
  escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
  return f'"{escaped}"'
