"""`--dataset=yahoo`: the Yahoo Answers documents of Yang et al. 2017 from files, or the stand-in.

Source: Z. Yang, Z. Hu, R. Salakhutdinov, T. Berg-Kirkpatrick, *Improved Variational Autoencoders for Text Modeling
using Dilated Convolutions*, ICML 2017, arXiv 1702.08139. Their corpus has no lasting address, so there is no download.
"""

from __future__ import annotations

import os
import pathlib

from absl import logging

from tf_savae.data import text, text_files
from tf_savae.data.vocabulary import Vocabulary
from tf_savae.errors import UserError

STAND_IN = pathlib.Path(__file__).with_name("text_standin.txt.gz")


def load(
  *,
  data_dir: str | os.PathLike[str],
  seed: int,
  download: bool = True,
  strict: bool = False,
  vocab_size: int = 20000,
  min_count: int = 1,
  max_length: int = 200,
  units: str = "word",
  text_column: str | None = None,
  vocabulary: Vocabulary | None = None,
) -> text.TextDataSet:
  """The documents in `data_dir/yahoo`, or else in `data_dir` itself, or else generated ones.

  Args:
    data_dir: the folder in which files are looked for.
    seed: the training run's seed; it decides the order of the training documents only.
    download: not used; there is nothing to download.
    strict: whether having nothing but the stand-in is an error.
    vocab_size, min_count, max_length, units, text_column, vocabulary: see `text.load`.

  Raises:
    UserError: a file that was found is unusable, or `strict` is set and only the stand-in is left.
  """
  del download
  options = {
    "name": "yahoo",
    "seed": seed,
    "vocab_size": vocab_size,
    "min_count": min_count,
    "max_length": max_length,
    "units": units,
    "vocabulary": vocabulary,
  }
  data_dir = pathlib.Path(data_dir).expanduser()
  folder = data_dir / "yahoo"
  for place in (folder, data_dir):
    if files := text_files.find(place, text_column):
      return text.from_files(
        files, f"text in {place.resolve().name}/", is_stand_in=False, text_column=text_column, **options
      )
  where = f"no Yahoo documents in {folder}" + ("" if folder.is_dir() else " (which does not exist)")
  if strict:
    raise UserError(
      f"{where}, and there is no download; only the stand-in is left, which strict data forbids. "
      f"Put {text_files.EXPECTED} there"
    )
  logging.warning(
    "%s, and there is no download: using the STAND-IN, generated documents that are not Yahoo's; put %s there",
    where,
    text_files.EXPECTED,
  )
  what = "stand-in for Yahoo, generated questions and answers and no real documents"
  return text.from_files({"train": STAND_IN}, what, is_stand_in=True, **options)
