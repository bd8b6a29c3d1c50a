"""The client gets the model's answers over HTTP and gRPC, and says in one line why it does not."""

import csv
import io
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import requests
import server as servers
import tensorflow as tf

from tf_savae.commands import client
from tf_savae.errors import UserError
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
  return running[0]


@pytest.fixture
def x():
  return (np.random.default_rng(2).random([3, 28, 28, 1]) < 0.3).astype(np.float32)


@pytest.fixture
def pngs(tmp_path):
  paths = [tmp_path / f"{i}.png" for i in range(2)]
  for path, ink in zip(paths, images.example_drawings(2, 105, 105), strict=True):
    path.write_bytes(images.encode_png(ink))
  return [str(path) for path in paths]


def ask(capsys, *arguments):
  """Exit status, standard output, and standard error, which is a line or nothing."""
  status = client.main(["client", *arguments])
  out, err = capsys.readouterr()
  assert err.count("\n") == (1 if status else 0), err
  return status, out, err


@pytest.mark.parametrize(("kind", "by_row"), [("http", False), ("http", True), ("grpc", False)])
@pytest.mark.parametrize("signature", ["encode", "encode_refined", "reconstruct"])
def test_answers_are_the_model_s(kind, by_row, signature, urls, x, served):
  with transport.connect(urls[kind], "savae", by_row=by_row) as server:
    answer = server.predict(signature, x)
  for name, value in served(signature, x).items():
    assert answer[name].dtype == np.float32
    np.testing.assert_allclose(answer[name], value, rtol=1e-6, atol=1e-6)
  np.testing.assert_allclose(answer.get("mean", 0), served(signature, x).get("mean", 0), rtol=1e-6, atol=1e-6)


@BOTH
def test_posteriors_from_the_server_are_those_of_the_keras_model(kind, urls, x, exported):
  with transport.connect(urls[kind], "savae") as server:
    answer = server.predict("encode", x)
  mean, log_var = exported.model.encode(tf.constant(x))
  np.testing.assert_allclose(answer["mean"], mean, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(answer["log_var"], log_var, rtol=1e-5, atol=1e-6)


@BOTH
def test_png_files_go_to_the_png_twin_of_a_signature(kind, urls, pngs, capsys, served):
  status, out, _ = ask(capsys, f"--url={urls[kind]}", "--signature=encode_refined", *pngs)
  assert status == 0
  data = np.array([Path(path).read_bytes() for path in pngs], object)
  expected = served("encode_refined_png", data)
  answer = json.loads(out)
  assert answer.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(answer[name], value, rtol=1e-5, atol=1e-6)


def test_arrays_of_one_row_and_of_a_batch_make_one_batch_and_csv_has_a_line_a_row(
  urls, x, tmp_path, capsys, served
):
  np.save(tmp_path / "one.npy", x[0])
  np.save(tmp_path / "two.npy", x[1:])
  files = [str(tmp_path / name) for name in ("one.npy", "two.npy")]
  status, out, _ = ask(capsys, f"--url={urls['http']}", "--signature=elbo", "--format=csv", *files)
  assert status == 0
  rows = list(csv.DictReader(io.StringIO(out)))
  assert [float(row["elbo"]) for row in rows] == pytest.approx(served("elbo", x)["elbo"].tolist(), rel=1e-6)


def test_npz_holds_the_arrays(urls, x, tmp_path, capsys, served):
  np.save(tmp_path / "x.npy", x)
  output = tmp_path / "answer.npz"
  arguments = (f"--url={urls['http']}", "--format=npz", f"--output={output}", str(tmp_path / "x.npy"))
  assert ask(capsys, *arguments)[0] == 0
  np.testing.assert_allclose(np.load(output)["mean"], served("encode", x)["mean"], rtol=1e-6, atol=1e-6)


@BOTH
def test_a_label_or_a_number_chooses_the_version(kind, urls, x):
  for version in ("1", "stable"):
    with transport.connect(urls[kind], "savae", version=version) as server:
      assert server.predict("encode", x)["mean"].shape == (3, 3)
  for version in ("2", "canary"):
    with (
      transport.connect(urls[kind], "savae", version=version) as server,
      pytest.raises(UserError, match=f"does not serve model 'savae', version '{version}'"),
    ):
      server.predict("encode", x)


@BOTH
def test_a_server_that_is_starting_is_asked_again(kind, urls, backend, x):
  backend.failures = 2
  with transport.connect(urls[kind], "savae", retries=2) as server:
    assert len(server.predict("encode", x)["mean"]) == 3
  backend.failures = 2
  with (
    transport.connect(urls[kind], "savae", retries=1) as server,
    pytest.raises(UserError, match="2 attempts"),
  ):
    server.predict("encode", x)
  assert backend.failures == 0


@BOTH
def test_a_server_that_does_not_answer_is_not_waited_for(kind, urls, backend, x):
  backend.is_slow = True
  try:
    start = time.monotonic()
    with (
      transport.connect(urls[kind], "savae", timeout=0.2, retries=0) as server,
      pytest.raises(UserError, match=r"no answer within 0\.2 s"),
    ):
      server.predict("encode", x)
    assert time.monotonic() - start < 4
  finally:
    backend.is_slow = False


def test_names_of_nodes_are_no_part_of_what_a_server_says():
  message = (
    "assertion failed: [label must be] [77]\n\t [[{{function_node __inference_<lambda>_1}}{{node A/B}}]]"
  )
  assert (
    remote.said(message) == remote.said(message.split("\n")[0] + " [[{{node A}}]]") == message.split("\n")[0]
  )


@BOTH
def test_a_server_that_is_down_is_said_to_be_down(kind, capsys, pngs, monkeypatch):
  monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
    status, _, error = ask(capsys, f"--url={kind}://127.0.0.1:{port}", "--retries=1", *pngs)
  assert status == 1
  assert "no connection" in error and f":{port}" in error


@BOTH
@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--model=other"], "does not serve model 'other'"),
    (["--signature=encod"], "no signature 'encod'; it has decode, elbo"),
    (["--signature=decode"], "'decode' takes no PNG files; name one of elbo, encode,"),
  ],
)
def test_a_wrong_request_is_one_clear_line(kind, arguments, message, urls, pngs, capsys):
  status, _, error = ask(capsys, f"--url={urls[kind]}", *arguments, *pngs)
  assert status == 1
  assert message in error


