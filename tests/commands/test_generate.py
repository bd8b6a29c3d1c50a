"""`python -m tf_savae generate` on a run of text that was trained for a few updates."""

import functools
import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tf_savae import SAVAE, SVISettings
from tf_savae.commands import generate as command_line
from tf_savae.data import text
from tf_savae.errors import UserError
from tf_savae.evaluation.posteriors import Inference
from tf_savae.generation import report, run_report
from tf_savae.generation import writer as writer_module
from tf_savae.generation.run_report import write as run
from tf_savae.generation.samples import write_samples
from tf_savae.generation.sentences import Reader, padded
from tf_savae.generation.settings import GenerateSettings
from tf_savae.generation.writer import Decoding, Writer, line
from tf_savae.kind import KINDS
from tf_savae.networks.decoding import generate as generate_tokens
from tf_savae.runs.build import build_model
from tf_savae.runs.checkpoints import of_run
from tf_savae.runs.directory import open_run
from tf_savae.runs.restore import Restored, load_model
from tf_savae.tokens import END, PAD
from tf_savae.training import make_config
from tf_savae.training import run as train

ROOT = Path(__file__).parents[2]
WORDS = ["the", "cat", "dog", "sat", "ran", "on", "a", "mat", "and", "then", "it", "slept"]


def documents(n, rng):
  return [" ".join(rng.choice(WORDS, size=rng.integers(2, 9))) for _ in range(n)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """A folder of documents, and run directories of a model with and one without latent."""
  place = tmp_path_factory.mktemp("generate")
  rng = np.random.default_rng(0)
  for split, n in (("train", 40), ("val", 10), ("test", 10)):
    (place / f"{split}.txt").write_text("\n".join(documents(n, rng)) + "\n")
  train(tiny_config(place, "autoreg"))
  save_as_if_trained(tiny_config(place, "savae"))
  return place


def tiny_config(place, model):
  sizes = {"hidden_dim": 6, "embedding_dim": 5, "max_length": 12, "iw_samples": 1, "max_steps": 4, "k": 2}
  places = {"data_dir": str(place), "run_dir": str(place / model)}
  return make_config(dataset="text", preset="tiny", model=model, **sizes, **places)


def save_as_if_trained(config):
  """Leaves what a run leaves whose last weights are all zeros, and whose best ones are not."""
  data = text.load(data_dir=config.data_dir, seed=0, max_length=config.max_length)
  with open_run(config) as run_dir:
    data.vocabulary.save(run_dir.vocabulary_file)
    model = build_model(config, data)
    checkpoints = of_run(run_dir.checkpoints, model)
    checkpoints.save_best(3, 1.0)
    for variable in model.trainable_variables:
      variable.assign(tf.zeros_like(variable))
    checkpoints.save(4)


@pytest.fixture(scope="module", autouse=True)
def traced_once():
  """Models are restored, and their refinement is traced, once for all tests."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(run_report, "load_model", functools.cache(load_model))
    patch.setattr(writer_module, "Inference", functools.cache(Inference))
    yield


@pytest.fixture(scope="module")
def restored(runs):
  return run_report.load_model(str(runs / "savae"))


def command(*arguments):
  return GenerateSettings(**command_line.COMMAND.parse(["generate", *arguments]).settings)


def logged_texts(directory):
  """Tag → text of all events in a directory."""
  texts = {}
  for path in directory.glob("*tfevents*"):
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      for value in event.summary.value:
        if value.metadata.plugin_data.plugin_name == "text":
          texts[value.tag] = value.tensor.string_val[0].decode()
  return texts


def test_a_restored_model_is_the_best_one_and_knows_its_words(restored, runs):
  fresh = build_model(restored.config, text.load(data_dir=runs, seed=0, max_length=12))
  for variable, initial in zip(restored.model.trainable_variables, fresh.trainable_variables, strict=True):
    np.testing.assert_array_equal(variable.numpy(), initial.numpy())
  assert set(restored.vocabulary.words[4:]) == set(WORDS)
  assert (restored.kind, restored.step, restored.model.eval_k) == ("text", 3, 2)


def test_a_finished_run_is_restored_with_its_results_and_without_its_data(runs, tmp_path):
  shutil.copytree(runs / "autoreg", tmp_path / "moved")
  moved = load_model(tmp_path / "moved", data_dir=str(tmp_path / "nowhere"))
  assert moved.results["model"] == "autoreg" and moved.step == moved.results["steps"] == 4
  assert load_model(runs / "savae", eval_k=0).model.eval_k == 0


def test_without_a_best_model_the_last_one_is_restored_and_without_any_the_run_is_refused(runs, tmp_path):
  shutil.copytree(runs / "savae", tmp_path / "run")
  shutil.rmtree(tmp_path / "run" / "checkpoints" / "best")
  last = load_model(tmp_path / "run")
  assert last.step == 4 and not np.any(last.model.decoder.embedding.numpy())
  shutil.rmtree(tmp_path / "run" / "checkpoints")
  with pytest.raises(UserError, match="no trained weights yet"):
    load_model(tmp_path / "run")


def test_everything_is_printed_kept_in_a_new_file_and_logged(runs):
  printed = []
  asked = command(
    f"--run_dir={runs / 'savae'}",
    "--sentence=The cat sat on a ZEBRA",
    "--sentence=it slept",
    "--interpolate",
    "--points=3",
    "--num=2",
    "--num_beams=2",
    "--temperature=0.7",
    "--top_p=0.8",
  )
  path = run(asked, printed.append)
  written = path.read_text()
  assert "\n".join(printed).startswith(written)
  for words in (
    "the cat sat on a _UNK",
    "in small letters",
    "zebra",
    "at λ_0",
    "at λ_2",
    "KL",
    "from a draw z ~ q_λ2",
    "beam 2",
    "temperature 0.7, top-p 0.8",
    "50%",
  ):
    assert words in written, words
  assert logged_texts(runs / "savae" / "tensorboard" / "generations")[f"generations/{path.stem}"] == written
  again = run(asked, printed.append)
  assert again.name == f"{int(path.stem) + 1}.md" and again.read_text() == written == path.read_text()


def test_documents_of_a_split_and_lines_of_a_file_are_written_again(runs, tmp_path):
  path = run(command(f"--run_dir={runs / 'savae'}", "--split=test", "--num=2", "--num_beams=1"), str)
  written = path.read_text()
  assert written.count("## Sentence") == 2
  file = tmp_path / "some.txt.gz"
  file.write_bytes(gzip.compress(b"\nthe dog\n\n a cat\nit ran\n"))
  path = run(command(f"--run_dir={runs / 'savae'}", f"--file={file}", "--num=2", "--interpolate"), str)
  assert "the first 2 in some.txt.gz" in path.read_text() and "a cat" in path.read_text()


def test_a_sentence_is_moved_along_an_attribute(runs, tmp_path, restored):
  file = tmp_path / "minus.txt"
  file.write_text("a dog ran\na dog slept\n")
  printed = []
  path = run(
    command(
      f"--run_dir={runs / 'savae'}",
      "--sentence=the cat sat",
      "--plus=a cat ran",
      f"--minus=@{file}",
      "--num=2",
    ),
    printed.append,
  )
  written = path.read_text()
  assert "The difference of 1 and 2 sentences has the length" in written
  writer = Writer(restored.model, restored.vocabulary, Decoding())
  reader = Reader(restored.vocabulary, 13)

  def mean(*texts):
    return writer.posteriors(padded([reader.read(text) for text in texts])).final.mean

  z = mean("the cat sat") + 1.5 * (mean("a cat ran") - mean("a dog ran", "a dog slept").mean(axis=0))
  assert f"+150%  {writer.greedy(tf.constant(z))[0]}" in written
  with pytest.raises(UserError, match="is a run on documents, and --complete is for images"):
    run(command(f"--run_dir={runs / 'savae'}", "--split=test", "--complete=lower"), str)


def test_a_model_without_latent_has_samples_only(runs):
  path = run(GenerateSettings(run_dir=str(runs / "autoreg"), num=3), str)
  assert "## Samples\n" in path.read_text()
  with pytest.raises(UserError, match=r"without latent \(autoreg\)"):
    run(GenerateSettings(run_dir=str(runs / "autoreg"), sentence=("a cat",)), str)


def test_a_decoder_of_ones_own_that_draws_no_samples_is_named_in_one_line(tmp_path):
  encoder, decoder, _ = tiny.dense_networks("float32")
  model = SAVAE(encoder, decoder, "vae", SVISettings(0))
  config = make_config(preset="tiny", run_dir=str(tmp_path))
  restored = Restored(model, config, "image", None, 1, None)
  settings = GenerateSettings(run_dir=str(tmp_path))
  with pytest.raises(
    UserError, match=f"^--run_dir={tmp_path} has a decoder that draws no samples: .*has no method sample"
  ):
    run_report.draw_samples(restored, KINDS.get("image"), settings, tmp_path)


def test_what_is_written_is_what_the_decoder_says(restored):
  writer = Writer(restored.model, restored.vocabulary, Decoding(num_beams=2, seed=3))
  given = [Reader(restored.vocabulary, 13).read(text) for text in ("the cat sat", "a dog")]
  posteriors = writer.posteriors(padded(given))
  z = tf.constant(posteriors.final.mean)
  greedy = [restored.vocabulary.decode(row) for row in generate_tokens(restored.model.decoder, z).numpy()]
  assert [v.greedy for v in writer.versions(z)] == greedy == writer.greedy(z)
  for beams, row in zip(writer.beams(z), z, strict=True):
    for document, score in beams:
      x = tf.constant([[*restored.vocabulary.encode(document.split()), END]])
      decoder = restored.model.decoder
      exact = decoder.log_prob(x, row[tf.newaxis], decoder.precompute(x))
      np.testing.assert_allclose(score, exact[0], rtol=1e-5)


def test_draws_repeat_for_one_seed_and_differ_between_seeds(restored):
  texts = [Writer(restored.model, restored.vocabulary, Decoding(seed=s)).prior_samples(20) for s in (1, 1, 2)]
  assert texts[0] == texts[1] != texts[2]
  assert len(set(texts[0])) > 15  # rows beyond the first sixteen have noise of their own


def test_sampling_at_two_latents_has_the_same_noise_and_prior_samples_other(restored):
  writer = Writer(restored.model, restored.vocabulary)
  z = tf.zeros([4, 2])
  first, second = ([v.sampled for v in writer.versions(z)] for _ in range(2))
  assert first == second != writer.prior_samples(4)


def test_the_unknown_word_is_written_unless_forbidden(restored):
  for allowed in (True, False):
    writer = Writer(restored.model, restored.vocabulary, Decoding(num_beams=40, allow_unknown=allowed))
    version = writer.versions(tf.zeros([1, 2]))[0]
    texts = [*writer.prior_samples(40), version.sampled, version.greedy, *(text for text, _ in version.beams)]
    assert any("_UNK" in text for text in texts) == allowed


def test_the_line_ends_at_both_latents():
  z = line(np.array([0.0, 2.0]), np.array([1.0, 0.0]), 3)
  np.testing.assert_allclose(z, [[0, 2], [0.5, 1], [1, 0]])


def test_a_sentence_is_lowered_only_if_the_vocabulary_is(restored):
  words = restored.vocabulary.words
  lower, mixed = (Reader(type(restored.vocabulary)(w), 13) for w in (words, (*words, "Rome")))
  assert lower.read("The CAT _UNK").unknown == () and lower.read("The CAT").is_lowered
  assert mixed.read("The CAT UNK the").unknown == ("The", "CAT")
  assert not lower.read("the cat").is_lowered
  np.testing.assert_array_equal(padded([lower.read("the cat")])[0, 2:], [END, *[PAD] * 5])


def test_samples_of_a_finished_run_go_to_tensorboard(restored, runs, tmp_path):
  data = text.load(data_dir=runs, seed=0, max_length=12, vocabulary=restored.vocabulary)
  events = tf.summary.create_file_writer(str(tmp_path))
  x = data.examples("valid", 3)
  write_samples(restored.model, data, x, Inference(restored.model)(x), events, step=4)
  events.close()
  for events_of in ("valid", "results"):  # by training itself
    assert "texts/samples" in logged_texts(runs / "autoreg" / "tensorboard" / events_of)
  texts = logged_texts(tmp_path)
  assert data.texts("valid", 1)[0] in texts["texts/reconstructions"] and texts["texts/samples"]
  traversals = texts["texts/latent_traversals"]
  assert " = -3 " in traversals and "_UNK" not in traversals


def test_files_are_numbered_past_all_that_are_there(tmp_path):
  (tmp_path / "7.png").touch()
  (tmp_path / "notes.md").touch()
  assert report.new_file(tmp_path, "md").name == "8.md"


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--sentence=the " * 20], "at most 12 words for this model; received 20"),
    (["--sentence= "], "--sentence has no words"),
    (["--sentence=a cat", "--interpolate"], "--interpolate needs two sentences; received 1"),
    (["--file=nowhere.txt"], "nowhere.txt cannot be read: No such file"),
    (["--split=test", "--data_dir=nowhere"], "no documents in nowhere"),
  ],
)
def test_what_cannot_be_done_is_one_line_and_status_1(runs, capsys, arguments, words):
  assert command_line.main(["generate", f"--run_dir={runs / 'savae'}", *arguments]) == 1
  error = capsys.readouterr().err
  assert words in error and error.count("\n") == 1 and error.startswith("error: ")


def test_a_directory_without_run_is_one_line_and_status_1(tmp_path, capsys):
  for path, words in ((tmp_path, "holds no run"), (tmp_path / "no", "is no directory")):
    assert command_line.main(["generate", f"--run_dir={path}"]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  "arguments, words",
  [
    ([], "--run_dir is needed"),
    (["--run_dir=a", "--temperature=0"], "--temperature must be a number above 0; received 0\n"),
    (["--run_dir=a", "--top_p=1.5"], "--top_p must be"),
    (["--run_dir=a", "--num_beams=none"], "received none"),
    (["--run_dir=a", "--sentence=b", "--split=test"], "received --sentence and --split"),
    (["--run_dir=a", "--interpolate"], "needs two sentences"),
    (["--run_dir=a", "--temprature=1"], "did you mean --temperature?"),
    (["--run_dir=a", "what is love"], "unexpected argument 'what is love'"),
  ],
)
def test_a_wrong_flag_is_one_line_and_status_2(capsys, arguments, words):
  assert command_line.main(["generate", *arguments]) == 2
  error = capsys.readouterr().err
  assert words in error and error.count("\n") == 1


def test_help_names_every_flag_and_imports_no_tensorflow():
  code = (
    "import sys; from tf_savae.commands.generate import main; status = main(['generate', '--help']);"
    "assert 'tensorflow' not in sys.modules; sys.exit(status)"
  )
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
  for name in ("run_dir", "sentence", "interpolate", "length_penalty", "seed"):
    assert f"  --{name}" in done.stdout or f"  --[no]{name}" in done.stdout
