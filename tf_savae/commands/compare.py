"""Markdown tables of finished runs: `python -m tf_savae compare runs/*`. Reads files only: no TensorFlow."""

from __future__ import annotations

import sys

from tf_savae.commands.flags import Command, Given
from tf_savae.errors import UserError
from tf_savae.evaluation import comparison


def _prepare(given: Given) -> Given:
  if not given.arguments:
    raise UserError("RUN_DIR is needed: directories of finished runs; received none; see --help")
  return given


COMMAND = Command(
  "compare",
  "Tables of the results of finished runs. With several, also the differences to the first, paired by example.",
  flags=list,
  work=lambda given: print(comparison.report(given.arguments)),
  prepare=_prepare,
  usage="RUN_DIR [RUN_DIR ...]",
  takes_arguments=True,
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
