"""The flag layer: what holds for every command, and what one declaration gives."""

import logging
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from absl import logging as absl_logging

import tf_savae
from tf_savae import __main__ as program
from tf_savae.commands import COMMANDS
from tf_savae.commands.flags import Command, Flag
from tf_savae.errors import UserError
from tf_savae.runs.options import Rule, each_once, number, one_of, optional, switch, text, whole, whole_list

ROOT = Path(__file__).parents[2]
OTHER = {"synthetic": "experiments.synthetic", "serving": "benchmarks.serving"}
# How each command can be called.
CALLS = [
  ["train.py"],
  *(["-m", "tf_savae", name] for name in COMMANDS),
  *(["-m", f"tf_savae.commands.{name}"] for name in COMMANDS),
  *(["-m", f"export.{name}"] for name in ("savedmodel", "client", "serving_config")),
  *(["-m", module] for module in OTHER.values()),
]


def call(*arguments, code=None, **variables):
  """Runs Python at the top of the checkout."""
  environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
  start = ["-c", code] if code else []
  return subprocess.run(
    [sys.executable, *start, *arguments],
    cwd=ROOT,
    env=environment | variables,
    capture_output=True,
    text=True,
    errors="replace",
    timeout=60,
    check=False,
  )


# Every command --------------------------------------------------------------------------------------------------


