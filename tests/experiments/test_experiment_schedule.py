"""Workers do the tasks of the synthetic table, survive each other, and leave nothing half done."""

import collections
import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from experiments import report, rows, schedule, synthetic, trials, workers
from experiments.trials import FIRST_READING, Trial
from tests.experiments import fabricated
from tests.experiments.fabricated import small_plan
from tf_savae import data as data_lib
from tf_savae.errors import UserError
from tf_savae.evaluation import per_example


def carry_out(out, plan):
  schedule.run(out, plan, 2, fabricated.pretend, fabricated.prepare)
  done = (out / "done.txt").read_text().splitlines()
  (out / "done.txt").unlink()
  return done


def wait_for(path, seconds=20.0):
  end = time.monotonic() + seconds
  while not path.exists():
    assert time.monotonic() < end, f"no {path}"
    time.sleep(0.02)


def test_all_tasks_are_done_a_dead_worker_is_a_failed_trial_and_nothing_is_done_twice(tmp_path, capsys):
  plan = small_plan("vae-sgd", oracle_seeds=1, seeds=2)
  done = carry_out(tmp_path, plan)
  assert len(done) == plan.total() == 1 + 2 * (3 + 2)
  assert f"{plan.total()}/{plan.total()} " in capsys.readouterr().out
  dead = Trial("vae-sgd", 1, "oracle")
  assert "exit code 3" in trials.failure(tmp_path, dead)
  assert trials.bound(tmp_path, Trial("vae-sgd", 2, "oracle", seed=1), "test") == 20.0
  assert "FAILED" in report.write(tmp_path, plan)

  again = carry_out(tmp_path, plan)  # of what there is, only what failed is tried again
  assert len(again) == 2 and all("candidate=1" in line for line in again)


def test_workers_are_renewed_after_some_tasks(tmp_path, monkeypatch):
  monkeypatch.setattr(schedule, "_TASKS_OF_A_WORKER", 2)
  done = carry_out(tmp_path, small_plan("train-k0", "ablation-paper", oracle_seeds=1, seeds=1))
  by_process = collections.Counter(line.split()[0] for line in done)
  assert sum(by_process.values()) > 2 and max(by_process.values()) == 2


def test_a_task_that_leaves_nothing_is_told_at_the_end(tmp_path):
  plan = small_plan("ablation-paper", oracle_seeds=1, seeds=1)
  (tmp_path / "runs").write_text("a file where directories should be")
  with pytest.raises(UserError, match=r"ablation-paper\.c0\..* test could not be done: NotADirectoryError"):
    schedule.run(tmp_path, plan, 1, fabricated.pretend, fabricated.prepare)
  assert trials.truth_file(tmp_path, FIRST_READING, 0).exists()


def test_workers_that_are_stopped_save_first(tmp_path):
  pool = [workers.Worker(fabricated.work, fabricated.start)]
  with pytest.raises(KeyboardInterrupt), workers.stopping(pool):
    pool[0].give(str(tmp_path / "task"))
    wait_for(tmp_path / "task")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
  assert (tmp_path / "task.saved").exists()
  assert not pool[0].is_alive


def test_workers_end_with_the_process_that_started_them(tmp_path):
  program = (
    "import sys, time; sys.path.insert(0, '.')\n"
    "from tests.experiments import fabricated\n"
    "from experiments import workers\n"
    "if __name__ == '__main__':\n"
    "  worker = workers.Worker(fabricated.work, fabricated.start)\n"
    f"  worker.give({str(tmp_path / 'task')!r})\n"
    "  time.sleep(120)\n"
  )
  (tmp_path / "program.py").write_text(program)
  with subprocess.Popen(
    [sys.executable, tmp_path / "program.py"], env={**os.environ, "PYTHONPATH": "."}
  ) as one:
    wait_for(tmp_path / "task", seconds=90)  # two processes import TensorFlow
    one.kill()
  wait_for(tmp_path / "task.saved")


