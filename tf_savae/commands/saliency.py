"""What the latent code of a trained run depends on: `python -m tf_savae saliency --run_dir=RUN`."""

from __future__ import annotations

import sys

from tf_savae import startup
from tf_savae.commands.flags import Command, Flag, Given
from tf_savae.commands.run_flags import run_flags
from tf_savae.runs.options import one_of, optional, whole


def _flags() -> list[Flag]:
  return [
    *run_flags(num=500, batch_size=10),
    Flag("eval_k", None, optional(whole(0)), "SVI steps", shown_default="the run's"),
    Flag("draws", 4, whole(1), "documents: draws of z per example for the output saliency"),
    Flag("tagger", "none", one_of("none", "textblob"), "documents: who tells parts of speech"),
    Flag("shown", 10, whole(1), "examples in the pictures"),
  ]


def _work(given: Given) -> None:
  startup.import_tensorflow()
  from tf_savae.evaluation import saliency_report

  result, files = saliency_report.of_run(**given.settings)
  print(f"{saliency_report.table(result)}\n\nwritten to {', '.join(map(str, files))}")


COMMAND = Command(
  "saliency",
  "Which tokens or pixels the latent code depends on, and which tokens depend on it. Prints tables; writes"
  " saliency.json, pictures, and the numbers of every token or pixel to the run's directory.",
  _flags,
  _work,
  usage="--run_dir=RUN [--name=value ...]",
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
