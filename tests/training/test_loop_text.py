"""Runs on documents: from a folder of files to results, again after a kill, and on other files."""

import dataclasses
import gzip
import json
import math
import random

import numpy as np
import pytest
import tensorflow as tf

from tests.training.runs import (
  CompiledOnce,
  Died,
  Outcome,
  assert_same_outcome,
  dying,
  read_rows,
  recorded_updates,
  tensors,
  tiny_config,
)
from tf_savae.commands import train
from tf_savae.data.vocabulary import Vocabulary
from tf_savae.errors import UserError
from tf_savae.runs.directory import RunDirectory, RunStatus
from tf_savae.training import loop
from tf_savae.training.stopping import Stopping

SIZES = {"train": 30, "val": 8, "test": 6}
PER_EPOCH = 3


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
  with pytest.MonkeyPatch.context() as patch:
    yield CompiledOnce(patch)


WORDS = ("the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree")


def document(rng):
  """One to twelve words, so that batches are 8 or 16 tokens long."""
  return " ".join(rng.choices([*WORDS, "_UNK"], k=rng.randint(1, 12)))


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
  """A data_dir with a folder yahoo."""
  folder = tmp_path_factory.mktemp("data") / "yahoo"
  folder.mkdir()
  rng = random.Random(0)
  for split, size in SIZES.items():
    (folder / f"{split}.txt").write_text("".join(f"{document(rng)}\n" for _ in range(size)))
  return folder.parent


def config(directory, documents, **changes):
  """SA-VAE with LSTMs, K = 1, three updates per epoch."""
  settings = {
    **{"k": 1, "batch_size": 10, "eval_batch_size": 4, "epochs": 3, "checkpoint_every": 2},
    **{"hidden_dim": 4, "embedding_dim": 3, "conv_channels": 3, "iw_samples": 2, "max_length": 12},
    **{"data_dir": str(documents), "dropout": 0.2},
  }
  return tiny_config(directory, "yahoo", **{**settings, **changes})


def one_line(caught):
  message = str(caught.value)
  assert message
  assert "\n" not in message
  return message


@pytest.fixture(scope="module")
def finished(documents, tmp_path_factory):
  """The directory of a finished run, and what it left."""
  directory = tmp_path_factory.mktemp("finished") / "run"
  loop.run(config(directory, documents))
  return directory, Outcome.of(directory)


@pytest.mark.slow
def test_a_run_goes_from_a_folder_of_files_to_perplexities(finished, documents):
  directory, outcome = finished
  results = outcome.results
  assert (results["dataset"], results["is_stand_in"]) == ("yahoo", False)
  assert (results["steps"], results["epochs"], results["examples"]) == (3 * PER_EPOCH, 3, 3 * SIZES["train"])
  assert (results["decoder"], results["word_dropout"], results["stopped_by"]) == ("lstm", 0.0, "epochs")
  assert "init_from" not in results
  for split, name in (("valid", "val"), ("test", "test")):
    values = results[split]
    texts = (documents / "yahoo" / f"{name}.txt").read_text().splitlines()
    tokens = sum(len(text.split()) + 1 for text in texts)
    assert values["tokens"] == tokens
    for nats, perplexity in (("nll_bound", "ppl_bound"), ("nll_iw", "ppl_iw")):
      assert values[perplexity] == pytest.approx(math.exp(values[nats] * len(texts) / tokens), rel=1e-5)
  best = outcome.rows[results["best_epoch"] - 1]
  assert results["valid"]["nll_bound"] == pytest.approx(float(best["val_bound"]), rel=1e-4)
  words = Vocabulary.load(directory / "vocabulary.txt").words
  assert set(words[4:]) == set(WORDS)
  assert not (directory / "overview.png").exists()


