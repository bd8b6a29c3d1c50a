"""The command `saliency` on runs of documents and images: its files, its tables, and what it refuses."""

from __future__ import annotations

import html
import json
import random
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.commands.test_evaluation_commands import save_as_if_trained
from tests.training.runs import tiny_config
from tf_savae.commands import saliency
from tf_savae.data.vocabulary import Vocabulary
from tf_savae.errors import UserError
from tf_savae.evaluation import saliency_figures, saliency_groups, saliency_of_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  place = tmp_path_factory.mktemp("saliency")
  rng, documents = random.Random(0), place / "documents"
  documents.mkdir()
  lines = [
    " ".join(rng.choices(["the", "cat", "sat", "on", "<b>", "_UNK"], k=rng.randint(1, 12))) for _ in range(60)
  ]
  (documents / "train.txt").write_text("".join(f"{line}\n" for line in lines))
  configs = {
    "text": tiny_config(place / "text", "text", k=2, data_dir=str(documents)),
    "image": tiny_config(place / "image", "omniglot", k=1),
    "svi": tiny_config(place / "svi", "text", model="svi", k=1, data_dir=str(documents)),
  }
  return {name: save_as_if_trained(config) for name, config in configs.items()}


def run(path, capsys, *flags):
  assert saliency.main(["x", f"--run_dir={path}", "--num=6", "--batch_size=4", "--shown=2", *flags]) == 0
  return capsys.readouterr().out


def test_of_documents(runs, capsys):
  out = run(runs["text"], capsys)
  result = json.loads((runs["text"] / "saliency.json").read_text())
  assert (result["examples"], result["eval_k"], result["tagger"]) == (6, 2, "none")
  rows = np.load(runs["text"] / "saliency_tokens.npz")
  assert len(np.unique(rows["document"])) == 6
  for groups in result["groups"].values():
    assert sum(group["tokens"] for group in groups) == result["tokens"] == len(rows["id"])
  first = next(g for g in result["groups"]["position"] if g["group"] == "1 to 5")
  chosen = rows["position"] <= 5
  for name in ("mean", "entropy", "output"):
    assert first[name] == pytest.approx(np.mean(rows[name][chosen]), rel=1e-5) and first[name] > 0
  assert "position" in out and "1 to 5" in out
  page = (runs["text"] / "saliency_sentences.html").read_text(encoding="utf-8")
  words = Vocabulary.load(runs["text"] / "vocabulary.txt").words
  shown = rows["id"][rows["document"] < 2]
  assert all(f">{html.escape(words[i])}</span>" in page for i in shown)
  assert page.count("<hr>") == 2 and page.count("<span") == 2 * len(shown)
  for name in ("saliency.png", "saliency_sentences.png"):
    assert np.ptp(np.asarray(Image.open(runs["text"] / name))) > 100


def test_of_images_of_two_runs(runs, capsys, tmp_path):
  other = shutil.copytree(runs["image"], tmp_path / "other")
  flags = ("--num=6", "--batch_size=4", "--shown=2", f"--out={tmp_path}")
  assert saliency.main(["x", str(runs["image"]), str(other), *flags]) == 0
  out = capsys.readouterr().out
  maps = np.load(runs["image"] / "saliency_pixels.npz")
  assert maps["mean"].shape == (6, 28, 28)
  result = json.loads((runs["image"] / "saliency.json").read_text())
  assert result["sum_over_pixels"]["mean"] == pytest.approx(np.mean(np.sum(maps["mean"], (1, 2))), rel=1e-5)
  assert np.ptp(np.asarray(Image.open(runs["image"] / "saliency.png"))) > 100
  assert "| 6 images, sum over pixels | image, K = 1 | other, K = 1 |" in out
  results = json.loads((tmp_path / "saliency_compared.json").read_text())
  assert results["image"] == results["other"] == result  # the same weights and examples
  assert np.ptp(np.asarray(Image.open(tmp_path / "saliency_compared.png"))) > 100
  in_tensorboard(runs["image"])


def in_tensorboard(run_dir):
  """TensorBoard has the picture and the table."""
  (log,) = (run_dir / "tensorboard" / "saliency").iterdir()
  records = tf.data.TFRecordDataset(str(log)).as_numpy_iterator()
  events = map(tf.compat.v1.Event.FromString, records)
  found = {value.tag: tf.make_ndarray(value.tensor) for event in events for value in event.summary.value}
  assert set(found) == {"saliency/saliency", "saliency/tables"}
  assert "sum over pixels" in found["saliency/tables"].item().decode()
  picture = tf.io.decode_png(found["saliency/saliency"][2]).numpy()
  np.testing.assert_array_equal(picture, np.asarray(Image.open(run_dir / "saliency.png").convert("RGB")))


def test_a_run_without_encoder_is_one_line(runs, capsys):
  assert saliency.main(["x", f"--run_dir={runs['svi']}"]) == 1
  error = capsys.readouterr().err.strip()
  assert "\n" not in error and "with an encoder" in error and "--model=svi" in error


