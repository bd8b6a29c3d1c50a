"""A run directory belongs to one configuration and one process, and no write leaves half a file."""

import dataclasses
import json
import os
import signal
import time

import numpy as np
import pytest

from tf_savae.errors import UserError
from tf_savae.runs.directory import RunDirectory, RunStatus, open_run
from tf_savae.runs.presets import make_config


@pytest.fixture
def config(tmp_path):
  return make_config(preset="tiny", run_dir=str(tmp_path / "deep" / "run"))


def message_of(function, *args, **kwargs):
  with pytest.raises(UserError) as caught:
    function(*args, **kwargs)
  assert "\n" not in str(caught.value)
  return str(caught.value)


def test_a_run_is_new_then_resumable_then_finished(config):
  assert RunDirectory(config.run_dir).status is RunStatus.NEW
  with open_run(config) as run:
    assert run.read_config() == config
    assert run.status is RunStatus.RESUMABLE
    run.write_results({"steps": 3}, training_finished=False)
    assert run.status is RunStatus.RESUMABLE
    run.write_results({"steps": 5}, training_finished=True)
    assert run.status is RunStatus.FINISHED


def test_a_finished_run_is_not_trained_again_and_the_message_says_what_to_do(config):
  with open_run(config) as run:
    run.write_results({}, training_finished=True)
  message = message_of(open_run, config)
  assert "finished" in message
  assert "--eval_only" in message
  with open_run(dataclasses.replace(config, eval_only=True, eval_k=50)) as run:
    run.write_results({"eval_k": 50})
    assert run.is_finished
    assert run.read_results()["eval_k"] == 50
    assert run.read_config() == config


def test_evaluation_needs_a_run_and_makes_no_directory(config):
  message = message_of(open_run, dataclasses.replace(config, eval_only=True))
  assert config.run_dir in message
  assert not os.path.exists(config.run_dir)


def test_a_changed_configuration_is_refused_with_the_difference_named(config):
  open_run(config).close()
  message = message_of(open_run, dataclasses.replace(config, k=10))
  assert "--k was 20 in this run directory, received 10" in message
  assert "another --run_dir" in message
  with open_run(config) as run:
    assert run.read_config() == config


def test_a_run_can_be_extended_and_remembers_it(config):
  open_run(config).close()
  longer = dataclasses.replace(config, epochs=config.epochs + 5)
  open_run(longer).close()
  assert "may only grow" in message_of(open_run, config)
  open_run(longer).close()


def test_other_data_than_the_run_began_with_is_refused(config):
  with open_run(config) as run:
    run.check_data({"is_stand_in": True, "train": 300})
  with open_run(config) as run:
    run.check_data({"train": 300, "is_stand_in": True})
    message = message_of(run.check_data, {"is_stand_in": False, "train": 5000})
    assert "is_stand_in was True, now False" in message
    assert run.read_config() == config


def test_what_an_earlier_version_did_not_store_of_the_data_is_not_compared(config):
  with open_run(config) as run:
    run.check_data({"train": 300})
  with open_run(config) as run:
    run.check_data({"train": 300, "image_shape": [28, 28, 1]})
    assert "train was 300, now None" in message_of(run.check_data, {"image_shape": [28, 28, 1]})


def test_only_one_process_at_a_time(config):
  with open_run(config):
    message = message_of(open_run, config)
    assert "in use by another process" in message
    assert str(os.getpid()) in message
  open_run(config).close()


def test_the_lock_of_a_killed_process_is_free(config):
  ready, done = os.pipe()
  child = os.fork()
  if child == 0:
    run = open_run(config)
    os.write(done, b"x")
    time.sleep(60)
    run.close()
    os._exit(0)
  os.read(ready, 1)
  message_of(open_run, config)
  os.kill(child, signal.SIGKILL)
  os.waitpid(child, 0)
  open_run(config).close()


@pytest.mark.parametrize("where", ["file", "file/below", "/proc/cannot/be/made"])
def test_a_place_that_cannot_be_a_run_directory_is_named(config, tmp_path, where):
  (tmp_path / "file").write_text("mine")
  message = message_of(open_run, dataclasses.replace(config, run_dir=os.path.join(tmp_path, where)))
  assert where in message
  assert "--run_dir" in message
  assert (tmp_path / "file").read_text() == "mine"