def command_of(name):
  if name in COMMANDS:
    return program.command(name)
  return __import__(OTHER[name], fromlist=["COMMAND"]).COMMAND


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_every_way_to_call_a_command_shows_its_help_without_tensorflow(arguments, tmp_path):
  (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow is imported')")
  done = call(*arguments, "--help", PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith("usage: python ") and "Every command:" in done.stdout
  assert not done.stderr


@pytest.mark.parametrize("name", [*COMMANDS, *OTHER])
def test_every_command_refuses_a_wrong_flag_in_one_line_and_reads_a_file_of_flags(name, tmp_path, capsys):
  command = command_of(name)
  assert command.main([name, "--hepl"]) == 2
  out, err = capsys.readouterr()
  assert err == "error: unknown flag --hepl; did you mean --help? --help lists them all\n" and not out
  file = tmp_path / "my.flags"
  file.write_text("# a remark\n--help\n")
  assert command.main([name, f"--flagfile={file}"]) == 0
  shown = capsys.readouterr().out
  assert shown == command.help_text() + "\n"
  for flag in command.flags():
    assert f"\n  --{flag.name}\n" in shown or f"\n  --[no]{flag.name}\n" in shown
  file.write_text("--nosuchflag=3\n")
  assert command.main([name, f"--flagfile={file}"]) == 2
  assert capsys.readouterr().err.startswith("error: unknown flag --nosuchflag")
  assert command.main([name, f"--flagfile={tmp_path / 'none'}"]) == 2
  assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", [*COMMANDS, *OTHER])
def test_every_command_has_short_help_xml_and_verbosity(name, capsys):
  command = command_of(name)
  assert command.main([name, "-h"]) == 0
  assert capsys.readouterr().out == command.help_text() + "\n"
  assert command.main([name, "--helpxml"]) == 0
  names = {element.text for element in ET.fromstring(capsys.readouterr().out).iter("name")}
  assert {flag.name for flag in command.flags()} <= names
  assert command.main([name, "--verbosity=loud"]) == 2
  assert "--verbosity must be a whole number, from -3 to 3; received loud" in capsys.readouterr().err


@pytest.mark.parametrize(
  "name", sorted({*COMMANDS, *OTHER} - {"client"})
)  # the client's is the model's version
def test_every_command_says_its_version(name, capsys):
  assert command_of(name).main([name, "--version"]) == 0
  assert capsys.readouterr().out == f"tf_savae {tf_savae.__version__}\n"


def test_the_program_lists_its_commands_and_refuses_others(capsys):
  assert program.main(["tf_savae", "--help"]) == 0
  out = capsys.readouterr().out
  assert all(f"\n  {name} " in out for name in COMMANDS)
  for words, message in (
    (["sweeep"], "received sweeep; did you mean sweep? one of train, evaluate"),
    ([], "received none; one of train"),
    (["--run_dir=x"], "received --run_dir=x; "),
  ):
    assert program.main(["tf_savae", *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
  assert program.main(["tf_savae", "--version"]) == 0
  assert program.main(["tf_savae", "sweep"]) == 2
  assert "--run_dir is needed" in capsys.readouterr().err


# One declaration ------------------------------------------------------------------------------------------------


def toy(work=print, **settings):
  flags = [
    Flag("k", 20, whole(0), "steps"),
    Flag("rate", None, optional(number(above=0)), "of learning", shown_default="the best"),
    Flag("kernel", "flat", one_of("flat", "round"), "its form", group="Forms"),
    Flag("sizes", (3, 5), each_once(whole_list(1)), "of it", group="Forms"),
    Flag("fast", False, switch(), "be quick"),
    Flag("name", "β", text(), "what it is called"),
  ]
  return Command("toy", "Does nothing.", lambda: flags, work, **settings)


def parse(*arguments, **settings):
  return toy(**settings).parse(["toy", *arguments])


def test_values_are_the_defaults_unless_they_are_given():
  assert parse().settings == {
    **{"k": 20, "rate": None, "kernel": "flat", "sizes": (3, 5), "fast": False, "name": "β"}
  }
  given = parse("--k=3", "--rate", "0.5", "--fast", "--sizes=2,1")
  assert (given.k, given.rate, given.fast, given.sizes) == (3, 0.5, True, (2, 1))
  assert given.typed == {"k": 3, "rate": 0.5, "fast": True, "sizes": (2, 1)}
  assert parse("--fast", "--nofast").fast is False


@pytest.mark.parametrize("words", [["-k", "7"], ["-k=7"], ["--k", "7"], ["--k=7"], ["--k=3", "-k", "7"]])
def test_one_dash_and_the_full_name_mean_the_flag(words):
  assert parse(*words).typed == {"k": 7}


@pytest.mark.parametrize(
  "words", [["-r", "1"], ["--rat=1"], ["--ker=flat"], ["-f"], ["-k7"], ["--nofas"], ["-n"]]
)
def test_an_abbreviation_is_an_error(words):
  with pytest.raises(UserError, match="unknown flag --"):
    parse(*words)


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--k=-1"], "--k must be a whole number, 0 or more; received -1"),
    (["--k="], "--k must be a whole number, 0 or more; received ''"),
    (["--kernel=a\nb"], "--kernel must be one of flat, round; received a b"),
    (
      ["--sizes=1,1"],
      "--sizes must be whole numbers of at least 1 separated by commas, each once; received 1,1",
    ),
    (["--fast=perhaps"], "--fast must be true or false; received perhaps"),
    (["--nofast=true"], "--nofast=true does not take an argument"),
    (["--k"], "Missing value for flag --k"),
    (["7"], "unexpected argument '7': settings are given as --name=value; see --help"),
  ],
)
def test_a_wrong_command_line_is_one_line(words, message):
  with pytest.raises(UserError) as caught:
    parse(*words)
  assert str(caught.value) == message


def test_arguments_stand_among_flags_and_after_two_dashes_are_taken_as_they_are():
  given = parse("a", "--k=3", "b", "--", "--fast", takes_arguments=True)
  assert given.arguments == ("a", "b", "--fast") and given.k == 3 and not given.fast


def test_help_shows_groups_values_and_defaults():
  lines = toy(program="python toy.py").help_text().splitlines()
  assert lines[0] == "usage: python toy.py [--name=value ...]"
  assert (
    lines.index("Settings:") < lines.index("  --rate") < lines.index("Forms:") < lines.index("  --kernel")
  )
  for line in (
    "steps. A whole number, 0 or more. Default: 20.",
    "of learning. A number above 0. Default: the best.",
    "of it. Whole numbers of at least 1 separated by commas, each once. Default: 3,5.",
    "be quick. Default: false.",
  ):
    assert f"      {line}" in lines
  assert "  --[no]fast" in lines


def test_exit_statuses(capsys):
  def fails(_):
    raise UserError("no such run")

  def stopped(_):
    stop = KeyboardInterrupt("all is saved")
    stop.signal = 15
    raise stop

  def stops(_):
    raise KeyboardInterrupt

  for work, status, line in (
    (fails, 1, "error: no such run\n"),
    (stops, 130, "interrupted\n"),
    (stopped, 143, "interrupted: all is saved\n"),
    (lambda _: None, 0, ""),
  ):
    assert toy(work).main(["toy"]) == status
    assert capsys.readouterr().err == line
  assert toy(lambda _: None, prepare=fails).main(["toy"]) == 2
  assert capsys.readouterr().err == "error: no such run\n"


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["train", "--helpxml"]], ids=" ".join)
def test_a_full_disk_under_the_output_is_one_line(words):
  with open("/dev/full", "w") as full:
    done = subprocess.run(
      [sys.executable, "-m", "tf_savae", *words], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, timeout=60
    )
  assert done.returncode == 1
  assert done.stderr == b"error: cannot write what the command prints: No space left on device\n"


