"""Posteriors of files, offline: `python -m tf_savae encode --run_dir=RUN --output=latents.npz FILES`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from tf_savae import startup
from tf_savae.commands.flags import Command, Flag, Given
from tf_savae.commands.run_flags import changed_steps, step_flags
from tf_savae.errors import UserError
from tf_savae.runs.options import SEED, one_of, optional, path, text, whole

_FORMATS = (".npz", ".csv", ".parquet")


def _flags() -> list[Flag]:
  return [
    Flag("run_dir", None, path(), "the directory of a trained run", is_needed=True),
    Flag("output", None, path(), "file of the posteriors: .npz, .csv or .parquet", is_needed=True),
    Flag(
      "split",
      None,
      optional(one_of("train", "valid", "test")),
      "encode this split of the run's data, and no files",
    ),
    Flag(
      "num",
      None,
      optional(whole(1)),
      "how many of the split's examples, from the first on",
      shown_default="all",
    ),
    Flag(
      "data_dir",
      None,
      optional(path()),
      "where the split's data are",
      shown_default="where they were in training",
    ),
    Flag("eval_k", None, optional(whole(0)), "SVI steps", shown_default="the run's"),
    Flag("seed", 0, SEED, "seed of the noise that all rows share, as of export"),
    Flag("batch_size", 50, whole(1), "rows at a time"),
    Flag(
      "text_column",
      None,
      optional(text()),
      "column of the documents in .csv and .tsv files",
      shown_default="the run's",
    ),
    Flag(
      "label",
      None,
      optional(text()),
      "conditional models: the label of all files, a name or a number",
      shown_default="that of each row in an .npz",
    ),
    Flag(
      "mask",
      None,
      optional(text()),
      "what was seen of each image: upper, lower, left, right, or an .npy file of 1 and 0; bounds are of these pixels",
      shown_default="everything",
    ),
    *step_flags(),
  ]


def _prepare(given: Given) -> Given:
  suffix = Path(given.output).suffix
  if suffix not in _FORMATS:
    raise UserError(f"--output must end in {', '.join(_FORMATS)}; received {given.output}")
  if suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
    raise UserError(
      "--output as .parquet needs pyarrow: pip install 'tf_savae[parquet]'; or name an .npz or .csv file"
    )
  if bool(given.arguments) == bool(given.split):
    received = f"both --split={given.split} and {given.arguments[0]}" if given.split else "neither"
    raise UserError(f"name files to encode, or a --split of the run's data; received {received}")
  if given.label is not None and given.split:
    raise UserError(
      f"--label is for files; the examples of --split={given.split} have their own; leave it out"
    )
  for name in ("num", "data_dir"):
    if name in given.typed and not given.split:
      raise UserError(f"--{name} is for a --split; received files")
  return given


def _work(given: Given) -> None:
  startup.import_tensorflow()
  from tf_savae.serving import encoding

  names = ("split", "num", "eval_k", "seed", "batch_size", "data_dir", "text_column", "label", "mask")
  settings = {name: getattr(given, name) for name in names}
  encoded = encoding.encode(given.run_dir, given.arguments, **settings, steps=changed_steps(given))
  encoding.write(encoded, given.output)
  print(f"{len(encoded['name'])} rows, {', '.join(encoded)}: written to {given.output}")


COMMAND = Command(
  "encode",
  """Posteriors of files, offline. Writes λ_0 and λ_K of each row, with the ELBO at both, to one file.

  Files are PNG or JPEG pictures, folders or zips of them; text files with one document per line; .csv or .tsv files
  with a column of documents; .npy or .npz arrays of what the model was trained on. A row's numbers are those that an
  export of the run with the same --seed would answer, and do not depend on the other rows.""",
  _flags,
  _work,
  prepare=_prepare,
  usage="--run_dir=RUN --output=latents.npz [--name=value ...] FILES",
  takes_arguments=True,
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
