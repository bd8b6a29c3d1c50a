"""Processes that do tasks side by side, and survive each other. No TensorFlow in the process that starts them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import connection
from typing import Any

_PATIENCE = 60.0  # seconds that a worker has for saving what it does


class Worker:
  """A process that calls `function(task)` for one task after the other.

  Args:
    function: importable by name; raises nothing but KeyboardInterrupt for a task that goes wrong.
    start: called once in the new process, before the first task.
  """

  def __init__(self, function: Callable[[Any], None], start: Callable[[], None]):
    context = multiprocessing.get_context("spawn")
    self._pipe, theirs = context.Pipe()
    self.process = context.Process(target=_serve, args=(theirs, function, start), daemon=True)
    self.process.start()
    theirs.close()
    self.task: Any = None
    self.num_done = 0

  def give(self, task: Any) -> None:
    """Begins with a task. Only an idle worker may be given one."""
    self.task = task
    with contextlib.suppress(BrokenPipeError):  # it died: `wait` will tell
      self._pipe.send(task)

  def take(self) -> tuple[Any, str | None]:
    """The task that is over, and what went wrong; makes the worker idle. `wait` must have returned it."""
    try:
      problem = self._pipe.recv()
    except (EOFError, OSError):
      self.process.join()
      problem = f"its process ended with exit code {self.process.exitcode}"
    task, self.task = self.task, None
    self.num_done += 1
    return task, problem

  @property
  def is_alive(self) -> bool:
    return self.process.is_alive()

  def stop(self) -> None:
    """Asks it to save and end, without waiting; an idle one just ends."""
    if self.process.is_alive():
      self.process.terminate()

  def join(self) -> None:
    """Waits for its end, and makes sure of it."""
    self.process.join(_PATIENCE)
    if self.process.is_alive():
      self.process.kill()
      self.process.join()
    self._pipe.close()


def wait(workers: list[Worker]) -> list[Worker]:
  """Those whose task is over, at least one; all given must have a task."""
  ready = connection.wait([worker._pipe for worker in workers])
  return [worker for worker in workers if worker._pipe in ready]


@contextlib.contextmanager
def stopping(workers: list[Worker]) -> Iterator[None]:
  """Within it, SIGTERM is a KeyboardInterrupt; after it, no worker of the list is left, and each has saved its task."""

  def interrupt(*_):
    raise KeyboardInterrupt

  is_main = threading.current_thread() is threading.main_thread()
  before = signal.signal(signal.SIGTERM, interrupt) if is_main else None
  try:
    yield
  finally:
    if is_main:
      signal.signal(signal.SIGTERM, before)
    for worker in workers:
      worker.stop()
    for worker in workers:
      worker.join()


def _serve(pipe, function, start):
  """What a worker's process does."""
  # Ctrl-C reaches all processes of a terminal's group, and two signals would end a run before it has saved.
  os.setsid()
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  threading.Thread(target=_end_with_parent, daemon=True).start()
  with contextlib.suppress(KeyboardInterrupt):
    start()
    while True:
      try:
        task = pipe.recv()
      except EOFError:
        return
      problem = None
      try:
        function(task)
      except Exception as error:
        traceback.print_exc()
        problem = f"{type(error).__name__}: {error}"
      pipe.send(problem)


def _end_with_parent():
  """An orderly stop where the process that waits for the tasks was killed: the next one needs the same directories."""
  multiprocessing.parent_process().join()
  os.kill(os.getpid(), signal.SIGTERM)
