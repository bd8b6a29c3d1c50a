"""Sentences from the command line, over HTTP and gRPC."""

import csv
import io
import json
import sys

import numpy as np
import pytest
import server as servers
import tensorflow as tf

from tf_savae.commands import client
from tf_savae.errors import UserError
from tf_savae.serving import transport

BOTH = pytest.mark.parametrize("kind", ["http", "grpc"])

SENTENCES = ("the cat sat on a mat", "the café", "")


@pytest.fixture(scope="module")
def urls(exported_text, served_text):
  with servers.running(exported_text.path, served_text.session) as (_, found):
    yield found


def strings(sentences):
  return np.array([s.encode() for s in sentences], object)


def type_in(monkeypatch, data: bytes):
  monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def ask(capsys, *arguments):
  """Exit status, standard output, and standard error, which is a line or nothing."""
  status = client.main(["client", *arguments])
  out, err = capsys.readouterr()
  assert err.count("\n") == (1 if status else 0), err
  return status, out, err


@BOTH
def test_posteriors_of_sentences_are_those_of_the_keras_model(kind, urls, capsys, exported_text):
  trained = exported_text.trained
  rows = [[*trained.vocabulary.encode(s.split()), 2] for s in SENTENCES]
  x = tf.ragged.constant(rows).to_tensor()
  mean, log_var = trained.model.encode(tf.cast(x, tf.int32))
  status, out, _ = ask(capsys, f"--url={urls[kind]}", "--signature=encode", *SENTENCES)
  assert status == 0
  answer = json.loads(out)
  np.testing.assert_allclose(answer["mean"], mean, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(answer["log_var"], log_var, rtol=1e-5, atol=1e-6)


@BOTH
def test_lines_of_standard_input_are_sentences(kind, urls, capsys, monkeypatch, served_text):
  type_in(monkeypatch, "".join(f"{s}\n" for s in SENTENCES).encode())
  status, out, _ = ask(capsys, f"--url={urls[kind]}", "--signature=encode_refined", "--format=csv")
  assert status == 0
  expected = served_text("encode_refined", strings(SENTENCES))
  rows = list(csv.DictReader(io.StringIO(out)))
  assert [float(row["elbo_refined"]) for row in rows] == pytest.approx(
    expected["elbo_refined"].tolist(), rel=1e-6
  )
  assert [float(row["mean_2"]) for row in rows] == pytest.approx(expected["mean"][:, 2].tolist(), rel=1e-6)


def test_byte_order_marks_at_the_start_of_lines_are_dropped(urls, capsys, monkeypatch):
  answers = []
  for mark in (b"", b"\xef\xbb\xbf"):
    type_in(monkeypatch, b"".join(mark + f"{s}\n".encode() for s in SENTENCES))
    answers.append(ask(capsys, f"--url={urls['http']}", "--signature=encode"))
  assert answers[0][0] == 0 and answers[0] == answers[1]


@BOTH
@pytest.mark.parametrize("form", ["json", "csv", "npz"])
def test_sentences_come_back_as_text(kind, form, urls, capsys, served_text, tmp_path):
  file = tmp_path / "answer"
  flags = (f"--url={urls[kind]}", "--signature=reconstruct", f"--format={form}", f"--output={file}")
  assert ask(capsys, *flags, *SENTENCES)[0] == 0
  expected = [s.decode() for s in served_text("reconstruct", strings(SENTENCES))["sentence"]]
  if form == "npz":
    found = np.load(file)["sentence"].tolist()
  elif form == "csv":
    found = [row["sentence"] for row in csv.DictReader(io.StringIO(file.read_text(encoding="utf-8")))]
  else:
    found = json.loads(file.read_text(encoding="utf-8"))["sentence"]
  assert found == expected


@pytest.mark.parametrize(("kind", "by_row"), [("http", True), ("http", False), ("grpc", False)])
def test_z_goes_in_as_an_array(kind, by_row, urls, served_text):
  z = 2 * np.random.default_rng(0).normal(size=[4, 3])  # float64: it is made float32
  with transport.connect(urls[kind], "savae", by_row=by_row) as server:
    answer = server.predict("sample", z)
  assert answer["sentence"].tolist() == served_text("sample", z.astype(np.float32))["sentence"].tolist()


@BOTH
def test_token_ids_go_in_as_arrays_of_any_length(kind, urls, served_text, tmp_path, capsys):
  x = np.array([[4, 5, 2, 0, 0], [6, 7, 8, 9, 2]])  # int64, as numpy has it
  np.save(tmp_path / "x.npy", x)
  np.save(tmp_path / "short.npy", x[0, :3])
  flags = (f"--url={urls[kind]}", "--signature=encode_ids")
  status, out, _ = ask(capsys, *flags, str(tmp_path / "x.npy"))
  assert status == 0
  expected = served_text("encode_ids", x.astype(np.int32))["mean"]
  np.testing.assert_allclose(json.loads(out)["mean"], expected, rtol=1e-6, atol=1e-6)
  status, _, error = ask(capsys, *flags, str(tmp_path / "x.npy"), str(tmp_path / "short.npy"))
  assert status == 1
  assert "rows must have one shape" in error


@BOTH
def test_no_sentences_are_one_clear_line(kind, urls, capsys, monkeypatch):
  type_in(monkeypatch, b"")
  status, _, error = ask(capsys, f"--url={urls[kind]}", "--signature=encode")
  assert status == 1
  assert "input sentence of encode is empty; give at least one row" in error


def test_what_is_no_utf_8_and_what_begins_with_a_dash_is_sent_as_it_is(
  urls, capsys, monkeypatch, served_text
):
  type_in(monkeypatch, b"the \xff cat\n")
  status, out, _ = ask(capsys, f"--url={urls['http']}")
  assert status == 0
  expected = served_text("encode", np.array([b"the \xff cat"], object))["mean"]
  np.testing.assert_allclose(json.loads(out)["mean"], expected, rtol=1e-6, atol=1e-6)
  assert ask(capsys, f"--url={urls['http']}", "--", "--the cat")[0] == 0


@BOTH
def test_a_batch_that_does_not_fit_is_not_sent(kind, urls):
  with transport.connect(urls[kind], "savae") as server:
    for batch, message in (
      (np.zeros([2, 3], np.float32), "takes strings; received float32"),
      (strings(["a", "b"])[:, np.newaxis], r"must have the shape \[batch\]"),
    ):
      with pytest.raises(UserError, match=message):
        server.predict("encode", batch)
