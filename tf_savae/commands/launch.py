"""Starts a run as several workers on this machine: python -m tf_savae launch --workers=2 -- --dataset=omniglot."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tf_savae.commands.flags import Command, Flag, Given
from tf_savae.errors import UserError, reason
from tf_savae.runs.options import path, whole

_PATIENCE = 20.0  # seconds between a request to end and a kill
_GPUS = "CUDA_VISIBLE_DEVICES"


@dataclasses.dataclass(frozen=True)
class Prepared:
  """What is started, how often, and where the output goes."""

  workers: int
  words: tuple[str, ...]
  logs: Path


def prepare(given: Given) -> Prepared:
  """Checks the command line. Raises UserError."""
  words = tuple(given.arguments)
  if not words:
    raise UserError(
      "launch needs the settings of a run behind --; received none; for example"
      " python -m tf_savae launch --workers=2 -- --dataset=omniglot"
    )
  return Prepared(
    given.workers, words if not words[0].startswith("-") else ("train", *words), Path(given.logs)
  )


def work(prepared: Prepared) -> None:
  """Starts the workers, and ends all of them when one fails.

  Raises:
    UserError: a worker failed; the text has its last words.
    KeyboardInterrupt: the run was asked to stop.
  """
  try:
    prepared.logs.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f"cannot make --logs={prepared.logs}: {reason(error)}; name another directory") from error
  files = [prepared.logs / f"worker-{i}.log" for i in range(prepared.workers)]
  addresses = [f"127.0.0.1:{port}" for port in free_ports(prepared.workers)]
  asked: list[int] = []
  before = {
    number: signal.signal(number, lambda n, _: asked.append(n)) for number in (signal.SIGINT, signal.SIGTERM)
  }
  workers: list[subprocess.Popen] = []
  try:
    for i, file in enumerate(files):
      workers.append(_start(prepared.words, addresses, i, file))
    print(f"{len(workers)} workers; their output is in {prepared.logs}/worker-*.log", flush=True)
    _watch(workers, files, asked)
  finally:
    _end(workers)
    for number, handler in before.items():
      signal.signal(number, handler)


def _start(words: Sequence[str], addresses: Sequence[str], index: int, file: Path) -> subprocess.Popen:
  cluster = {"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": index}}
  environment = {**os.environ, "TF_CONFIG": json.dumps(cluster)}
  gpus = [gpu for gpu in os.environ.get(_GPUS, "").split(",") if gpu]
  if len(gpus) >= len(addresses):  # each has its own part of them
    environment[_GPUS] = ",".join(gpus[index :: len(addresses)])
  with open(file, "w", encoding="utf-8") as log:
    return subprocess.Popen(
      [sys.executable, "-m", "tf_savae", *words],
      env=environment,
      stdout=log,
      stderr=subprocess.STDOUT,
      start_new_session=True,  # so that Ctrl-C reaches them through this process alone
    )


def _watch(workers: Sequence[subprocess.Popen], files: Sequence[Path], asked: list[int]) -> None:
  """Returns when all workers are done, copying the chief's output; passes signals on to the chief."""
  sent = 0
  with open(files[0], encoding="utf-8", errors="replace") as chief:
    while True:
      codes = [worker.poll() for worker in workers]
      print(chief.read(), end="", flush=True)
      while sent < len(asked):
        workers[0].send_signal(asked[sent])
        sent += 1
      if asked and codes[0] is not None:
        raise KeyboardInterrupt(_last_line(files[0]))
      failed = [i for i, code in enumerate(codes) if code]
      if failed:
        time.sleep(1.0)  # one failure makes others: the first one to be killed has the reason
        raise UserError(_why(workers, files, failed))
      if all(code == 0 for code in codes):
        return
      time.sleep(0.2)


def _why(workers: Sequence[subprocess.Popen], files: Sequence[Path], failed: Sequence[int]) -> str:
  killed = [i for i in failed if workers[i].returncode < 0]
  i = (killed or failed)[0]
  code = workers[i].returncode
  end = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
  return (
    f"worker {i} {end}: {_last_line(files[i])}; all of its output is in {files[i]}; the others were ended"
  )


def _last_line(file: Path) -> str:
  lines = [line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
  wrong = [line for line in lines if line.startswith("error:")]
  return (wrong or [line for line in lines if line] or ["no output"])[-1].removeprefix("error:").strip()


def _end(workers: Sequence[subprocess.Popen]) -> None:
  """Ends those workers that are still there."""
  for worker in workers:
    if worker.poll() is None:
      worker.terminate()
  end = time.monotonic() + _PATIENCE
  for worker in workers:
    try:
      worker.wait(max(0.1, end - time.monotonic()))
    except subprocess.TimeoutExpired:
      worker.kill()
      worker.wait()


def free_ports(number: int) -> list[int]:
  """Ports that nothing listens at."""
  sockets = [socket.socket() for _ in range(number)]
  try:
    for each in sockets:
      each.bind(("127.0.0.1", 0))
    return [each.getsockname()[1] for each in sockets]
  finally:
    for each in sockets:
      each.close()


COMMAND = Command(
  "launch",
  "Starts a run as several workers on this machine. What follows -- is the command line of each worker, of train"
  " unless it begins with the name of a command. TF_CONFIG is set for them. The first one is the chief, whose output is"
  " shown. When one fails, the others are ended. Signals go to the chief, which saves.",
  flags=lambda: [
    Flag("workers", 2, whole(1), "processes that train together"),
    Flag("logs", "launch-logs", path(), "directory of the workers' output"),
  ],
  work=work,
  prepare=prepare,
  usage="[--workers=N] -- [COMMAND] [--name=value ...]",
  takes_arguments=True,
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
