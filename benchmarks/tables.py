"""Summaries of rounds: medians, ranges, ratios of pairs, and their table in Markdown."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.programs import Program

Result = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Row:
  """A program at a setting.

  Attributes:
    program: which.
    seconds: median over the rounds of a step's seconds, and their smallest and largest; None: it failed.
    ratio: median over the rounds of (its seconds / the first program's), and smallest and largest; above 1: it is
      slower than the first.
    peak_rss_mb: the largest.
    gradient: relative error by group; None: unknown.
    passes_per_second: decoder passes (U) per second; None: unknown.
    gflops: arithmetic of the decoder passes, 1e9 operations per second.
    failed: why there are no figures.
  """

  program: Program
  seconds: tuple[float, float, float] | None = None
  ratio: tuple[float, float, float] | None = None
  peak_rss_mb: int | None = None
  gradient: Mapping[str, float] | None = None
  passes_per_second: float | None = None
  gflops: float | None = None
  failed: str = ""

  def as_dict(self) -> dict[str, Any]:
    """For JSON."""
    return {**dataclasses.asdict(self), "program": self.program.name}


def rows_of(
  programs: Sequence[Program],
  rounds: Sequence[Mapping[str, Result]],
  gradients: Mapping[str, Result],
  k: int,
  work: Callable[[Program], float],
) -> list[Row]:
  """One row per program.

  Args:
    programs: in the order of the table; the first is what ratios are against.
    rounds: results by program's name.
    gradients: errors by program's name; may lack some.
    k: SVI steps.
    work: operations of one decoder pass of a program.
  """
  rows = []
  for program in programs:
    gradient = gradients.get(program.name)
    if gradient is not None and "failed" in gradient:
      gradient = None
    results = [found[program.name] for found in rounds]
    good = [result for result in results if "failed" not in result]
    if not good:
      rows.append(Row(program, gradient=gradient, failed=results[0]["failed"] if results else "not run"))
      continue
    seconds = [result["step_seconds"] for result in good]
    ratios = [
      found[program.name]["step_seconds"] / found[programs[0].name]["step_seconds"]
      for found in rounds
      if "failed" not in found[program.name] and "failed" not in found[programs[0].name]
    ]
    passes = program.passes(k)
    rate = None if passes is None else passes / statistics.median(seconds)
    rows.append(
      Row(
        program,
        seconds=_spread(seconds),
        ratio=_spread(ratios) if ratios else None,
        peak_rss_mb=max(result["peak_rss_mb"] for result in good),
        gradient=gradient,
        passes_per_second=rate,
        gflops=None if rate is None else rate * work(program) / 1e9,
      )
    )
  return rows


def _spread(values):
  return statistics.median(values), min(values), max(values)


def peak_of(workload: str, peaks: Mapping[str, float]) -> float | None:
  """GFLOP/s that the workload's kind of work reaches at most, in float32."""
  return peaks.get("convolution_float32" if workload == "image" else "gemm_float32")


def table(rows: Sequence[Row], peak: float | None = None) -> str:
  """In Markdown.

  Args:
    rows: the first is what ratios are against.
    peak: of the machine, GFLOP/s; None: unknown.
  """
  head = [
    "program",
    "s per step: median (min–max)",
    f"time against {rows[0].program.name}",
    "peak RSS, MB",
    "gradient error: all",
    "λ_0",
    "decoder, 2nd order",
    "U/s",
    "of peak",
  ]
  lines = [head, ["---", *["---:"] * (len(head) - 1)]]
  for row in rows:
    errors = row.gradient or {}
    of_groups = [_error(errors.get(group)) for group in ("all", "lambda_0", "decoder_second_order")]
    if row.seconds is None:
      lines.append([row.program.title, f"failed: {row.failed}", "–", "–", *of_groups, "–", "–"])
      continue
    fraction = "–" if row.gflops is None or not peak else f"{row.gflops / peak:.0%}"
    lines.append(
      [
        row.program.title,
        _range(row.seconds, "{:.3g}"),
        "–" if row.ratio is None else _range(row.ratio, "{:.2f}"),
        f"{row.peak_rss_mb:,}",
        *of_groups,
        "–" if row.passes_per_second is None else f"{row.passes_per_second:.3g}",
        fraction,
      ]
    )
  return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _range(values, form):
  median, low, high = map(form.format, values)
  return f"{median} ({low}–{high})"


def _error(value):
  return "–" if value is None else f"{value:.1e}"