def test_a_directory_without_permission_to_write_is_named(config, tmp_path):
  tmp_path.chmod(0o500)
  superuser = os.geteuid() == 0  # who may write everywhere, so becomes nobody for a moment
  if superuser:
    os.seteuid(65534)
  try:
    assert "Permission denied" in message_of(open_run, config)
  finally:
    if superuser:
      os.seteuid(0)
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"k": -3}', '{"name": "my web site"}', "\x00\xff"])
def test_a_config_that_is_not_ours_is_refused_and_left_alone(config, content):
  os.makedirs(config.run_dir)
  path = os.path.join(config.run_dir, "config.json")
  with open(path, "w", encoding="latin-1") as file:
    file.write(content)
  assert "config.json" in message_of(open_run, config)
  with open(path, encoding="latin-1") as file:
    assert file.read() == content


def test_checkpoints_without_a_config_are_not_taken_for_a_new_run(config):
  os.makedirs(os.path.join(config.run_dir, "checkpoints"))
  assert "without its config.json" in message_of(open_run, config)


def test_metrics_gain_columns_and_lose_the_rows_that_are_done_again(config):
  with open_run(config) as run:
    assert run.read_metrics() == []
    assert not run.has_progress
    run.append_metrics({"step": 10, "bound": 0.1 + 0.2})
    run.append_metrics({"step": 20, "bound": np.float32(1 / 3), "kl": float("nan")})
    assert run.has_progress
    rows = run.read_metrics()
    assert float(rows[0]["bound"]) == 0.1 + 0.2
    assert np.float32(rows[1]["bound"]) == np.float32(1 / 3)
    assert [row["kl"] for row in rows] == ["", "nan"]
    run.drop_metrics_after(10)
    assert [row["step"] for row in run.read_metrics()] == ["10"]
    run.append_metrics({"step": 20, "bound": 5.0})
    run.append_metrics({"step": 20, "bound": 6.0})
    assert [row["bound"] for row in run.read_metrics()] == [repr(0.1 + 0.2), "6.0"]
    assert run.metrics_file.read_text().splitlines()[0] == "step,bound,kl"


@pytest.mark.parametrize("content", ["step,bound\nten,3\n", "step,bound\n1,2,3,4\n", "bound\n3\n"])
def test_damaged_metrics_are_an_error_and_not_overwritten(config, content):
  with open_run(config) as run:
    run.metrics_file.write_text(content)
    assert "metrics.csv" in message_of(run.append_metrics, {"step": 1})
    assert run.metrics_file.read_text() == content


def test_results_are_json_that_any_reader_takes(config):
  with open_run(config) as run:
    run.write_results({"test": {"nll": np.float32(1.5), "bad": float("inf"), "n": np.int64(3), "λ": [1, 2]}})
    values = json.loads(run.results_file.read_text(), parse_constant=lambda name: pytest.fail(name))
  assert values["test"] == {"nll": 1.5, "bad": None, "n": 3, "λ": [1, 2]}
  assert values["training_finished"] is False


def test_a_run_that_never_saved_anything_forgets_its_words_too(config):
  with open_run(config) as run:
    run.vocabulary_file.write_text("words")
    run.forget_unused()
    assert not run.vocabulary_file.exists()
    assert run.status is RunStatus.NEW
    run.checkpoints.mkdir()
    (run.checkpoints / "ckpt-0.index").touch()
    run.vocabulary_file.write_text("words")
    run.forget_unused()
    assert run.vocabulary_file.exists()


def test_a_run_that_never_began_leaves_no_directory(config):
  with open_run(config) as run:
    run.forget_unused()
    assert run.path.is_dir()
  assert not run.path.exists()
  run.path.mkdir()  # not made by the run
  with open_run(config) as run:
    run.forget_unused()
  assert run.path.is_dir()


def test_a_file_of_the_users_stays(config):
  with open_run(config) as run:
    (run.path / "notes.txt").touch()
    run.forget_unused()
  assert (run.path / "notes.txt").exists()


@pytest.mark.parametrize("file", ["news.txt", "news.txt.gz", "news", "/some/where/news.txt"])
def test_results_on_another_file_have_a_file_of_their_own(config, file):
  with open_run(config) as run:
    run.write_results({"steps": 3}, training_finished=True)
    path = run.write_results_of(file, {"steps": 4})
    assert path == run.path / "results-news.json"
    assert json.loads(path.read_text()) == {"steps": 4}
    assert run.read_results()["steps"] == 3