@BOTH
def test_a_form_that_needs_a_file_is_refused_before_a_server_is_asked(kind, urls, pngs, capsys):
  status, _, error = ask(capsys, f"--url={urls[kind]}", "--format=npz", *pngs)
  assert status == 2
  assert "--format=npz needs an --output file" in error


@BOTH
def test_what_is_no_png_is_the_server_s_to_refuse_and_it_stays_up(kind, urls, tmp_path, pngs, capsys):
  (tmp_path / "text.png").write_text("not a picture")
  flags = (f"--url={urls[kind]}", "--signature=encode")
  status, _, error = ask(capsys, *flags, str(tmp_path / "text.png"))
  assert status == 1
  assert "image_bytes must be PNG files" in error
  assert ask(capsys, *flags, *pngs)[0] == 0


@pytest.mark.parametrize(
  ("batch", "message"),
  [
    (
      np.zeros([2, 27, 28, 1], np.float32),
      r"must have the shape \[batch, 28, 28, 1\]; received \[2, 27, 28, 1\]",
    ),
    (np.zeros([28, 28], np.float32), r"must have the shape"),
    (np.zeros([0, 28, 28, 1], np.float32), "is empty"),
    (np.array(["text"], object), "takes float32; received strings"),
  ],
)
def test_a_batch_that_does_not_fit_is_not_sent(batch, message, urls, backend):
  with transport.connect(urls["http"], "savae") as server:
    assert server.signatures
    before = backend.requests
    with pytest.raises(UserError, match=message):
      server.predict("encode", batch)
  assert backend.requests == before


@pytest.mark.parametrize("arguments", [["--retries=-1"], ["--format=xml"], ["--nonsense=1"]])
def test_a_wrong_flag_is_one_line_and_status_2(arguments, capsys):
  assert ask(capsys, *arguments)[0] == 2


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--url=localhost:8501", "a.png"], "--url must be"),
    (["--signature=encode", "missing.png"], "cannot read missing.png"),
    ([], "no files"),
  ],
)
def test_what_cannot_be_sent_is_one_line(arguments, message, urls, capsys):
  status, _, error = ask(capsys, f"--url={urls['http']}", *arguments)
  assert status == 1
  assert message in error


@pytest.mark.skipif(
  shutil.which("tensorflow_model_server") is None, reason="no tensorflow_model_server on PATH"
)
def test_the_official_server_answers_as_the_model(exported, x, served, tmp_path):
  with socket.socket() as free, socket.socket() as other:
    free.bind(("127.0.0.1", 0))
    other.bind(("127.0.0.1", 0))
    rest, rpc = free.getsockname()[1], other.getsockname()[1]
  base = exported.path.parent
  ports = [f"--rest_api_port={rest}", f"--port={rpc}"]
  process = subprocess.Popen(
    ["tensorflow_model_server", *ports, "--model_name=savae", f"--model_base_path={base}"]
  )
  try:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
      try:
        if requests.get(f"http://127.0.0.1:{rest}/v1/models/savae/metadata", timeout=5).ok:
          break
      except requests.ConnectionError:
        time.sleep(0.2)
    for url in (f"http://127.0.0.1:{rest}", f"grpc://127.0.0.1:{rpc}"):
      with transport.connect(url, "savae") as server:
        answer = server.predict("encode_refined", x)
      for name, value in served("encode_refined", x).items():
        np.testing.assert_allclose(answer[name], value, rtol=1e-5, atol=1e-5)
  finally:
    process.terminate()
    process.wait()
