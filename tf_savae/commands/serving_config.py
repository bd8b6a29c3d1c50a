"""Files to serve a model with: `python -m tf_savae serving_config --model_dir=models/savae --output=serving`."""

from __future__ import annotations

import sys
from pathlib import Path

from tf_savae import startup
from tf_savae.commands.flags import Command, Flag, Given
from tf_savae.runs.options import optional, path, text, whole, whole_list


def _flags() -> list[Flag]:
  newest = {"shown_default": "the newest"}
  return [
    Flag("model_dir", None, path(), "directory of the exported versions", is_needed=True),
    Flag("output", None, path(), "directory of the files to write", is_needed=True),
    Flag("name", None, optional(text()), "name of the model", shown_default="that of its directory"),
    Flag("stable", None, optional(whole(1)), "version labelled stable", **newest),
    Flag("canary", None, optional(whole(1)), "version labelled canary", **newest),
    Flag(
      "image",
      None,
      optional(text()),
      "image of the server",
      shown_default="tensorflow/serving of the API's version",
    ),
    Flag("cores", 2, whole(1), "cores that the server may use"),
    Flag("memory_mb", 2048, whole(256), "memory that the server may use, MB"),
    Flag("gpus", 0, whole(0), "NVIDIA GPUs that the server gets; the default image is then that for GPUs"),
    Flag("max_batch_size", 64, whole(1), "rows that the server computes at once"),
    Flag(
      "max_request_size",
      4096,
      whole(1),
      "rows of the largest request, which the server splits into batches; larger ones are refused",
    ),
    Flag(
      "allowed_batch_sizes",
      None,
      optional(whole_list(1)),
      "rising sizes to which the server fills batches up, such as 1,8,64, so that it meets few shapes; the last is"
      " --max_batch_size",
      shown_default="any size",
    ),
  ]


def _work(given: Given) -> None:
  startup.require_serving()
  startup.import_tensorflow()
  from tf_savae.serving import serving_config

  settings = given.settings
  model_dir, output = Path(settings.pop("model_dir")), Path(settings.pop("output"))
  name = settings.pop("name") or model_dir.resolve().name
  written = serving_config.write(model_dir, output, name=name, **settings)
  print(f"wrote {', '.join(written)} in {output}")


COMMAND = Command(
  "serving_config",
  "Writes what TensorFlow Serving needs to serve an exported model. The files are models.config,"
  " batching_parameters.txt, monitoring.config, docker-compose.yml,"
  " kubernetes.yaml and kserve.yaml.",
  _flags,
  _work,
  usage="--model_dir=models/savae --output=serving [--name=value ...]",
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
