"""Folders of versions are read as a server reads them, and nothing in them is left to guess."""

import pytest

from tf_savae.commands import export, serving_config
from tf_savae.errors import UserError
from tf_savae.serving import version_dir
from tf_savae.serving.version_dir import new_version, versions

LARGEST = 2**63 - 1


def folders(path, *names):
  for name in names:
    (path / name).mkdir(parents=True)
  return path


def written(path):
  with new_version(path) as (number, new):
    (new / "saved_model.pb").touch()
  return number


@pytest.mark.parametrize(
  ("names", "expected"),
  [
    ((), []),
    (("1", "10", "2"), [1, 2, 10]),
    (("0003", "v2", "²", "1.5", "-1", "latest"), [3]),
    ((str(LARGEST + 1), "1"), [1]),  # beyond int64: a server passes over it
    ((str(LARGEST),), [LARGEST]),
  ],
)
def test_versions_are_the_numbers_that_a_server_reads(names, expected, tmp_path):
  assert versions(folders(tmp_path / "model", *names)) == expected


@pytest.mark.parametrize(
  ("names", "number"), [((), 1), (("0003", "v9"), 4), ((str(LARGEST + 1), "7"), 8), (("1", "3"), 4)]
)
def test_the_next_version_is_newer_than_all_that_a_server_sees(names, number, tmp_path):
  model = folders(tmp_path / "model", *names)
  assert written(model) == number
  assert versions(model)[-1] == number
  assert set(names) < {path.name for path in model.iterdir()}


def test_a_file_with_the_name_of_a_version_is_refused(tmp_path):
  model = folders(tmp_path / "model", "1")
  (model / "7").touch()
  for act in (lambda: versions(model), lambda: written(model)):
    with pytest.raises(
      UserError, match=r"model/7 is a file, and a server would take it for version 7; move it"
    ):
      act()
  assert {path.name for path in model.iterdir()} == {"1", "7", ".lock"}


def test_two_folders_of_one_version_are_refused(tmp_path):
  model = folders(tmp_path / "model", "3", "0003")
  with pytest.raises(UserError, match="has two folders of one version: 0003 and 3; remove one"):
    versions(model)


def test_after_the_largest_number_there_is_none(tmp_path):
  with pytest.raises(UserError, match=f"no version number is left: .* has {LARGEST}; name another"):
    written(folders(tmp_path / "model", str(LARGEST)))


def test_a_version_is_not_taken_for_the_folder_of_versions(tmp_path):
  model = tmp_path / "model"
  written(model)
  with pytest.raises(UserError, match=r"--output=.*model/1 is a version itself.*; name the folder above it"):
    written(model / "1")
  with pytest.raises(UserError, match=r"--m=1 is a version itself"):
    version_dir.check_model_dir(model / "1", "--m=1")


@pytest.mark.parametrize(
  "url", ["gs://bucket/model", "s3://b/m", "https://host/m", "hdfs://h:1/m", "file:///tmp/m"]
)
def test_a_url_is_one_line_and_no_folder_appears(url, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  commands = (
    (export, [f"--output={url}", "--run_dir=r"]),
    (export, ["--output=m", f"--run_dir={url}"]),
    (serving_config, [f"--model_dir={url}", "--output=o"]),
    (serving_config, ["--model_dir=m", f"--output={url}"]),
  )
  for command, arguments in commands:
    assert command.main(["x", *arguments]) == 2
    error = capsys.readouterr().err
    assert (
      error.count("\n") == 1
      and f"a path on this machine in UTF-8, not empty and not a URL; received {url}" in error
    )
  with pytest.raises(UserError, match="is a URL, and versions are written to a local folder"):
    written(tmp_path.__class__(url))
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("names", "message"),
  [
    ((), "holds no version;"),
    (
      ("v2", "latest"),
      "holds no version, which is a whole number up to 9223372036854775807; it has latest, v2;",
    ),
    (None, "does not exist;"),
  ],
)
def test_serving_config_says_what_it_found_instead_of_versions(names, message, tmp_path, capsys):
  model = tmp_path / "model"
  if names is not None:
    model.mkdir()
    folders(model, *names)
  assert serving_config.main(["x", f"--model_dir={model}", f"--output={tmp_path / 'out'}"]) == 1
  assert message in capsys.readouterr().err
