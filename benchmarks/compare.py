"""Our training step and the same in PyTorch, measured in turn:

    python -m benchmarks.compare --workload=image --k=5 --rounds=3 --torch_python=torch_env/bin/python
    python -m benchmarks.compare --all --torch_python=torch_env/bin/python

The first prints a table and writes JSON; the second makes benchmarks/RESULTS.md, which takes hours. Results are cached
in --folder, one file per round, so an interrupted comparison is resumed; to measure everything again, use another
folder. `benchmarks/programs.py` says how further variants are written, such as
--programs="ours ours:precision=mixed_bfloat16 hvp hvp:lstm=loop".
"""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import subprocess
import sys

from absl import app, flags

from benchmarks import processes, results_page, rounds, tables, work, workloads
from benchmarks.programs import DEFAULT, Program, Setting
from tf_savae.errors import UserError

_WORKLOAD = flags.DEFINE_enum("workload", "image", list(workloads.WORKLOADS), "which model")
_K = flags.DEFINE_integer("k", 5, "SVI steps", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch", None, "examples per step (default: the workload's own)", lower_bound=1)
_TOKENS = flags.DEFINE_integer("tokens", 80, "text: tokens of every document", lower_bound=2)
_THREADS = flags.DEFINE_integer("threads", 1, "threads within an operation", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "how often each program is run", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 3, "timed steps of a run", lower_bound=1)
_CORES = flags.DEFINE_list("cores", ["0"], "processors on which every program runs, such as 0 or 0,1")
_PROGRAMS = flags.DEFINE_string(
  "programs",
  None,
  "what is compared, separated by spaces; the first is what ratios are against (default: ours and the peers; --all: "
  "our variants, too)",
)
_GRADIENTS = flags.DEFINE_bool(
  "gradients", True, "measure the errors of gradients, too, which takes float64 runs"
)
_PYTHON = flags.DEFINE_string("torch_python", sys.executable, "interpreter that has PyTorch")
_FOLDER = flags.DEFINE_string("folder", "runs/benchmarks", "of the cached results")
_JSON = flags.DEFINE_string("json", None, "where the table goes as JSON (default: in --folder)")
_MAX_GB = flags.DEFINE_float(
  "max_gb", None, "memory above which a program is ended (default: 80 % of the machine's)", lower_bound=0.1
)
_MAX_SECONDS = flags.DEFINE_float("max_seconds", 1800.0, "the same for time", lower_bound=1.0)
_ALL = flags.DEFINE_bool("all", False, "all workloads, over K and batches, and the page of results")
_ONLY = flags.DEFINE_multi_enum(
  "only", list(workloads.WORKLOADS), list(workloads.WORKLOADS), "--all: workloads"
)
_PAGE = flags.DEFINE_string("page", "benchmarks/RESULTS.md", "--all: where the page goes")


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  try:
    (compare_all if _ALL.value else compare)()
  except UserError as error:
    sys.exit(f"error: {error}")


def compare() -> None:
  """One setting."""
  bench, programs = _bench(), _programs(DEFAULT)
  batch = _BATCH.value or workloads.WORKLOADS[_WORKLOAD.value].batch
  setting = Setting(_WORKLOAD.value, _K.value, batch, _THREADS.value, _TOKENS.value)
  rows = measure(bench, setting, programs, _ROUNDS.value, _GRADIENTS.value)
  peaks = bench.peak(_THREADS.value)
  print(f"\n{tables.table(rows, tables.peak_of(setting.workload, peaks))}", flush=True)
  path = pathlib.Path(_JSON.value or bench.folder / f"{setting.name}.json")
  summary = {"machine": _machine(), "peak_gflops": peaks, "setting": vars(setting)}
  rounds.write(path, {**summary, "rows": [row.as_dict() for row in rows]})
  print(f"\n{path}")


def compare_all() -> None:
  """The page of results."""
  bench, programs = _bench(), _programs(results_page.PROGRAMS)
  common = {"threads": _THREADS.value, "tokens": _TOKENS.value}
  main_settings, by_workload = [], {}
  for workload in dict.fromkeys(_ONLY.value):
    batch = workloads.WORKLOADS[workload].batch
    main_settings += [Setting(workload, k, batch, **common) for k in results_page.MAIN[workload]]
    by_workload[workload] = results_page.curves(batch, workload, **common)
  rows = {}
  for setting in main_settings:
    gradients = _GRADIENTS.value and setting.k == results_page.GRADIENTS_AT[setting.workload]
    at = results_page.programs_at(setting, programs)
    rows[setting] = measure(bench, setting, at, _ROUNDS.value, gradients)
  for settings in by_workload.values():
    for setting in (s for curve in settings for s in curve if s not in rows):
      rows[setting] = measure(bench, setting, results_page.programs_at(setting, programs, True), 1, False)
  page = pathlib.Path(_PAGE.value)
  results_page.write(page, rows, main_settings, by_workload, _machine(), bench.peak(_THREADS.value))
  rounds.write(
    page.with_suffix(".json"),
    {"machine": _machine(), "rows": {s.name: [row.as_dict() for row in of] for s, of in rows.items()}},
  )
  print(page)


def measure(
  bench: rounds.Bench, setting: Setting, programs: list[Program], num_rounds: int, gradients: bool
) -> list[tables.Row]:
  """One row per program, from as many rounds."""
  found = [bench.round(setting, index, programs) for index in range(num_rounds)]
  errors = bench.gradient_errors(setting, programs) if gradients else {}
  config = workloads.config_of(setting.workload, setting.batch)

  def of_program(program):
    return work.decoder_pass(config, setting.tokens, program.ours)

  return tables.rows_of(programs, found, errors, setting.k, of_program)


def _bench():
  cores = _cores()
  gb = _MAX_GB.value or 0.8 * processes.machine()["memory_gb"]
  return rounds.Bench(
    pathlib.Path(_FOLDER.value),
    cores,
    _PYTHON.value,
    _STEPS.value,
    max_rss_mb=1024 * gb,
    max_seconds=_MAX_SECONDS.value,
    say=lambda line: print(line, file=sys.stderr, flush=True),
  )


def _cores():
  there = os.sched_getaffinity(0)
  if not all(core.isdigit() and int(core) in there for core in _CORES.value):
    names = ",".join(map(str, sorted(there)))
    raise UserError(f"--cores must be some of {names}; received {','.join(_CORES.value)}")
  return tuple(map(int, _CORES.value))


def _programs(default):
  programs = results_page.programs_of(default if _PROGRAMS.value is None else _PROGRAMS.value.split())
  if not programs:
    raise UserError(f"--programs needs at least one of {', '.join(DEFAULT)}; received none")
  return programs


def _machine():
  versions = {"tensorflow": importlib.metadata.version("tensorflow")}
  command = [_PYTHON.value, "-c", "import importlib.metadata as m; print(m.version('torch'))"]
  answer = subprocess.run(command, capture_output=True, text=True, check=False)
  if answer.returncode == 0:
    versions["torch"] = answer.stdout.strip()
  return {**processes.machine(), **versions, "used": ",".join(_CORES.value)}


if __name__ == "__main__":
  sys.path.insert(0, os.getcwd())
  app.run(main)