@pytest.mark.slow
def test_a_run_that_dies_ends_where_the_uninterrupted_one_does(finished, documents, tmp_path):
  settings = config(tmp_path / "run", documents)
  with recorded_updates() as steps:
    with dying("on_train_batch_end", 5, after=True), pytest.raises(Died):
      loop.run(settings)
    loop.run(settings)
  assert sorted(set(steps)) == list(range(1, 3 * PER_EPOCH + 1))
  # Without XLA the order of sums, and with it the last bits, may differ between two runs.
  assert_same_outcome(finished[1], Outcome.of(tmp_path / "run"), rtol=1e-4)


@pytest.mark.slow
def test_convolutions_with_word_dropout_train_and_say_so(documents, tmp_path):
  settings = config(
    tmp_path / "run", documents, model="vae", decoder="dilated_conv", word_dropout=0.25, max_steps=2
  )
  results = loop.run(settings)
  assert (results["decoder"], results["word_dropout"]) == ("dilated_conv", 0.25)
  assert (results["steps"], results["stopped_by"]) == (2, "max_steps")
  assert math.isfinite(results["test"]["ppl_iw"])


@pytest.mark.slow
def test_a_new_run_begins_with_the_networks_of_another_and_only_then(finished, documents, tmp_path):
  source, outcome = finished
  settings = config(tmp_path / "run", documents, init_from=str(source), epochs=1)
  with dying("on_train_batch_end", 2, after=True), pytest.raises(Died):
    loop.run(settings)
  first = tf.train.load_checkpoint(str(tmp_path / "run" / "checkpoints" / "ckpt-0"))
  begun = {
    key: first.get_tensor(key)
    for key in first.get_variable_to_shape_map()
    if key.startswith(("model/encoder", "model/decoder"))
  }
  assert begun
  for key, value in begun.items():
    np.testing.assert_array_equal(value, outcome.best[key], err_msg=key)
  # What the optimiser knows is not taken over, nor the number of updates.
  assert first.get_tensor("model/step/.ATTRIBUTES/VARIABLE_VALUE") == 0
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop, "warm_start", None)  # a resumed run has weights of its own
    results = loop.run(settings)
  assert results["init_from"] == str(source)
  assert json.loads((tmp_path / "run" / "config.json").read_text())["init_from"] == str(source)


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"hidden_dim": 5}, ["does not fit", "--hidden_dim is 4 there, 5 here"]),
    ({"decoder": "dilated_conv"}, ["does not fit", "its decoder is lstm, here dilated_conv"]),
    ({"vocab_size": 5}, ["other words", "--vocab_size=100"]),
    ({"model": "autoreg"}, ["--model=autoreg has no latent", "--model=savae"]),
  ],
)
@pytest.mark.slow
def test_networks_that_do_not_fit_are_refused_and_forgotten(changes, words, finished, documents, tmp_path):
  settings = config(tmp_path / "run", documents, init_from=str(finished[0]), **changes)
  with pytest.raises(UserError) as caught:
    loop.run(settings)
  for word in (str(finished[0]), *words):
    assert word in one_line(caught)
  # So that the next try may have other settings.
  assert RunDirectory(tmp_path / "run").status is RunStatus.NEW


@pytest.mark.slow
def test_a_run_that_is_not_there_or_has_no_encoder_is_nothing_to_begin_with(documents, tmp_path):
  nothing = tmp_path / "nothing"
  with pytest.raises(UserError, match="nothing holds no run") as caught:
    loop.run(config(tmp_path / "run", documents, init_from=str(nothing)))
  one_line(caught)
  source = config(tmp_path / "svi", documents, model="svi")
  with dying("restore", 1), pytest.raises(Died):
    loop.run(source)
  with pytest.raises(UserError, match=r"--model=savae needs an encoder, and .*svi has none") as caught:
    loop.run(config(tmp_path / "run", documents, init_from=source.run_dir))
  one_line(caught)
  with pytest.raises(UserError, match="has no best checkpoint yet") as caught:
    loop.run(config(tmp_path / "run", documents, model="svi", init_from=source.run_dir))
  one_line(caught)


def evaluate(directory, file):
  given = train.COMMAND.parse(["train.py", "--eval_only", f"--eval_file={file}", f"--run_dir={directory}"])
  return loop.run(train.build_config(given.typed)[0])


