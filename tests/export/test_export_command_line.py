"""The commands answer a wrong flag, a missing one and --help at once, in one line, without TensorFlow."""

import subprocess
import sys
from pathlib import Path

import pytest

from tf_savae.commands import export
from tf_savae.serving.version_dir import versions

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
  ("arguments", "status", "message"),
  [
    (["--run_dri=x"], 2, "unknown flag --run_dri; did you mean --run_dir?"),
    (["--seed=-1"], 2, "--seed must be a whole number, from 0 to 2147483647; received -1"),
    ([], 2, "--run_dir is needed"),
    (["--run_dir=x"], 2, "--output is needed"),
    (["--run_dir=x", "--output=y", "--k=5,x"], 2, "--k must be whole numbers"),
    (["--run_dir=x", "--output=y", "--k=5,5"], 2, "each once"),
    (["--run_dir=x", "--output=y", "z"], 2, "unexpected argument 'z'"),
    (["--run_dir=/nowhere", "--output=y"], 1, "--run_dir=/nowhere is no directory"),
  ],
)
def test_a_wrong_command_line_is_one_line(arguments, status, message, capsys):
  assert export.main(["export", *arguments]) == status
  out, err = capsys.readouterr()
  assert not out
  assert err.startswith("error: ") and err.count("\n") == 1
  assert message in err


def test_an_output_that_cannot_be_written_is_one_line(exported, tmp_path, capsys):
  (tmp_path / "file").touch()
  assert export.main(["export", f"--run_dir={exported.run_dir}", f"--output={tmp_path / 'file'}"]) == 1
  assert "error: cannot write in --output=" in capsys.readouterr().err
  assert versions(tmp_path / "file") == []


@pytest.mark.parametrize(
  ("module", "command"),
  [("savedmodel", "export"), ("serving_config", "serving_config"), ("client", "client")],
)
def test_help_needs_no_tensorflow(module, command):
  code = (
    f"import sys; from export import {module}; status = {module}.main(['x', '--help']); "
    "sys.exit(status or 'tensorflow' in sys.modules)"
  )
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert f"python -m tf_savae {command}" in done.stdout
  assert "--output" in done.stdout
