"""A Markdown table of finished runs: `python -m tf_savae.evaluation.compare runs/*`.

Test-set figures in nats per example, a row a run, in the order given. Reads results.json only: no TensorFlow.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tf_savae.errors import UserError

_HEAD = (
  "method",
  "K",
  "bound at λ_0",
  "bound at λ_K",
  "KL at λ_0",
  "KL at λ_K",
  "−log p(x)",
  "updates",
  "minutes",
)


def table(results: Sequence[dict[str, Any]]) -> str:
  """The table, and a line a data set that says where the data came from.

  Args:
    results: contents of results.json. "−log p(x)" is importance-sampled, ± its standard error over examples.
  """
  rows = [_HEAD, tuple("---" for _ in _HEAD), *(_row(result) for result in results)]
  lines = [f"| {' | '.join(row)} |" for row in rows]
  notes = dict.fromkeys(_note(result) for result in results)
  return "\n".join([*lines, "", *notes])


def _row(result: dict[str, Any]) -> tuple[str, ...]:
  test = result["test"]
  has_latent = "active_units" in test
  error = test.get("nll_iw_se")
  return (
    f"`{result['model']}`",
    str(result["eval_k"]) if has_latent else "–",
    _number(test.get("nll_bound_initial")),
    _number(test["nll_bound"]) if has_latent else "–",
    _number(test.get("kl_initial")),
    _number(test["kl"]) if has_latent else "–",
    f"{test['nll_iw']:.2f}" + (f" ± {error:.2f}" if error is not None else ""),
    str(result["steps"]),
    f"{result['seconds'] / 60:.1f}",
  )


def _number(value: float | None) -> str:
  return "–" if value is None else f"{value:.2f}"


def _note(result: dict[str, Any]) -> str:
  samples = max(result["test"].get("iw_samples", 1), 1)
  stand_in = ", A STAND-IN" if result.get("is_stand_in") else ""
  settings = f"preset {result['preset']}, seed {result['seed']}, {samples} importance samples"
  return f"{result['dataset_source']}{stand_in}; {settings}."


def read(run_dir: str) -> dict[str, Any]:
  """results.json of a finished run. Raises UserError where there is none."""
  path = Path(run_dir) / "results.json"
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except OSError as error:
    raise UserError(
      f"no finished run: cannot read {path}; received {run_dir!r}; let its training end"
    ) from error
  except ValueError as error:
    raise UserError(f"{path} is damaged ({error}); write it anew with --eval_only") from error


def main(argv: Sequence[str]) -> int:
  """Prints the table of the run directories `argv`; returns the exit status."""
  if not argv:
    print("usage: python -m tf_savae.evaluation.compare RUN_DIR [RUN_DIR ...]", file=sys.stderr)
    return 2
  try:
    print(table([read(run_dir) for run_dir in argv]))
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
