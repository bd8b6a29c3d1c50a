"""Exports a trained run for TensorFlow Serving: `python -m tf_savae export --run_dir=RUN --output=models/savae`."""

from __future__ import annotations

import sys
from pathlib import Path

from tf_savae import startup
from tf_savae.commands.flags import Command, Flag, Given
from tf_savae.commands.run_flags import changed_steps, step_flags
from tf_savae.runs.options import SEED, each_once, optional, path, switch, whole, whole_list


def _flags() -> list[Flag]:
  return [
    Flag("run_dir", None, path(), "directory of a run of train.py", is_needed=True),
    Flag("output", None, path(), "directory of the model, which gets the next version", is_needed=True),
    Flag(
      "k",
      None,
      optional(each_once(whole_list(0))),
      "SVI steps of encode_refined; several, as in 5,20, give encode_refined_<K> each, and the first is encode_refined",
      shown_default="the K that the run is evaluated with, else the one it was trained with",
    ),
    Flag("seed", 0, SEED, "seed of the noise that all rows share"),
    Flag(
      "num_samples",
      None,
      optional(whole(1)),
      "noise draws averaged in each SVI step and bound",
      shown_default="as in training",
    ),
    Flag(
      "masks",
      False,
      switch(),
      "also encode_refined_masked and complete, for images of which a part was seen",
    ),
    *step_flags(),
  ]


def _work(given: Given) -> None:
  startup.require_serving()
  startup.import_tensorflow()
  from tf_savae.serving import exporter

  output = Path(given.output)
  options = {"k": given.k, "seed": given.seed, "num_samples": given.num_samples, "masks": given.masks}
  made = exporter.export(given.run_dir, output, **options, steps=changed_steps(given))
  print(f"exported {made}")


COMMAND = Command(
  "export",
  "Exports a trained run for TensorFlow Serving. Writes OUTPUT/<next version>, a SavedModel that was checked against"
  " the Keras model without Python.",
  _flags,
  _work,
  usage="--run_dir=RUN --output=models/savae [--name=value ...]",
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
