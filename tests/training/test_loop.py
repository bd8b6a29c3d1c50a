"""A run ends where it would have ended, whatever happens to it in between."""

import contextlib
import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess

import numpy as np
import pytest

import train
from tests.training.runs import (
  EXAMPLES,
  CompiledOnce,
  Died,
  Outcome,
  assert_same_outcome,
  command_line,
  dying,
  read_rows,
  recorded_updates,
  steps_saved,
  tensors,
  tiny_config,
)
from tf_savae.data import omniglot
from tf_savae.errors import UserError
from tf_savae.evaluation import bounds
from tf_savae.runs import checkpoints
from tf_savae.runs.checkpoints import TrainingProgress
from tf_savae.runs.directory import RunDirectory, open_run
from tf_savae.training import loop
from tf_savae.training.keeping import RunKeeper
from tf_savae.training.stopping import Interrupted

UPDATES = 12  # three epochs of four


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
  with pytest.MonkeyPatch.context() as patch:
    yield CompiledOnce(patch)


def config(directory, **changes):
  """SA-VAE with trained step sizes and all schedules, bits that repeat; so steep that validation does not improve."""
  settings = {
    "deterministic": True,
    "learn_svi_lr": "step",
    "beta_warmup_epochs": 1.0,
    "k_warmup_epochs": 2.0,
    "learning_rate": 0.7,
    "lr_patience": 1,
    "epochs": 3,
    "checkpoint_every": 3,
    "bound_samples": 1,  # as many as validation takes after an epoch
  }
  return tiny_config(directory, **{**settings, **changes})


def run(settings):
  return loop.run(settings)


def die(settings, function, call, **kwargs):
  """Runs until it dies there."""
  with dying(function, call, **kwargs), pytest.raises(Died):
    run(settings)


def one_line(caught) -> str:
  message = str(caught.value)
  assert message
  assert "\n" not in message
  return message


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
  """The outcome of a run that nothing happened to, and its directory."""
  directory = tmp_path_factory.mktemp("uninterrupted") / "run"
  with recorded_updates() as steps:
    run(config(directory))
  assert steps == list(range(1, UPDATES + 1))
  outcome = Outcome.of(directory)
  assert outcome.last["progress/lr_decays/.ATTRIBUTES/VARIABLE_VALUE"] > 0  # or it would prove less
  return outcome, directory


@pytest.mark.slow
def test_an_uninterrupted_run_leaves_what_its_directory_promises(uninterrupted):
  outcome, directory = uninterrupted
  assert [(row["epoch"], row["step"]) for row in outcome.rows] == [("0", "4"), ("1", "8"), ("2", "12")]
  assert (outcome.results["steps"], outcome.results["epochs"], outcome.results["examples"]) == (
    12,
    3,
    3 * EXAMPLES,
  )
  assert outcome.results["training_finished"]
  best = int(np.argmin([float(row["val_bound"]) for row in outcome.rows]))
  assert outcome.results["best_epoch"] == best + 1
  assert steps_saved(directory) == [9, 12]
  # The final evaluation is that of the best epoch: same weights, same noise as its validation.
  assert outcome.results["valid"]["nll_bound"] == pytest.approx(
    float(outcome.rows[best]["val_bound"]), rel=1e-4
  )
  assert list((directory / "tensorboard").rglob("*tfevents*"))


@pytest.mark.slow
def test_the_learning_rate_halves_when_patience_ends(uninterrupted):
  rate, best, stale = 0.7, float("inf"), 0
  for row in uninterrupted[0].rows:
    assert float(row["learning_rate"]) == pytest.approx(rate)
    stale = 0 if float(row["val_bound"]) < best else stale + 1
    best = min(best, float(row["val_bound"]))
    if stale == 1:
      rate, stale = rate / 2, 0
  last = uninterrupted[0].last
  assert last["optimizer/_learning_rate/.ATTRIBUTES/VARIABLE_VALUE"] == pytest.approx(rate)
  assert rate < 0.7


@pytest.mark.slow
def test_two_uninterrupted_runs_are_bit_identical(uninterrupted, tmp_path):
  run(config(tmp_path / "run"))
  assert_same_outcome(uninterrupted[0], Outcome.of(tmp_path / "run"))


