"""A download appears under its name complete and verified, or not at all. Served over real loopback HTTP."""

import functools
import http.server
import logging
import threading

import numpy as np
import pytest
import scipy.io

from tf_savae import data
from tf_savae.data import chardata
from tf_savae.data.download import DownloadError, download_verified
from tf_savae.errors import UserError


class Handler(http.server.SimpleHTTPRequestHandler):
  """Serves a folder; `/cut/NAME` promises all of NAME and sends half."""

  def do_GET(self):
    if not self.path.startswith("/cut/"):
      return super().do_GET()
    content = (self.server.root / self.path.removeprefix("/cut/")).read_bytes()
    self.send_response(200)
    self.send_header("Content-Length", str(len(content)))
    self.end_headers()
    self.wfile.write(content[: len(content) // 2])

  def log_message(self, *args):
    pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
  root = tmp_path_factory.mktemp("served")
  bits = np.zeros((784, 24345), np.uint8)
  bits[0, 7] = 1
  scipy.io.savemat(root / "chardata.mat", {"data": bits, "testdata": bits[:, :8070]}, do_compression=True)
  scipy.io.savemat(root / "small.mat", {"data": bits[:, :9], "testdata": bits[:, :9]})
  (root / "page.html").write_text("<html>sign in first</html>")
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=root)) as httpd:
    httpd.root = root
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
  monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_a_good_file_is_put_in_place_and_used(server, tmp_path, capsys):
  load = functools.partial(data.load, "omniglot", data_dir=tmp_path / "new", seed=0, strict=True)
  dataset = load(url=f"{server}/chardata.mat")
  assert dataset.source.startswith("Omniglot, chardata.mat of Burda et al. 2015")
  assert [p.name for p in (tmp_path / "new" / "omniglot").iterdir()] == ["chardata.mat"]
  assert "downloading chardata.mat: 100%" in capsys.readouterr().err
  assert load(download=False).source == dataset.source  # and the second run needs no network


@pytest.mark.parametrize(
  ("path", "why"),
  [
    ("cut/chardata.mat", "the connection to .* broke before the file was complete|ended after"),
    ("page.html", "is unusable: it cannot be read as a MATLAB file"),
    ("small.mat", "is unusable: it is not the published chardata.mat.*Received: 9 and 9"),
    ("absent.mat", "absent.mat answered with status 404"),
  ],
)
def test_anything_else_leaves_no_file_and_says_why_in_one_line(server, tmp_path, path, why):
  target = tmp_path / "chardata.mat"
  with pytest.raises(DownloadError, match=why) as caught:
    download_verified(f"{server}/{path}", target, chardata.verify)
  assert "\n" not in str(caught.value)
  assert list(tmp_path.iterdir()) == []


def test_a_failed_download_falls_to_the_stand_in_with_its_reason_or_is_an_error_if_strict(
  server, tmp_path, caplog
):
  load = functools.partial(data.load, "omniglot", data_dir=tmp_path, seed=0, url=f"{server}/absent.mat")
  with caplog.at_level(logging.WARNING):
    assert load().is_stand_in
  assert "status 404" in caplog.text
  with pytest.raises(UserError, match="status 404"):
    load(strict=True)


def test_a_place_that_cannot_be_written_is_said(server, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(DownloadError, match=r"cannot write .*file/chardata\.mat: "):
    download_verified(f"{server}/chardata.mat", tmp_path / "file" / "chardata.mat", chardata.verify)


def test_an_interrupted_download_leaves_no_file(server, tmp_path):
  def interrupted(path):
    assert path.stat().st_size > 0
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    download_verified(f"{server}/chardata.mat", tmp_path / "chardata.mat", interrupted)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "nonsense"])
def test_no_connection_is_said_in_one_line(tmp_path, url):
  with pytest.raises(DownloadError) as caught:
    download_verified(url, tmp_path / "x", chardata.verify)
  assert "\n" not in str(caught.value)