def test_a_table_goes_on_with_its_own_settings_only(tmp_path, monkeypatch):
  plan = small_plan("vae-adam", seeds=2)
  schedule.check_settings(tmp_path, plan)
  schedule.check_settings(tmp_path, dataclasses.replace(plan, seeds=3))  # more is fine
  with pytest.raises(
    UserError, match="begun with --seeds=3, which may only grow; received 2; use another --out"
  ):
    schedule.check_settings(tmp_path, plan)
  plan = small_plan("vae-adam", "savae-repaired", seeds=3)
  schedule.check_settings(tmp_path, plan)
  with pytest.raises(UserError, match="begun with --budget=full; received tiny"):
    schedule.check_settings(tmp_path, small_plan("vae-adam", seeds=3, budget="tiny"))

  changed = dataclasses.replace(
    rows.get("vae-adam"), settings={**rows.get("vae-adam").settings, "svi_lr": 0.7}
  )
  others = tuple(row for row in rows.ROWS if row.key != "vae-adam")
  monkeypatch.setattr(rows, "ROWS", (changed, *others))
  plan = small_plan("vae-adam", "savae-repaired", seeds=3)
  trained = trials.run_dir(tmp_path, Trial("savae-repaired", 0, "oracle"))
  trained.mkdir(parents=True)
  (trained / "config.json").touch()  # began from what would now be another run
  with pytest.raises(UserError, match="other settings of row savae-repaired; use another --out, or remove"):
    schedule.check_settings(tmp_path, plan)
  (trained / "config.json").unlink()
  schedule.check_settings(tmp_path, plan)  # nothing was trained with the old ones

  monkeypatch.setattr(rows, "ROWS", (rows.ROWS[1], *rows.ROWS))
  trained = trials.run_dir(tmp_path, Trial("vae-adam", 0, "oracle"))
  trained.mkdir(parents=True)
  (trained / "config.json").touch()
  monkeypatch.undo()
  with pytest.raises(UserError, match=r"row vae-adam: svi_lr was 0\.7, now None"):
    schedule.check_settings(tmp_path, small_plan("vae-adam", seeds=3))


@pytest.mark.parametrize(
  ("flags", "status", "line"),
  [
    (["--budget=big"], 2, "error: --budget must be one of full, small, tiny; received big"),
    (["--workers=0"], 2, "error: --workers must be a whole number, from 1 to 8; received 0"),
    (["--only=vae"], 1, "error: unknown row vae; the rows are vae-sgd"),
    (["--out={file}"], 1, "is a file, not a directory; name another --out"),
  ],
)
def test_a_wrong_flag_is_one_line(flags, status, line, tmp_path, capsys):
  (tmp_path / "file").touch()
  flags = [flag.format(file=tmp_path / "file") for flag in flags]
  assert synthetic.main(["synthetic", f"--out={tmp_path}", *flags]) == status
  err = capsys.readouterr().err
  assert line in err and err.count("\n") == 1


def test_two_commands_do_not_share_a_directory(tmp_path, capsys):
  with synthetic.RunDirectory(tmp_path) as held:
    held.lock()
    assert synthetic.main(["synthetic", f"--out={tmp_path}"]) == 1
  assert f"--out={tmp_path} is in use by another process" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_command_on_one_row(tmp_path, capsys):
  command = ["synthetic", f"--out={tmp_path}", "--budget=tiny", "--only=ablation-paper", "--workers=1"]
  assert synthetic.main(command) == 0
  text = capsys.readouterr().out
  assert "2/2 " in text and "| SA-VAE K=20, as in the paper, α = 0.02 | " in text and "FAILED" not in text
  assert (tmp_path / "table.md").exists() and (tmp_path / "figures").is_dir()
  trial = Trial("ablation-paper", 0, "oracle")
  assert any((trials.run_dir(tmp_path, trial) / "tensorboard").rglob("*tfevents*"))

  # The truth is the likelihood of the oracle, here by averaging over the prior, and no Gaussian beats the best.
  truth = per_example.load(trials.truth_file(tmp_path, FIRST_READING, 0))
  data = data_lib.load("synthetic", data_dir="unused", seed=0, data_seed=0, oracle=FIRST_READING)
  x, draws = next(iter(data.eval_batches("test", 20))), 1000
  z = tf.random.stateless_normal([20 * draws, 2], [0, 1])
  log_prob = tf.reshape(data.oracle.log_prob(tf.repeat(x, draws, axis=0), z), [20, draws])
  simple = np.log(draws) - tf.reduce_logsumexp(log_prob, axis=1)
  assert np.mean(truth["nll"]) == pytest.approx(np.mean(simple), abs=0.2)
  assert np.all(truth["best_bound"] > truth["nll"] - truth["step_error"])
  assert np.mean(trials.values(tmp_path, trial, "test")["bound"][:20]) > np.mean(truth["best_bound"])
