"""Models of characters and of SentencePiece pieces take sentences as they are, which the graph cuts."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from exports import Served

from tf_savae import data
from tf_savae.data import units
from tf_savae.runs.restore import load_model
from tf_savae.serving import c_loader, encoding, exporter, gate
from tf_savae.serving.sentences import tokenizer_for
from tf_savae.tokens import END
from tf_savae.training import make_config, run

ROOT = Path(__file__).parents[2]
KINDS = ("char", "sentencepiece")
SENTENCES = (
  "how do i get a cold",
  "  the\u3000best \t way ",
  "",
  "café ☃ dogs UNK",
  "</s> <pad> _UNK a\u200b",
)
WORDS = [
  "what",
  "is",
  "the",
  "best",
  "way",
  "to",
  "lose",
  "weight",
  "how",
  "do",
  "i",
  "get",
  "rid",
  "of",
  "a",
  "cold",
  "UNK",
  "_UNK",
  "café",
  "dogs",
]


def texts(n=200):
  rng = np.random.default_rng(0)
  return [" ".join(rng.choice(WORDS, 1 + i % 9)) for i in range(n)]


def strings(sentences=SENTENCES):
  return np.array([sentence.encode() for sentence in sentences], object)


@pytest.fixture(scope="module", params=KINDS)
def vocabulary(request, tmp_path_factory):
  folder = tmp_path_factory.mktemp(request.param)
  made = units.make(request.param, texts(), max_size=60, min_count=1)
  made.save(folder / "vocabulary.txt")
  return made, folder / "vocabulary.txt"


def ids(vocabulary, sentences=SENTENCES):
  return [[*vocabulary.encode(vocabulary.split(sentence)), END] for sentence in sentences]


def test_the_graph_cuts_as_training_does(vocabulary):
  made, path = vocabulary
  sentences = [*SENTENCES, *texts(100)]
  x = tokenizer_for(made, path, 201).encode(tf.constant(strings(sentences))).numpy()
  for row, expected in zip(x, ids(made, sentences), strict=True):
    assert row[: len(expected)].tolist() == expected and not row[len(expected) :].any()


def test_the_graph_joins_as_python_does(vocabulary):
  made, path = vocabulary
  tokenizer = tokenizer_for(made, path, 201)
  x = tokenizer.encode(tf.constant(strings()))
  assert [s.decode() for s in tokenizer.decode(x).numpy()] == [made.decode(row) for row in ids(made)]


def test_examples_of_the_gate_fit_and_begin_with_something_unknown(vocabulary):
  made, path = vocabulary
  tokenizer = tokenizer_for(made, path, 30)
  for row in tokenizer.example_documents(4):
    assert 3 in row[:2] and END in row


def test_a_sentence_that_is_too_long_is_said_to_be_in_its_units(vocabulary):
  made, path = vocabulary
  with pytest.raises(
    tf.errors.InvalidArgumentError, match=f"sentence must have at most 9 {made.plural}; received"
  ):
    tokenizer_for(made, path, 10).encode(tf.constant(["how do i get rid of a cold " * 4]))


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
  """A run of two updates, and its export."""
  folder = tmp_path_factory.mktemp("run")
  (folder / "data").mkdir()
  for split in ("train", "val", "test"):
    (folder / "data" / f"{split}.txt").write_text("\n".join(texts(60)), encoding="utf-8")
  config = make_config(
    **{"dataset": "text", "data_dir": str(folder / "data"), "preset": "tiny", "model": "savae", "k": 2},
    **{"units": request.param, "vocab_size": 50, "max_length": 60, "latent_dim": 3, "batch_size": 8},
    **{"run_dir": str(folder / "run"), "max_steps": 2, "init_scale": 0.5, "iw_samples": 2},
  )
  run(config)
  path = exporter.export(folder / "run", folder / "models" / "own", k=(2,))
  return request.param, folder, path


@pytest.mark.slow
def test_a_run_is_exported_and_its_sentences_are_those_of_the_keras_model(trained):
  kind, folder, path = trained
  restored = load_model(folder / "run")
  assert restored.vocabulary.units == kind
  assert (path / "assets" / "sentencepiece.model").exists() == (kind == "sentencepiece")
  served = Served(path, gate.interfaces(gate.read_meta_graph(path)))
  x = tf.ragged.constant(ids(restored.vocabulary)).to_tensor()
  mean, _ = restored.model.encode(tf.cast(x, tf.int32))
  np.testing.assert_allclose(served("encode", strings())["mean"], mean, rtol=1e-5, atol=1e-6)
  written = served("reconstruct", strings())["sentence"]
  assert all(isinstance(text, bytes) for text in written)
  card = (path / "assets.extra" / "README.md").read_text()
  assert {"char": "Characters are looked up", "sentencepiece": "cut by the SentencePiece model"}[kind] in card


@pytest.mark.slow
def test_the_loader_without_tensorflow_finds_the_operations(trained):
  _, _, path = trained
  interface = gate.interfaces(gate.read_meta_graph(path))["encode"]
  with c_loader.Isolated(path, threads=1) as session:
    [mean] = session.run({interface.inputs["sentence"]: strings()}, [interface.outputs["mean"]])
  assert mean.shape == (len(SENTENCES), 3)


@pytest.mark.slow
def test_a_run_goes_on_and_encodes_tables(trained):
  kind, folder, _ = trained
  again = data.load("text", data_dir=folder / "data", seed=0, units=kind, vocab_size=50, max_length=60)
  assert again.vocabulary == load_model(folder / "run").vocabulary
  (folder / "new.csv").write_text("id,text\n1,the best way\n2,a cold\n", encoding="utf-8")
  (folder / "new.txt").write_text("the best way\na cold\n", encoding="utf-8")
  table = encoding.encode(folder / "run", [folder / "new.csv"], text_column="text")
  assert table["name"].tolist() == [f"{folder}/new.csv:2", f"{folder}/new.csv:3"]
  lines = encoding.encode(folder / "run", [folder / "new.txt"])
  np.testing.assert_array_equal(table["mean"], lines["mean"])


def test_the_package_with_the_operations_is_not_imported_for_words():
  code = (
    "import sys; from tf_savae.serving import sentences, exporter;"
    " sys.exit(bool({'tensorflow_text', 'sentencepiece'} & set(sys.modules)))"
  )
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
  assert done.returncode == 0, done.stderr
