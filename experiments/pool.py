"""Does tasks with worker processes until none is open. No TensorFlow in the process that starts them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments import workers

TASKS_OF_A_WORKER = 15  # TensorFlow keeps some 100 MB of what it compiled for each


def carry_out(
  open_tasks: Callable[[], Sequence[Any]],
  num_workers: int,
  work: Callable[[Any], None],
  start: Callable[[], None],
  after: Callable[[Any, str | None], bool],
  tasks_of_a_worker: int | None = None,
) -> dict[Any, str | None]:
  """Gives open tasks to workers, in order, until none is left.

  Args:
    open_tasks: the tasks that can be done now. It is asked again after each task, for one may open others.
    num_workers: processes.
    work, start: what they do with a task, and before the first one; both importable by name.
    after: called with each task that is over and what went wrong, if anything did. It returns whether the task is done.
    tasks_of_a_worker: tasks after which a worker is replaced; default: `TASKS_OF_A_WORKER`.

  Returns:
    The tasks that could not be done, and why.

  Raises:
    KeyboardInterrupt: Ctrl-C or SIGTERM. Each worker has saved its task.
  """
  most = tasks_of_a_worker or TASKS_OF_A_WORKER
  broken: dict[Any, str | None] = {}
  pool: list[workers.Worker] = []
  with workers.stopping(pool):
    while True:
      running = [worker.task for worker in pool if worker.task is not None]
      tasks = [task for task in open_tasks() if task not in running and task not in broken]
      for task in tasks[: num_workers - len(running)]:
        idle = next((worker for worker in pool if worker.task is None), None)
        if idle is None:
          idle = workers.Worker(work, start)
          pool.append(idle)
        idle.give(task)
      busy = [worker for worker in pool if worker.task is not None]
      if not busy:
        return broken
      for worker in workers.wait(busy):
        task, problem = worker.take()
        if not after(task, problem):
          broken[task] = problem
        if not worker.is_alive or worker.num_done >= most:
          worker.stop()
          worker.join()
          pool.remove(worker)


def prepare(out: Path) -> None:
  """Makes a worker's process ready: TensorFlow with one thread, for there are other workers.

  What it prints goes to workers.log: the terminal shows what is done.
  """
  log = os.open(out / "workers.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
  for stream in (sys.stdout, sys.stderr):
    stream.flush()
    os.dup2(log, stream.fileno())
  os.close(log)
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  from tf_savae import startup

  startup.import_tensorflow()
  import tensorflow as tf

  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