def test_images_have_no_parts_of_speech(runs, capsys):
  assert saliency.main(["x", f"--run_dir={runs['image']}", "--tagger=textblob"]) == 1
  error = capsys.readouterr().err.strip()
  assert "\n" not in error and "--tagger=textblob is for documents" in error and "use --tagger=none" in error


class TestGroups:
  def rows(self):
    rng = np.random.default_rng(1)
    document = np.repeat(np.arange(40), 25)
    rows = {name: rng.gamma(2.0, size=1000) for name in ("mean", "output")}
    return {
      **rows,
      "document": document,
      "position": np.tile(np.arange(1, 26), 40),
      "count": rng.integers(0, 50_000, 1000),
      "loss": rng.gamma(3.0, size=1000),
    }

  def test_every_token_is_in_one_group_of_each_grouping(self):
    found = saliency_groups.summary(self.rows(), np.repeat(["NN", "VB"], 500))
    assert set(found) == {"position", "frequency", "loss", "part_of_speech"}
    for groups in found.values():
      assert sum(group["tokens"] for group in groups) == 1000 - (found["frequency"] is groups) * np.sum(
        self.rows()["count"] == 0
      )

  def test_the_standard_error_is_over_documents(self):
    rows = self.rows()
    rows["mean"] = np.repeat(np.random.default_rng(2).normal(size=40), 25)  # one value per document
    tags = np.array(["NN"] * 1000)
    (group,) = saliency_groups.summary(rows, tags)["part_of_speech"]
    values = rows["mean"][::25]
    assert group["mean_se"] == pytest.approx(np.std(values) / np.sqrt(40), rel=1e-9)

  def test_independent_tokens_have_the_usual_standard_error(self):
    rows = self.rows()
    rows["document"] = np.arange(1000)
    (group,) = saliency_groups.summary(rows, np.array(["NN"] * 1000))["part_of_speech"]
    assert group["output_se"] == pytest.approx(np.std(rows["output"]) / np.sqrt(1000), rel=1e-9)


class TestOfRuns:
  """Documents of several runs side by side, from groups without training."""

  def results(self):
    rows, tags = TestGroups().rows(), np.repeat(["NN", "VB"], 500)
    found = {}
    for name, k, factor in (("vae", 0, 1.0), ("savae", 4, 3.0)):
      groups = saliency_groups.summary(rows | {"mean": factor * rows["mean"]}, tags)
      found[name] = {"eval_k": k, "groups": groups}
    return found

  def test_the_tables_have_a_column_per_run(self):
    results = self.results()
    text = saliency_of_runs.table(results)
    first = [result["groups"]["part_of_speech"][0] for result in results.values()]
    cells = " | ".join(f"{group['mean']:.4g} ± {group['mean_se']:.2g}" for group in first)
    assert "| vae, K = 0 | savae, K = 4 |" in text and f"| NN | {cells} |" in text
    assert first[1]["mean"] == pytest.approx(3 * first[0]["mean"])

  def test_a_group_that_one_run_lacks_has_a_dash(self):
    results = self.results()
    del results["savae"]["groups"]["part_of_speech"][0]
    assert re.search(r"\| NN \| [\d.]+ ± [\d.]+ \| – \|", saliency_of_runs.table(results))

  def test_the_figure_has_a_bar_per_run_and_group_and_a_tall_one_is_cut(self):
    results = self.results()
    results["savae"]["groups"]["part_of_speech"][1]["mean"] = 500.0
    groups = {name: result["groups"] for name, result in results.items()}
    figure = saliency_figures.bars_of_runs(groups, {"mean": "input", "output": "output"}, "title")
    assert len(figure.axes) == 2 * len(groups["vae"])
    of_speech = next(ax for ax in figure.axes if ax.get_title() == "by part of speech")
    assert len(of_speech.patches) == 4 and of_speech.get_ylim()[1] < 50
    assert [text.get_text() for text in of_speech.texts] == ["500"]

  def test_runs_on_other_data_are_not_compared(self, monkeypatch):
    results = iter([{"dataset_source": "a"}, {"dataset_source": "b"}])
    monkeypatch.setattr(saliency_of_runs.saliency_report, "measure", lambda run, **_: (next(results), [], {}))
    with pytest.raises(UserError, match="received one on a and two on b"):
      saliency_of_runs.of_runs(["one", "two"])


def test_a_tagger_that_is_not_installed_is_one_line(monkeypatch):
  def missing(name):
    raise ImportError(f"No module named {name!r}")

  monkeypatch.setattr(saliency_groups.importlib, "import_module", missing)
  with pytest.raises(UserError, match="pip install textblob, or give --tagger=none"):
    saliency_groups.parts_of_speech([["a"]], "textblob")


def test_the_tagger_gives_every_word_one_tag():
  pytest.importorskip("textblob")
  documents = [["where", "can", "i", "buy", "a", "1/2", "inch", "bolt", "?"], [], ["_UNK", "costs", "$", "5"]]
  tags = saliency_groups.parts_of_speech(documents, "textblob")
  assert list(map(len, tags)) == [9, 0, 4]
  assert tags[0][:4] == ["WRB", "MD", "PRP", "VB"]
