"""The command line: every flag is checked at once, and says in one line what it wants."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tf_savae.commands import train
from tf_savae.errors import UserError
from tf_savae.runs import presets
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import open_run

ROOT = Path(__file__).parents[2]


def parse(*arguments):
  return train.COMMAND.parse(["train.py", *arguments]).typed


def build(*arguments):
  return train.build_config(parse(*arguments))


def python(code, *arguments):
  """Runs `code` in a fresh interpreter, at the top of the checkout."""
  environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
  return subprocess.run(
    [sys.executable, "-c", code, *arguments],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )


# Runs train.py's main, then tells whether TensorFlow was imported.
RUN_MAIN = """
import sys, train
status = train.main(["train.py", *sys.argv[1:]])
print("TensorFlow imported:", "tensorflow" in sys.modules)
sys.exit(status)
"""


def test_every_setting_has_a_flag_and_help_with_its_default():
  text = train.COMMAND.help_text()
  for field in dataclasses.fields(RunConfig):
    assert f"--{field.name}\n" in text or f"--[no]{field.name}\n" in text
    assert field.metadata["help"]
    if field.default is not None:
      assert "Default:" in text.split(f"{field.name}\n")[1].split("\n  --")[0]
  for group in ("Run:", "Data:", "Refinement:", "Training:", "Networks:", "Evaluation:", "Machine:"):
    assert f"\n{group}\n" in text


def test_what_is_not_given_is_absent_and_what_is_given_has_its_type():
  assert parse() == {}
  given = parse(
    "--k=5", "--svi_lr", "0.5", "--nodownload", "--decoder_kernels=7,5", "--model=svi", "--eval_only"
  )
  assert given == {
    "k": 5,
    "svi_lr": 0.5,
    "download": False,
    "decoder_kernels": (7, 5),
    "model": "svi",
    "eval_only": True,
  }


def test_a_flag_overrides_the_preset_and_the_last_of_two_wins():
  config, _ = build("--preset=tiny", "--batch_size=7", "--batch_size=9")
  assert config.batch_size == 9
  assert config.latent_dim == presets.values("omniglot", "tiny")["latent_dim"]


def test_flags_can_come_from_a_file(tmp_path):
  file = tmp_path / "my.flags"
  file.write_text("--k=3\n# a remark\n--preset=tiny\n")
  config, _ = build(f"--flagfile={file}", "--seed=4")
  assert (config.k, config.preset, config.seed) == (3, "tiny", 4)


@pytest.mark.parametrize(
  ("argument", "words"),
  [
    ("--k=-1", ["--k must be", "0 or more", "received -1"]),
    ("--k=many", ["--k must be", "whole number", "received many"]),
    ("--k", ["--k"]),
    ("--learning_rate=inf", ["--learning_rate must be", "above 0", "received inf"]),
    ("--model=gan", ["--model must be", "savae", "received gan"]),
    ("--dataset=svhn", ["--dataset must be", "omniglot, images, mnist", "received svhn"]),
    ("--dataset=a\nb", ["--dataset must be", "omniglot", "received a b"]),
    ("--preset=big", ["--preset must be", "auto, paper, small, tiny", "received big"]),
    ("--download=perhaps", ["--download must be", "true or false", "received perhaps"]),
    ("--decoder_kernels=5,,3", ["--decoder_kernels must be", "odd", "received 5,,3"]),
    ("--run_dir=", ["--run_dir must be", "not empty", "received ''"]),
    (
      "--dilations=1,,2",
      ["--dilations must be", "small, medium, large", "separated by commas", "received 1,,2"],
    ),
    ("--plugin=", ["--plugin must be paths in UTF-8 separated by commas", "received ['']"]),
    ("--plugin=a.py,", ["--plugin=", "a.py", "is no file"]),
    ("--max_minutes=long", ["--max_minutes must be", "a number at least 0", "received long"]),
    ("--batchsize=3", ["--batchsize", "did you mean --batch_size"]),
    ("--nok", ["--nok", "--help"]),
    ("--no-download", ["did you mean --nodownload?"]),
    ("omniglot", ["'omniglot'", "--help"]),
    ("--flagfile=/no/such/file", ["/no/such/file"]),
  ],
)
def test_a_wrong_argument_is_answered_with_one_line(argument, words):
  with pytest.raises(UserError) as caught:
    parse(argument)
  assert "\n" not in str(caught.value)
  for word in words:
    assert word in str(caught.value)


def test_the_first_line_says_which_preset_and_why(monkeypatch):
  monkeypatch.setattr(presets, "_gpu_is_visible", lambda: False)
  config, line = build("--k=5")
  assert config.preset == "small"
  assert "small" in line
  assert "no GPU is visible" in line
  assert config.run_dir in line
  assert "as asked for" in build("--preset=tiny")[1]


def test_auto_keeps_the_preset_of_the_run_it_goes_on_with(monkeypatch, tmp_path):
  run_dir = f"--run_dir={tmp_path / 'run'}"
  open_run(build("--preset=tiny", run_dir)[0]).close()
  monkeypatch.setattr(presets, "_gpu_is_visible", lambda: True)
  assert build(run_dir)[0].preset == "tiny"


def test_evaluation_takes_the_settings_of_the_run_and_only_what_is_given_besides(tmp_path):
  run_dir = f"--run_dir={tmp_path / 'run'}"
  trained = build("--preset=tiny", "--model=svi", "--k=7", "--latent_dim=5", run_dir)[0]
  open_run(trained).close()
  config, line = build("--eval_only", "--eval_k=40", run_dir)
  assert config == dataclasses.replace(trained, eval_only=True, eval_k=40)
  assert line.startswith("evaluate svi")
  open_run(config).close()
  with pytest.raises(UserError, match="--k was 7 in this run directory, received 8"):
    open_run(build("--eval_only", "--k=8", run_dir)[0])


def test_dilations_have_names_and_can_be_listed():
  assert parse("--dilations=large") == {"dilations": "large"}
  assert parse("--dilations=1,2,9") == {"dilations": (1, 2, 9)}


def test_a_file_to_evaluate_on_goes_with_a_run_on_text(tmp_path):
  run_dir = f"--run_dir={tmp_path / 'run'}"
  trained = build("--dataset=yahoo", "--preset=tiny", "--decoder=dilated_conv", run_dir)[0]
  open_run(trained).close()
  config, _ = build("--eval_only", "--eval_file=mine.txt", run_dir)
  assert config == dataclasses.replace(trained, eval_only=True, eval_file="mine.txt")
  with pytest.raises(UserError, match="needs a trained run"):
    open_run(build("--eval_only", "--eval_file=mine.txt", f"--run_dir={tmp_path / 'other'}")[0])
  images = f"--run_dir={tmp_path / 'images'}"
  open_run(build("--preset=tiny", images)[0]).close()
  with pytest.raises(UserError, match="--eval_file is for runs on text; received mine"):
    build("--eval_only", "--eval_file=mine.txt", images)


def test_a_default_is_said_once_for_data_sets_that_share_it():
  text = " ".join(train.COMMAND.help_text().split("--vocab_size\n")[1].split("\n  --")[0].split())
  assert text.endswith("Default: 20000 (paper), 2000 (small), 100 (tiny).")


@pytest.mark.slow
def test_help_and_wrong_flags_answer_before_tensorflow_is_imported():
  for arguments, status in ((["--help"], 0), (["--k=-1"], 2), (["--kk=3"], 2)):
    done = python(RUN_MAIN, *arguments)
    assert done.returncode == status
    assert done.stdout.endswith("TensorFlow imported: False\n")
    if status:
      assert done.stderr.startswith("error: ")
      assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_run_that_cannot_start_ends_with_one_line_and_status_1(tmp_path):
  (tmp_path / "file").write_text("")
  done = python(RUN_MAIN, "--preset=tiny", "--dataset=synthetic", f"--run_dir={tmp_path / 'file'}")
  assert done.returncode == 1
  lines = done.stderr.splitlines()
  assert len(lines) == 1, done.stderr  # not a line of TensorFlow's log either
  assert lines[0].startswith("error: --run_dir=")
  assert done.stdout.splitlines()[0].startswith("train savae on synthetic, K = 20, preset tiny")
