"""What the latent code of a trained run depends on: `python -m tf_savae saliency RUN [RUN ...]`."""

from __future__ import annotations

import sys

from tf_savae import startup
from tf_savae.commands.flags import Command, Flag, Given
from tf_savae.commands.run_flags import run_flags, several_runs
from tf_savae.runs.options import one_of, optional, whole


def _flags() -> list[Flag]:
  return [
    *run_flags(num=500, batch_size=10, takes_several=True),
    Flag("eval_k", None, optional(whole(0)), "SVI steps", shown_default="the run's"),
    Flag("draws", 4, whole(1), "documents: draws of z per example for the output saliency"),
    Flag("tagger", "none", one_of("none", "textblob"), "documents: who tells parts of speech"),
    Flag("shown", 10, whole(1), "examples in the pictures"),
  ]


def _work(given: Given) -> None:
  startup.import_tensorflow()
  from tf_savae.evaluation import saliency_of_runs, saliency_report

  settings, runs = given.settings, several_runs(given)
  del settings["run_dir"]
  out = settings.pop("out")
  if len(runs) == 1 and out is None:
    result, files = saliency_report.of_run(runs[0], **settings)
    text = saliency_report.table(result)
  else:
    results, files = saliency_of_runs.of_runs(runs, out, **settings)
    text = saliency_of_runs.table(results)
  print(f"{text}\n\nwritten to {', '.join(map(str, files))}")


def _prepare(given: Given) -> Given:
  several_runs(given)
  return given


COMMAND = Command(
  "saliency",
  "Which tokens or pixels the latent code depends on, and which tokens depend on it. Prints tables; writes"
  " saliency.json, pictures, and the numbers of every token or pixel to the run's directory. With several runs also"
  " saliency_compared.json and .png, to OUT.",
  _flags,
  _work,
  prepare=_prepare,
  usage="RUN_DIR [RUN_DIR ...] [--name=value ...]",
  takes_arguments=True,
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
