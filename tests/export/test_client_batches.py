"""The client sends rows in batches that the server takes, and hands answers out as they come."""

import csv
import io
import json
import shutil
import sys

import numpy as np
import pytest
import server as servers

from tf_savae.commands import client
from tf_savae.errors import UserError
from tf_savae.serving import client as client_lib
from tf_savae.serving import images, remote, transport

BOTH = pytest.mark.parametrize("kind", ["http", "grpc"])


@pytest.fixture(scope="module")
def running(exported, served):
  with servers.running(exported.path, served.session) as found:
    yield found


@pytest.fixture
def urls(running):
  return running[1]


@pytest.fixture
def backend(running, monkeypatch):
  monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
  yield running[0]
  running[0].max_batch_size = None


@pytest.fixture
def x():
  return (np.random.default_rng(2).random([7, 28, 28, 1]) < 0.3).astype(np.float32)


@pytest.fixture
def file(x, tmp_path):
  np.save(tmp_path / "x.npy", x)
  return str(tmp_path / "x.npy")


def ask(capsys, *arguments):
  """Exit status, standard output, and standard error, which is a line or nothing."""
  status = client.main(["client", *arguments])
  out, err = capsys.readouterr()
  assert err.count("\n") == (1 if status else 0), err
  return status, out, err


@BOTH
def test_rows_are_sent_in_batches_and_come_back_in_order(kind, urls, backend, x, file, capsys, served):
  backend.max_batch_size, before = 3, backend.requests
  status, out, _ = ask(capsys, f"--url={urls[kind]}", "--batch_size=3", "--signature=encode_refined", file)
  assert status == 0 and backend.requests - before == 1 + 3  # metadata, and 3 + 3 + 1 rows
  for name, value in served("encode_refined", x).items():
    np.testing.assert_allclose(json.loads(out)[name], value, rtol=1e-5, atol=1e-5)


@BOTH
def test_a_batch_that_is_too_large_for_the_server_is_one_line(kind, urls, backend, file, capsys):
  backend.max_batch_size = 3
  status, _, error = ask(capsys, f"--url={urls[kind]}", file)
  assert status == 1 and "larger than maximum input batch size 3" in error and "--batch_size" in error


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_answers_are_handed_out_before_the_next_batch_is_read(form, urls, x, served):
  def batches():
    yield x[:2]
    seen.append("second batch read")
    yield x[2:3]

  seen = []
  with transport.connect(urls["http"], "savae") as server:
    texts = client_lib.texts(server.stream("encode", batches()), form)
    first = next(texts)
    assert not seen and first.count("\n") == 2 + (form == "csv")
    everything = first + "".join(texts)
  expected = served("encode", x[:3])["mean"]
  if form == "csv":
    rows = list(csv.DictReader(io.StringIO(everything)))
    found = [[float(row[f"mean_{i}"]) for i in range(3)] for row in rows]
  else:
    found = [json.loads(line)["mean"] for line in everything.splitlines()]
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_what_came_before_a_failure_is_printed_and_a_file_stays_as_it_was(urls, tmp_path, capsys):
  for i, ink in enumerate(images.example_drawings(3, 30, 30)):
    (tmp_path / f"{i}.png").write_bytes(images.encode_png(ink))
  (tmp_path / "1.png").write_text("no picture")
  pngs = [str(tmp_path / f"{i}.png") for i in range(3)]
  arguments = (f"--url={urls['http']}", "--batch_size=1", "--format=csv", "--signature=encode", *pngs)
  status, out, error = ask(capsys, *arguments)
  assert status == 1 and out.count("\n") == 2 and "image_bytes must be PNG" in error
  (tmp_path / "old.csv").write_text("old")
  status, out, _ = ask(capsys, f"--output={tmp_path / 'old.csv'}", *arguments)
  assert status == 1 and not out and (tmp_path / "old.csv").read_text() == "old"
  assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png", "old.csv"]


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "npz"])
def test_a_file_holds_the_answers_of_all_batches(form, urls, file, x, tmp_path, capsys, served):
  output = tmp_path / f"answer.{form}"
  arguments = (f"--url={urls['http']}", "--batch_size=2", f"--format={form}", f"--output={output}")
  assert ask(capsys, *arguments, file)[0] == 0
  if form == "npz":
    found = np.load(output)["mean"]
  elif form == "json":
    found = json.loads(output.read_text())["mean"]
  elif form == "jsonl":
    found = [json.loads(line)["mean"] for line in output.read_text().splitlines()]
  else:
    lines = csv.DictReader(io.StringIO(output.read_text()))
    found = [[float(line[f"mean_{i}"]) for i in range(3)] for line in lines]
  np.testing.assert_allclose(found, served("encode", x)["mean"], rtol=1e-5, atol=1e-6)