@pytest.mark.slow
def test_a_run_is_evaluated_on_any_file_without_the_data_it_trained_on(finished, documents, tmp_path):
  directory, outcome = finished
  stored = (directory / "results.json").read_bytes(), (directory / "test_examples.npz").read_bytes()
  config_file = directory / "config.json"
  before = config_file.read_text()
  config_file.write_text(before.replace(str(documents), str(tmp_path / "gone")))
  try:
    same = evaluate(directory, documents / "yahoo" / "test.txt")
    assert same["test"] == pytest.approx(outcome.results["test"], rel=1e-4)
    assert "valid" not in same
    assert (same["examples"], same["best_epoch"]) == (90, outcome.results["best_epoch"])
    with gzip.open(tmp_path / "mine.txt.gz", "wt") as file:
      file.write("the cat sat\nwords nobody knows\n")
    mine = evaluate(directory, tmp_path / "mine.txt.gz")
  finally:
    config_file.write_text(before)
  assert (mine["test"]["examples"], mine["test"]["tokens"]) == (2, 8)
  assert mine["eval_file"] == str(tmp_path / "mine.txt.gz")
  assert json.loads((directory / "results-mine.json").read_text())["test"]["tokens"] == 8
  assert (directory / "results-test.json").exists()
  assert ((directory / "results.json").read_bytes(), (directory / "test_examples.npz").read_bytes()) == stored


@pytest.mark.slow
def test_a_file_that_is_not_there_or_is_empty_is_answered_with_one_line(finished, tmp_path):
  (tmp_path / "empty.txt").write_text("\n")
  for name, words in (("missing.txt", "missing.txt"), ("empty.txt", "it has no documents")):
    with pytest.raises(UserError, match=words) as caught:
      evaluate(finished[0], tmp_path / name)
    one_line(caught)


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_words_and_not_with_other_documents(finished, documents, tmp_path):
  other = tmp_path / "other" / "yahoo"
  other.mkdir(parents=True)
  for split in SIZES:
    text = (documents / "yahoo" / f"{split}.txt").read_text()
    (other / f"{split}.txt").write_text(text.replace("cat", "cat horse", 1) if split == "train" else text)
  settings = dataclasses.replace(config(finished[0], other.parent), eval_only=True)
  with pytest.raises(UserError, match="data set changed since this run began: train_tokens was") as caught:
    loop.run(settings)
  one_line(caught)
  words = finished[0] / "vocabulary.txt"
  before = words.read_text()
  words.write_text(before.replace("\nmat\n", "\nhat\n"))
  try:
    with pytest.raises(UserError, match=r"since this run began: vocabulary was 14 words, sha256") as caught:
      loop.run(dataclasses.replace(settings, data_dir=str(documents)))
    one_line(caught)
  finally:
    words.write_text(before)


@pytest.mark.slow
def test_a_run_without_time_left_validates_ends_and_may_be_given_more(documents, tmp_path):
  settings = config(tmp_path / "run", documents, max_minutes=1e-9)
  with (
    dying("write_results", 1, owner=RunDirectory),
    recorded_updates() as steps,
    pytest.raises(Died),
  ):
    loop.run(settings)
  assert steps == []  # its time was over before the first update
  assert not (tmp_path / "run" / "metrics.csv").exists()
  more = dataclasses.replace(settings, max_minutes=1.0)
  original = Stopping.seconds_left

  def until_the_second_update(self):
    return -1.0 if int(self._model.step.value) >= 2 else original(self)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Stopping, "seconds_left", until_the_second_update)
    results = loop.run(more)
  assert (results["steps"], results["epochs"], results["stopped_by"]) == (2, 0, "max_minutes")
  assert [row["step"] for row in read_rows(tmp_path / "run")] == ["2"]
  assert tensors(tmp_path / "run")["progress/validated_step/.ATTRIBUTES/VARIABLE_VALUE"] == 2
