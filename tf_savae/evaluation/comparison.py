"""Markdown tables of finished runs, side by side.

The first table has the test-set figures, one row per run in the order given; for text with perplexities, and with the
names of systems as in the paper. The second has differences to the first run, paired by example. Their standard errors
are much smaller than those of the figures, because what makes an example hard for all models cancels. This reads files
only and does not need TensorFlow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tf_savae.errors import UserError
from tf_savae.evaluation import per_example, tables


def read(run_dir: str) -> dict[str, Any]:
  """results.json of a finished run, with the run's name as `run`. Raises UserError if there is none."""
  path = Path(run_dir) / "results.json"
  try:
    return json.loads(path.read_text(encoding="utf-8")) | {"run": path.absolute().parent.name}
  except OSError as error:
    raise UserError(
      f"no finished run: cannot read {path}; received {run_dir!r}; let its training end"
    ) from error
  except (ValueError, TypeError) as error:
    raise UserError(f"{path} is damaged ({error}); write it anew with --eval_only") from error


def paired(run_dirs: Sequence[str], results: Sequence[dict[str, Any]]) -> str:
  """The table of differences to the first run, with a line of explanation for each run that cannot be compared."""
  first, *others = (per_example.load(Path(run_dir) / per_example.TEST_FILE) for run_dir in run_dirs)
  names = (tables.systems if tables.has_perplexity(results[0]) else tables.methods)(results)
  if first is None:
    return f"No paired differences: {run_dirs[0]} has no {per_example.TEST_FILE}; --eval_only writes it."
  rows, notes = {}, []
  for i, values in enumerate(others, start=1):
    if values is None:
      notes.append(f"{run_dirs[i]} has no {per_example.TEST_FILE}; --eval_only writes it.")
    elif not np.array_equal(values["digest"], first["digest"]):
      notes.append(f"{run_dirs[i]} was evaluated on other examples than {run_dirs[0]}.")
    else:
      rows[i] = values
  if not rows:
    return "\n".join(["No paired differences:", *notes])
  title = (
    f"Difference to {names[0]}, paired over {len(first['digest'])} test examples, ± standard error;"
    " negative is better:"
  )
  differences = tables.paired_table([names[i] for i in rows], list(rows.values()), first)
  return "\n".join([title, "", differences, *(["", *notes] if notes else [])])


def report(run_dirs: Sequence[str]) -> str:
  """All tables of the finished runs in `run_dirs`. Raises UserError if a directory holds no finished run."""
  results = [read(run_dir) for run_dir in run_dirs]
  runs = [result["run"] for result in results]
  if len(set(runs)) < len(runs):  # directories of equal names
    results = [result | {"run": str(run_dir)} for result, run_dir in zip(results, run_dirs, strict=True)]
  parts = [tables.table(results)]
  if len(run_dirs) > 1:
    parts.append(paired(run_dirs, results))
  return "\n\n".join(parts)
