"""Exports a trained run for TensorFlow Serving: `python -m export.savedmodel --run_dir=RUN --output=models/savae`."""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from tf_savae import startup
from tf_savae.commands import export_flags as command_line

_USAGE = """usage: python -m export.savedmodel --run_dir=RUN --output=models/savae [--name=value ...]

Writes OUTPUT/<next version>, a SavedModel that was checked against the Keras model without Python."""


def _define(values: flags.FlagValues) -> None:
  flags.DEFINE_string("run_dir", None, "directory of a run of train.py", flag_values=values)
  flags.DEFINE_string(
    "output", None, "directory of the model, which gets the next version", flag_values=values
  )
  flags.DEFINE_list(
    "k",
    None,
    "SVI steps of encode_refined; several, as in 5,20, give encode_refined_<K> each, and the first is"
    " encode_refined (default: the K that the run is evaluated with, else the one it was trained with)",
    flag_values=values,
  )
  flags.DEFINE_integer("seed", 0, "seed of the noise that all rows share", 0, 2**31 - 1, flag_values=values)
  flags.DEFINE_integer(
    "num_samples",
    None,
    "noise draws averaged in each SVI step and bound (default: as in training)",
    1,
    flag_values=values,
  )


def _run(values: flags.FlagValues, rest: list[str]) -> None:
  command_line.no_arguments(rest)
  run_dir, output = (command_line.required(values, name) for name in ("run_dir", "output"))
  k = command_line.whole_numbers(values, "k")
  startup.import_tensorflow()
  from tf_savae.serving import exporter

  path = exporter.export(run_dir, Path(output), k=k, seed=values.seed, num_samples=values.num_samples)
  print(f"exported {path}")


def main(argv: list[str]) -> int:
  """Runs the command line `argv`; returns the exit status."""
  return command_line.main(_define, _run, _USAGE, argv)


if __name__ == "__main__":
  sys.exit(main(sys.argv))
