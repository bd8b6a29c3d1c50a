"""A semi-amortised VAE of sentences: `python -m examples.text [FILE]`.

Trains on a file with one sentence per line (default: the stand-in questions that come with the package), rewrites test
sentences from their refined codes, and walks from one sentence to another.
"""

from __future__ import annotations

import pathlib
import shutil
import sys
import tempfile

import numpy as np

from tf_savae import GaussianParams
from tf_savae.generation.writer import Writer, line
from tf_savae.runs.restore import load_with_data
from tf_savae.training import make_config, run


def main(file: str | None = None, run_dir: str | None = None, **settings) -> list[str]:
  """Trains, and returns the sentences on the way from the first test sentence to the second.

  Args:
    file: UTF-8, a sentence per line, words separated by spaces; None: the stand-in.
    run_dir: where the run is kept; the same call resumes it. None: a temporary folder.
    **settings: settings of the run, as `train.py --help` lists them.
  """
  options = {"model": "savae", "preset": "small", "k": 4, **settings}
  if file is None:
    options["dataset"] = "yahoo"
  else:
    folder = tempfile.mkdtemp()
    shutil.copyfile(file, pathlib.Path(folder) / "train.txt")  # validation and test sentences are divided off
    options |= {"dataset": "text", "data_dir": folder}
  run_dir = run_dir or f"{tempfile.mkdtemp()}/text"
  run(make_config(**options, run_dir=run_dir))

  trained, documents = load_with_data(run_dir)
  x = documents.examples("test", 2)
  posterior: GaussianParams = trained.model.refine(x)  # λ_K of both sentences
  writer = Writer(trained.model, trained.vocabulary)
  for original, rewritten in zip(documents.texts("test", 2), writer.greedy(posterior.mean), strict=True):
    print(f"original:  {original}\nrewritten: {rewritten}\n")
  start, end = np.asarray(posterior.mean)
  way = writer.greedy(line(start, end, points=5))
  print("from one to the other:", *way, sep="\n  ")
  return way


if __name__ == "__main__":
  main(*sys.argv[1:])
