"""The page of results: tables, figures and the machine they were measured on."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import charts, tables
from benchmarks.programs import Program, Setting
from benchmarks.tables import Row

# K at the workload's own batch, and batches at one K.
STEPS = (1, 5, 10, 20, 40)
BATCHES = {"image": (5, 10, 20), "text": (2, 4, 8), "synthetic": (10, 50, 200)}
# What is compared, and what curves are drawn of, where they are among the programs.
PROGRAMS = (
  "ours",
  "ours:adjoint=stored",
  "ours:precision=bfloat16_adjoint",
  "ours:precision=mixed_bfloat16",
  "ours:adjoint=stored,precision=mixed_bfloat16",
  "finite_difference",
  "finite_difference:compile",
  "unrolled",
  "hvp",
)
OF_CURVES = ("ours", "ours:adjoint=stored", "finite_difference")
K_OF_BATCHES = {"image": 5, "text": 5, "synthetic": 20}
# Those of the tables, with all rounds; the others, of the curves, have one.
MAIN = {"image": (5, 10, 20), "text": (5, 20), "synthetic": (20,)}
# Programs left out: their step takes minutes, or more memory than most machines have.
LEFT_OUT = {
  ("image", 10): ("hvp",),
  ("image", 20): ("unrolled", "hvp"),
  ("image", 40): ("ours:adjoint=stored",),
  ("text", 20): ("unrolled", "hvp"),
  ("text", 40): ("finite_difference",),
}
GRADIENTS_AT = {"image": 5, "text": 5, "synthetic": 20}

_INTRODUCTION = """# Speed of a training step

Made by `python -m benchmarks.compare --all`; `benchmarks/compare.py` says how, [NOTES.md](NOTES.md) on which cores
these figures were taken and what they mean.

{machine}

A step is all of it: encoder, K refinement steps, gradients, clipping, optimiser. Every program runs in a process of its
own on the same cores, in turn (A B C A B C), and only ratios within a round count: absolute times move with the
machine. Peers are our own, in plain PyTorch ([benchmarks/peers](peers)); `python -m benchmarks.check_peers` shows that
they compute our gradients. A gradient error is ‖g − g64‖ / ‖g64‖, g64 from float64 at the same point with clipping off;
"decoder, 2nd order" is relative to that part of the gradient alone. U is one forward pass of the decoder; the share of
the peak is the arithmetic of a step's passes over its time, over the machine's float32 peak of what the workload does
most; a pass of ours over images has 0.55 of the peers' arithmetic, for its wide convolutions are products of spectra.
"compile" is torch.compile, which works for first derivatives only. Peaks measured: {peaks}.
"""


def curves(batch: int, workload: str, **common: Any) -> tuple[list[Setting], list[Setting]]:
  """The settings of a workload's curves: over K at its own batch, and over batches."""
  over_k = [Setting(workload, k, batch, **common) for k in STEPS]
  return over_k, [Setting(workload, K_OF_BATCHES[workload], b, **common) for b in BATCHES[workload]]


def write(
  path: pathlib.Path,
  rows: Mapping[Setting, Sequence[Row]],
  main: Sequence[Setting],
  by_workload: Mapping[str, tuple[Sequence[Setting], Sequence[Setting]]],
  machine: Mapping[str, Any],
  peaks: Mapping[str, float],
) -> None:
  """Writes the page and, in a folder of its name in lower case, its figures.

  Args:
    path: of the page, Markdown.
    rows: of all settings.
    main: those with a table.
    by_workload: settings of the curves over K and over batches.
    machine: what figures depend on.
    peaks: of the machine, GFLOP/s.
  """
  folder = path.with_suffix("").with_name(path.stem.lower())
  folder.mkdir(parents=True, exist_ok=True)

  def figure(name: str, alternative: str) -> str:
    return f"![{alternative}]({folder.name}/{name}.png)"

  charts.bars(folder / "ratios.png", {_short(setting): rows[setting] for setting in main})
  parts = [
    _INTRODUCTION.format(machine=_machine(machine), peaks=_peaks(peaks)).rstrip(),
    figure("ratios", "time of a step against ours"),
  ]
  for workload, (over_k, over_batch) in by_workload.items():
    parts.append(f"## {workload.capitalize()}")
    for setting in (s for s in main if s.workload == workload):
      parts.append(f"{_long(setting)}:\n\n{tables.table(rows[setting], tables.peak_of(workload, peaks))}")
    for name, settings, axis, value, label in (
      ("memory_k", over_k, "k", lambda r: r.peak_rss_mb, "peak resident memory, MB"),
      ("time_k", over_k, "k", lambda r: r.seconds[0], "seconds per step"),
      ("time_batch", over_batch, "batch", lambda r: r.seconds[0], "seconds per step"),
    ):
      series = _series(rows, settings, axis, value)
      x_label = "K, refinement steps" if axis == "k" else "examples per step"
      charts.lines(folder / f"{workload}_{name}.png", series, x_label=x_label, y_label=label)
      parts.append(figure(f"{workload}_{name}", f"{workload}: {label} against {x_label}"))
  path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _series(rows, settings, axis, value):
  series: dict[str, dict[float, float]] = {}
  for setting in settings:
    for row in rows[setting]:
      points = series.setdefault(row.program.title, {})
      if row.seconds is not None:
        points[getattr(setting, axis)] = value(row)
  return series


def programs_at(setting: Setting, programs: Sequence[Program], of_curve: bool = False) -> list[Program]:
  """Those that are run at a setting of a table, or at one of a curve alone."""
  left_out = LEFT_OUT.get((setting.workload, setting.k), ())
  if of_curve:
    programs = [program for program in programs if program.name in OF_CURVES] or programs
  return [program for program in programs if not {program.name, program.algorithm} & set(left_out)]


def programs_of(names: Sequence[str]) -> list[Program]:
  """Parsed, each once. Raises UserError for a name that is no program."""
  return [Program.parse(name) for name in dict.fromkeys(names)]


def _short(setting):
  return f"{setting.workload}, K={setting.k}"


def _long(setting):
  tokens = f" of {setting.tokens} tokens" if setting.workload == "text" else ""
  return f"K = {setting.k}, batch {setting.batch}{tokens}, {setting.threads} thread(s)"


def _machine(machine):
  versions = [f"{name} {machine[name]}" for name in ("tensorflow", "torch", "python") if name in machine]
  return (
    f"Machine: {machine['processor']} (family/model {machine['family_model']}), {machine['cores']} cores,"
    f" {machine['memory_gb']} GB; {machine['flags']}. Versions: {', '.join(versions)}. Cores used: {machine['used']}."
  )


def _peaks(peaks):
  if not peaks:
    return "products and convolutions (not measured)"
  return ", ".join(f"{name.replace('_', ' ')} {value:.0f} GFLOP/s" for name, value in peaks.items())
