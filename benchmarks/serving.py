"""Rows per second of an exported model: `python -m benchmarks.serving --export=models/savae/1`.

A Markdown table of encode and of every encode_refined, for several batch sizes, measured as TensorFlow Serving would
run them: by the C++ session, in a process without Python's TensorFlow, on one core (`--core`) with one thread. A figure
is the median of as many calls as fit into `--seconds`, three at least, after one that is not counted. Only ratios of
figures that were measured in one go mean much: absolute ones move with the machine.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from tf_savae import startup
from tf_savae.commands.flags import Command, Flag, Given
from tf_savae.errors import UserError
from tf_savae.runs.options import each_once, number, path, whole, whole_list
from tf_savae.serving import c_loader


def rows(key: str, shape: tuple[int | None, ...], export: Path, batch: int, words: int) -> np.ndarray:
  """A batch of made-up inputs: drawings of a fifth ink, or sentences of `words` words."""
  rng = np.random.default_rng(0)
  if key == "sentence":
    known = (export / "assets" / "vocabulary.txt").read_text(encoding="utf-8").split()[4:]
    return np.array([" ".join(rng.choice(known, words)).encode() for _ in range(batch)], object)
  return (rng.random([batch, *shape[1:]]) < 0.2).astype(np.float32)


def seconds_a_call(session: c_loader.Isolated, feeds: dict, fetches: list[str], seconds: float) -> float:
  """Median time of `session.run`."""
  session.run(feeds, fetches)
  times: list[float] = []
  while len(times) < 3 or sum(times) < seconds:
    start = time.perf_counter()
    session.run(feeds, fetches)
    times.append(time.perf_counter() - start)
  return statistics.median(times)


def _flags() -> list[Flag]:
  return [
    Flag("export", None, path(), "version directory", is_needed=True),
    Flag("batches", (1, 8, 64), each_once(whole_list(1)), "rows per call"),
    Flag("words", 20, whole(1), "text: words of every sentence"),
    Flag("seconds", 5.0, number(0), "that a figure is measured for"),
    Flag("core", 0, whole(0), "number of the core"),
  ]


def _work(given: Given) -> None:
  export, batches = Path(given.export), given.batches
  startup.import_tensorflow()
  from tf_savae.serving import gate

  meta_graph = gate.read_meta_graph(export)
  interfaces = gate.interfaces(meta_graph)
  refined = [name for name in interfaces if name.removeprefix("encode_refined_").isdigit()]
  refined.sort(key=lambda name: int(name.rpartition("_")[2]))
  names = [n for n in ("encode", *(refined or ["encode_refined"])) if n in interfaces]
  if not names:
    raise UserError(f"--export={export} has neither encode nor encode_refined: its model has no latent")
  if not hasattr(os, "sched_setaffinity") or given.core not in os.sched_getaffinity(0):
    raise UserError(f"--core={given.core} is none that this process may run on; name another --core")
  os.sched_setaffinity(0, {given.core})  # the session's process inherits it; this one waits meanwhile
  print(f"| rows/s | {' | '.join(f'batch {batch}' for batch in batches)} |")
  print("| --- |" + " --- |" * len(batches), flush=True)
  with c_loader.Isolated(export, threads=1) as session:
    for name in names:
      [(key, tensor)] = interfaces[name].inputs.items()
      info = meta_graph.signature_def[name].inputs[key]
      shape = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
      figures = []
      for batch in batches:
        feeds = {tensor: rows(key, shape, export, batch, given.words)}
        taken = seconds_a_call(session, feeds, list(interfaces[name].outputs.values()), given.seconds)
        figures.append(f"{batch / taken:.3g}" if batch / taken < 100 else f"{batch / taken:.0f}")
      print(f"| `{name}` | {' | '.join(figures)} |", flush=True)


COMMAND = Command(
  "serving",
  "Rows per second of encode and of every encode_refined of an exported version, on one core.",
  _flags,
  _work,
  usage="--export=models/savae/1 [--name=value ...]",
  program="python -m benchmarks.serving",
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
