"""Generates texts with a trained model: `python -m tf_savae generate --run_dir=RUN`."""

from __future__ import annotations

import sys

from tf_savae import startup
from tf_savae.commands.flags import Command, Given, of_fields
from tf_savae.generation.settings import GenerateSettings


def _prepare(given: Given) -> GenerateSettings:
  return GenerateSettings(**given.settings)


def _work(settings: GenerateSettings) -> None:
  startup.import_tensorflow()
  from tf_savae.generation import run_report

  run_report.write(settings, lambda text: print(text, flush=True))


COMMAND = Command(
  "generate",
  "What a trained model writes or draws: samples, reconstructions, the line between two examples, an attribute added to"
  " a sentence, the missing half of an image. Kept in RUN/generations; texts are printed, and in TensorBoard, too.",
  lambda: of_fields(GenerateSettings),
  _work,
  prepare=_prepare,
  usage="--run_dir=RUN [--sentence=… | --file=… | --split=…] [--name=value ...]",
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