CHAINS = {
  "in training": [
    ("on_train_batch_end", 1, {}),  # after update 1: only the first checkpoint is there
    ("on_train_batch_end", 2, {"after": True}),
    ("on_train_batch_end", 3, {"after": True}),  # update 3 is just saved
    ("on_train_batch_begin", 2, {}),  # update 4 is saved, validated, and its epoch over
    ("on_train_batch_end", 3, {}),
    ("on_train_batch_end", 4, {}),
  ],
  "in validation": [
    ("on_test_begin", 1, {}),  # before update 4 is saved
    ("on_test_begin", 1, {"after": True}),
    ("on_test_batch_end", 2, {}),
    ("on_epoch_end", 1, {}),
    ("save_best", 1, {"after": True, "owner": checkpoints.Checkpoints}),
    ("append_metrics", 1, {"after": True, "owner": RunDirectory}),  # the row, but no checkpoint of it
    ("on_epoch_end", 1, {"after": True}),
    ("on_test_begin", 1, {"after": True}),
    ("append_metrics", 1, {"owner": RunDirectory}),
    ("on_epoch_begin", 2, {}),
  ],
  "at the end": [
    ("on_test_begin", 3, {"after": True}),
    ("restore_best", 1, {"owner": checkpoints.Checkpoints}),
    ("__call__", 2, {"owner": bounds.Evaluator}),
    ("write_results", 1, {"owner": RunDirectory}),
  ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINS)
def test_a_run_that_dies_again_and_again_ends_where_the_uninterrupted_one_does(name, uninterrupted, tmp_path):
  settings = config(tmp_path / "run")
  with recorded_updates() as steps:
    for function, call, how in CHAINS[name]:
      die(settings, function, call, **how)
      assert not (tmp_path / "run" / "results.json").exists()
    run(settings)
  assert_same_outcome(uninterrupted[0], Outcome.of(tmp_path / "run"))
  # An update that is done twice is one whose effect was lost.
  for before, now in zip([0, *steps[:-1]], steps, strict=True):
    assert now <= before + 1
  assert sorted(set(steps)) == list(range(1, UPDATES + 1))


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_costs_a_warning_and_some_updates(uninterrupted, tmp_path, capfd):
  settings = config(tmp_path / "run")
  die(settings, "on_train_batch_end", 9, after=True)
  assert steps_saved(tmp_path / "run") == [8, 9]
  data = tmp_path / "run" / "checkpoints" / "ckpt-9.data-00000-of-00001"
  data.write_bytes(data.read_bytes()[:-100])
  capfd.readouterr()
  run(settings)
  out, err = capfd.readouterr()
  warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
  assert len(warnings) == 1
  assert "ckpt-9 is damaged" in warnings[0]
  assert f"resumed at update 8 of {UPDATES}" in out
  assert_same_outcome(uninterrupted[0], Outcome.of(tmp_path / "run"))


@pytest.mark.slow
def test_restoring_alone_is_bit_for_bit(uninterrupted, tmp_path, compiled_once):
  settings = config(tmp_path / "run")
  die(settings, "on_train_batch_end", 6, after=True)
  saved = tensors(tmp_path / "run")
  data = compiled_once.load("synthetic", data_dir="", seed=0, download=False, strict=False, data_seed=0)
  with open_run(settings) as directory:
    model = compiled_once.build_model(settings, data)
    new = RunKeeper.of(settings, directory, model, 4)
    assert new.restore() == 6
    new.on_epoch_begin(1)  # where the metrics come back
    new.checkpoints.save(6)
  again = tensors(tmp_path / "run")
  assert saved.keys() == again.keys()
  assert any("optimizer" in key for key in saved)
  assert any("metrics" in key for key in saved)
  for key, value in saved.items():
    np.testing.assert_array_equal(again[key], value, err_msg=key)
  assert int(model.step.value) == 6
  assert float(model.optimizer.learning_rate) == saved["optimizer/_learning_rate/.ATTRIBUTES/VARIABLE_VALUE"]


@pytest.mark.slow
def test_ctrl_c_and_sigterm_save_at_once_and_lose_nothing(uninterrupted, tmp_path):
  settings = config(tmp_path / "run")

  def stop(number, function, call, owner=RunKeeper):
    def send():
      os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with dying(function, call, owner=owner, by=send), pytest.raises(Interrupted) as caught:
      run(settings)
    assert caught.value.signal == number
    assert signal.getsignal(number) is before
    return one_line(caught)

  assert stop(signal.SIGINT, "on_train_batch_end", 2).startswith(
    "update 2 is saved, and the same command goes on"
  )
  assert steps_saved(tmp_path / "run") == [0, 2]
  assert "update 4 is saved" in stop(signal.SIGTERM, "on_test_batch_end", 2)
  assert "update 8 is saved" in stop(signal.SIGINT, "on_test_begin", 2)
  assert "update 12 is saved" in stop(signal.SIGTERM, "_estimates", 1, owner=bounds)
  assert not (tmp_path / "run" / "results.json").exists()
  run(settings)
  assert_same_outcome(uninterrupted[0], Outcome.of(tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_train_py_says_in_one_line_that_it_was_stopped(number, status, tmp_path, capfd):
  with dying("on_train_batch_end", 2, by=lambda: os.kill(os.getpid(), number)):
    assert train.main(command_line(config(tmp_path / "run"))) == status
  out, err = capfd.readouterr()
  assert err == "interrupted: update 2 is saved, and the same command goes on from there\n"
  assert out.startswith("train savae on synthetic, K = 2, preset tiny")


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait(tmp_path):
  def twice():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    signal.getsignal(signal.SIGINT)  # Python runs the handlers between two instructions

  with dying("on_train_batch_begin", 2, by=twice), pytest.raises(KeyboardInterrupt) as caught:
    run(config(tmp_path / "run"))
  assert not isinstance(caught.value, Interrupted)


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again_and_evaluating_it_repeats_its_numbers(uninterrupted, capsys):
  outcome, directory = uninterrupted
  settings = config(directory)
  files = {
    path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file() and path.name != ".lock"
  }
  for changed in (settings, dataclasses.replace(settings, epochs=5)):
    with pytest.raises(UserError, match="is finished; evaluate it with --eval_only") as caught:
      run(changed)
    one_line(caught)
  with pytest.raises(UserError, match=r"--learning_rate was 0\.7 in this run directory, received 0\.1"):
    run(dataclasses.replace(settings, learning_rate=0.1))
  run(dataclasses.replace(settings, eval_only=True))
  assert_same_outcome(outcome, Outcome.of(directory))
  for path, time in files.items():
    assert path.name in ("results.json", "test_examples.npz") or path.stat().st_mtime_ns == time
  assert "bound at λ_2" in capsys.readouterr().out


@pytest.mark.slow
def test_evaluating_a_run_that_was_never_trained_says_so(tmp_path):
  settings = config(tmp_path / "run")
  die(settings, "on_train_batch_end", 1)
  with pytest.raises(UserError, match="holds no trained weights yet") as caught:
    run(dataclasses.replace(settings, eval_only=True))
  one_line(caught)


@pytest.mark.slow
def test_an_unfinished_run_goes_on_to_a_later_end(uninterrupted, tmp_path):
  settings = config(tmp_path / "run", max_steps=6, lr_patience=0)
  die(settings, "write_results", 1, owner=RunDirectory)
  assert [(row["epoch"], row["step"]) for row in read_rows(tmp_path / "run")] == [("0", "4"), ("1", "6")]
  results = run(dataclasses.replace(settings, eval_only=True))
  assert (results["steps"], results["epochs"], results["examples"]) == (6, 1, 6 * EXAMPLES // 4)
  run(dataclasses.replace(settings, max_steps=0))
  rows = read_rows(tmp_path / "run")
  assert [(row["epoch"], row["step"]) for row in rows] == [("0", "4"), ("1", "6"), ("1", "8"), ("2", "12")]
  whole = config(tmp_path / "whole", lr_patience=0)
  run(whole)
  weights, others = tensors(tmp_path / "run"), tensors(tmp_path / "whole")
  for key in weights:
    if key.startswith(("model", "optimizer")):
      np.testing.assert_array_equal(weights[key], others[key], err_msg=key)
  assert rows[-1]["val_bound"] == read_rows(tmp_path / "whole")[-1]["val_bound"]


@pytest.mark.slow
def test_training_stops_when_patience_ends_and_a_resumed_run_knows_it(tmp_path):
  settings = config(tmp_path / "run", early_stop_patience=1, lr_patience=0, epochs=50)
  with recorded_updates() as steps:
    die(settings, "write_results", 1, owner=RunDirectory)
  assert steps[-1] < 200
  with recorded_updates() as more:
    results = run(settings)
  assert more == []
  bounds_seen = [float(row["val_bound"]) for row in read_rows(tmp_path / "run")]
  assert len(bounds_seen) == results["epochs"] == len(steps) // 4
  assert results["best_epoch"] == len(bounds_seen) - 1
  assert bounds_seen[-1] >= min(bounds_seen[:-1])
  assert bounds_seen[:-1] == sorted(bounds_seen[:-1], reverse=True)


@pytest.mark.slow
def test_a_learning_rate_that_explodes_stops_the_run_with_its_last_good_weights(tmp_path):
  settings = config(tmp_path / "run", learning_rate=1e30, max_nonfinite=5, checkpoint_every=1)
  for _ in range(2):  # the same command again has the same end
    with pytest.raises(UserError, match="not finite in 5 updates in a row") as caught:
      run(settings)
    assert "--learning_rate=1e+30" in one_line(caught)
    assert not (tmp_path / "run" / "results.json").exists()
    saved = tensors(tmp_path / "run")
    assert all(np.all(np.isfinite(saved[key])) for key in saved if key.startswith(("model", "optimizer")))
    assert saved["progress/skipped_updates/.ATTRIBUTES/VARIABLE_VALUE"] >= 5


@pytest.mark.slow
def test_single_updates_that_are_not_finite_are_skipped_and_counted(tmp_path, compiled_once):
  settings = config(tmp_path / "run", learning_rate=0.01)

  def spoil():
    """A NaN among the weights, taken back after the update."""
    model = compiled_once.build_model.__self__._models[next(iter(compiled_once._models))][0]
    weight = model.trainable_variables[0]
    kept.append((weight, weight.numpy()))
    weight.assign(weight * np.nan)

  def mend():
    weight, value = kept.pop()
    weight.assign(value)

  kept = []
  with dying("on_train_batch_begin", 3, by=spoil), dying("on_train_batch_end", 3, by=mend):
    results = run(settings)
  assert results["skipped_updates"] == 1
  assert results["steps"] == UPDATES
  assert np.isfinite(results["test"]["nll_bound"])


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_one_line_and_room_lets_it_go_on(uninterrupted, tmp_path):
  disk = tmp_path / "disk"
  disk.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
  if subprocess.run(mount, capture_output=True, check=False).returncode:
    pytest.skip("no permission to mount a small disk")
  try:
    settings = config(disk / "run")

    def fill():
      with open(disk / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
          file.write(b"x" * 4096)

    with dying("on_train_batch_end", 5, by=fill), pytest.raises(UserError, match="No space left") as caught:
      run(settings)
    assert "make room and start the same command again" in one_line(caught)
    assert steps_saved(disk / "run")[-1] == 4
    (disk / "filler").unlink()
    run(settings)
    assert_same_outcome(uninterrupted[0], Outcome.of(disk / "run"))
  finally:
    subprocess.run(["umount", "--lazy", str(disk)], check=True)  # a process that ends may still hold a file


@pytest.mark.slow
def test_a_disk_without_room_for_the_first_files_shows_at_once(tmp_path):
  # A limit on the size of files that this process writes: needs no rights.
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
  try:
    with (
      recorded_updates() as steps,
      pytest.raises(UserError, match=r"cannot write .*(oracle\.npz|ckpt-0)") as caught,
    ):
      run(config(tmp_path / "run"))
    one_line(caught)
    assert steps == []
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
def test_other_data_or_a_directory_in_use_are_refused(tmp_path):
  settings = config(tmp_path / "run")
  die(settings, "on_train_batch_end", 2)
  with open_run(settings), pytest.raises(UserError, match="in use by another process") as caught:
    run(settings)
  one_line(caught)
  file = tmp_path / "run" / "config.json"
  stored = json.loads(file.read_text())
  stored["data_facts"]["train"] -= 1
  file.write_text(json.dumps(stored))
  with pytest.raises(UserError, match="data set changed since this run began: train was 399") as caught:
    run(settings)
  one_line(caught)


@pytest.mark.slow
def test_a_run_on_the_stand_in_does_not_go_on_with_the_real_data(tmp_path):
  folder = tmp_path / "data" / "omniglot"
  settings = tiny_config(tmp_path / "run", "omniglot", data_dir=str(tmp_path / "data"), model="autoreg")
  die(settings, "restore", 1, after=True)
  folder.mkdir(parents=True)
  shutil.copy(omniglot.STAND_IN, folder / "chardata.mat")
  with pytest.raises(UserError, match="is_stand_in was True, now False") as caught:
    run(settings)
  one_line(caught)


def test_progress_counts_the_validation_of_a_new_run_as_done():
  progress = TrainingProgress()
  assert int(progress.validated_step) == int(progress.step) == 0