def test_a_repeated_flag_collects_its_values():
  words = Rule("words", parse=lambda given: tuple(given.split("+")), accepts=lambda value: "bad" not in value)
  command = Command("toy", "", lambda: [Flag("word", (), words, "a word", is_repeated=True)], print)
  assert command.parse(["toy"]).word == ()
  assert command.parse(["toy", "--word=a", "--word=b c+d"]).word == ("a", "b c", "d")
  with pytest.raises(UserError, match="--word must be words; received a,bad"):
    command.parse(["toy", "--word=a", "--word=bad"])


def test_verbosity_sets_the_logs_of_absl_and_tensorflow(monkeypatch):
  monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
  logger, before = logging.getLogger("tensorflow"), absl_logging.get_verbosity()
  level = logger.level
  seen = []
  try:
    toy(lambda _: seen.append((absl_logging.get_verbosity(), logger.level))).main(["toy", "--verbosity=-2"])
    assert seen == [(-2, logging.ERROR)] and os.environ["TF_CPP_MIN_LOG_LEVEL"] == "2"
  finally:
    absl_logging.set_verbosity(before)
    logger.setLevel(level)


# Terminals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  "variables",
  [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "latin-1"},
  ],
  ids=str,
)
def test_help_prints_on_every_terminal(variables):
  done = call(
    "train.py",
    "--help",
    PYTHONUTF8=variables.get("PYTHONUTF8", ""),
    **{name: value for name, value in variables.items() if name != "PYTHONUTF8"},
  )
  assert done.returncode == 0, done.stderr
  assert "Traceback" not in done.stderr and "--svi_momentum" in done.stdout


def test_what_a_terminal_lacks_is_written_in_letters_that_it_has():
  code = (
    "import sys; from tf_savae.commands.terminal import transliterate as t; t();"
    "print('α λ_0 −ELBO ± 1 σ² é 火 \\udcff…'); print('β', file=sys.stderr)"
  )
  done = call(code=code, PYTHONIOENCODING="ascii")
  assert done.stdout == "alpha lambda_0 -ELBO +- 1 sigma^2 e \\u706b \\udcff...\n"
  assert done.stderr == "beta\n"


def test_what_a_user_chose_for_such_characters_stays():
  code = "from tf_savae.commands.terminal import transliterate as t; t(); print('aαb')"
  assert call(code=code, PYTHONIOENCODING="ascii:replace").stdout == "a?b\n"


def test_a_reader_that_goes_away_ends_help_quietly():
  command = f"{sys.executable} train.py --help | head -1"
  done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.stdout == "usage: python train.py [--name=value ...]\n" and not done.stderr