def test_lines_of_standard_input_are_read_batch_by_batch(exported_text, served_text, monkeypatch, capsys):
  lines = [b"the cat", b"a mat", b"dog", b"the", b"on"]
  monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\r\n".join(lines))))
  with servers.running(exported_text.path, served_text.session) as (backend, urls):
    backend.max_batch_size = 2
    status, out, _ = ask(
      capsys, f"--url={urls['http']}", "--batch_size=2", "--signature=elbo", "--format=jsonl"
    )
  assert status == 0
  expected = served_text("elbo", np.array(lines, object))["elbo"]
  found = [json.loads(line)["elbo"] for line in out.splitlines()]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@BOTH
def test_headers_go_with_every_request(kind, urls, backend, file, capsys):
  headers = ("--header=Authorization: Bearer a b", "--header=x-team:me")
  assert ask(capsys, f"--url={urls[kind]}", *headers, file)[0] == 0
  assert backend.headers["authorization"] == "Bearer a b" and backend.headers["x-team"] == "me"


@pytest.mark.parametrize(("alphabet", "characters"), [("standard", b"+/"), ("urlsafe", b"-_")])
def test_bytes_are_sent_in_the_alphabet_asked_for(alphabet, characters, urls, backend, tmp_path, capsys):
  (tmp_path / "x.png").write_bytes(b"\xfb\xef\xbe\xff\xff\xff")
  backend.bodies.clear()
  ask(capsys, f"--url={urls['http']}", f"--base64={alphabet}", "--signature=encode", str(tmp_path / "x.png"))
  [body] = backend.bodies
  sent = json.loads(body)["inputs"]["image_bytes"][0]["b64"].encode()
  assert set(sent) & set(b"+/-_") == set(characters)


@pytest.mark.parametrize("text", ["++++", "----", "//8=", "__8", "_-8="])
def test_bytes_of_an_answer_are_read_in_both_alphabets(text):
  from tf_savae.serving import rest

  usual = text.replace("-", "+").replace("_", "/").ljust(4, "=")
  import base64

  [found] = rest._to_array([{"b64": text}], np.object_)
  assert found == base64.b64decode(usual)


@pytest.fixture(scope="module")
def encrypted(exported, served, tmp_path_factory):
  if shutil.which("openssl") is None:
    pytest.skip("no openssl, which makes the certificate")
  pair = servers.certificate(tmp_path_factory.mktemp("tls"))
  with servers.running(exported.path, served.session, pair) as (_, urls):
    yield urls, pair[1]


@BOTH
def test_an_encrypted_server_is_asked_with_its_authority(kind, encrypted, file, x, capsys, served):
  urls, authority = encrypted
  status, out, error = ask(capsys, f"--url={urls[kind]}", f"--ca_file={authority}", file)
  assert status == 0, error
  np.testing.assert_allclose(json.loads(out)["mean"], served("encode", x)["mean"], rtol=1e-5, atol=1e-6)


def test_tls_is_the_same_as_grpcs(encrypted, file, capsys):
  urls, authority = encrypted
  url = urls["grpc"].replace("grpcs", "grpc")
  assert ask(capsys, f"--url={url}", "--tls", f"--ca_file={authority}", file)[0] == 0


@BOTH
def test_a_certificate_that_is_not_trusted_is_one_line_at_once(kind, encrypted, file, capsys):
  status, _, error = ask(capsys, f"--url={encrypted[0][kind]}", "--retries=2", file)
  assert status == 1 and "TLS fails" in error and "give its authority's file with --ca_file" in error


@pytest.mark.parametrize(
  ("arguments", "status", "message"),
  [
    (
      ["--url=http://h:1", "--tls"],
      1,
      "--tls and --ca_file are for encrypted connections; received 'http://h:1'",
    ),
    (["--url=grpc://h:1", "--ca_file=c"], 1, "add --tls"),
    (["--url=https://h:1", "--ca_file=/nowhere"], 1, "--ca_file=/nowhere is no file"),
    (["--header=nonsense"], 2, "--header must be Name: value, in ASCII"),
    (["--header=x-bin: 1"], 2, "--header must be"),
    (["--batch_size=0"], 2, "--batch_size must be a whole number, 1 or more"),
    (["--version=99999999999999999999"], 1, "--version is a number up to 9223372036854775807, or a label"),
    (["--url=grpc://h:1", "--version=99999999999999999999"], 1, "--version is a number up to"),
  ],
)
def test_a_wrong_connection_is_one_line(arguments, status, message, capsys):
  found, _, error = ask(capsys, *arguments, "x.npy")
  assert found == status and message in error


def test_headers_do_not_follow_a_redirection(monkeypatch):
  server = transport.connect("http://h:1", "savae", headers={"authorization": "secret"}, retries=0)
  seen = {}

  class Answer:
    status_code, text = 302, ""

  def request(verb, url, **options):
    seen.update(options)
    return Answer()

  monkeypatch.setattr(server._session, "request", request)
  with pytest.raises(UserError, match="HTTP 302"):
    _ = server.signatures
  assert seen["allow_redirects"] is False
