"""The picture of the idea: λ walks up the ELBO of one example. `python -m experiments.walk --run_dir=RUN`."""

from __future__ import annotations

import sys

from tf_savae.commands.flags import Command, Flag, Given

# Nothing imported here may import TensorFlow: a wrong flag and --help answer at once.
from tf_savae.runs.options import optional, path, whole


def _flags() -> list[Flag]:
  return [
    Flag(
      "run_dir",
      None,
      path(),
      "the directory of a run with two latents, such as of --dataset=synthetic",
      is_needed=True,
    ),
    Flag("example", 0, whole(0), "which example of the test split"),
    Flag("eval_k", None, optional(whole(1)), "SVI steps", shown_default="the run's"),
    Flag("out", "walk.svg", path(), "the SVG file to write"),
  ]


def _work(given: Given) -> None:
  from tf_savae import startup

  startup.import_tensorflow()
  from experiments import figures_walk

  figures_walk.draw_run(given.run_dir, given.out, example=given.example, k=given.eval_k)
  print(f"written to {given.out}")


COMMAND = Command(
  "walk",
  "Draws how the K steps of a run move the posterior of one example: the contours of −ELBO over its two means, and"
  " −ELBO against the step.",
  _flags,
  _work,
  usage="--run_dir=RUN [--name=value ...]",
  program="python -m experiments.walk",
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
