"""README is a promise: its Python runs, and the flags it names exist."""

import re
from pathlib import Path

import pytest
from absl import flags

from benchmarks import serving
from export import client, savedmodel, serving_config
from tf_savae.commands.generate_settings import GenerateSettings
from tf_savae.runs.config import RunConfig

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
LINES = README.replace("\\\n", "").splitlines()  # a command that goes on in the next line is one
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)

# Commands whose flags are not settings of a run.
SERVING = (savedmodel, serving_config, client, serving)


def test_there_are_examples_of_own_images_and_of_own_networks():
  assert len(EXAMPLES) == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_runs(number, capsys):
  exec(compile(EXAMPLES[number], f"README example {number}", "exec"), {"__name__": "__main__"})
  assert "nan" not in capsys.readouterr().out


def test_every_flag_named_exists():
  # Other programs have flags of their own.
  theirs = ("benchmarks.", "docker ", "curl ")
  ours = "\n".join(line.partition("pytest")[0] for line in LINES if not any(name in line for name in theirs))
  named = set(re.findall(r"--(?:no)?([a-z_]+)", ours.replace("tensorboard --logdir", "")))
  assert len(named) > 10
  known = RunConfig.__dataclass_fields__.keys() | GenerateSettings.__dataclass_fields__.keys()
  assert named - {"help"} <= known.union(*map(flags_of, SERVING))


def flags_of(module):
  values = flags.FlagValues()
  module._define(values)
  return set(values)


@pytest.mark.parametrize("module", SERVING, ids=lambda module: module.__name__)
def test_every_flag_of_a_command_is_one_of_that_command(module):
  commands = [line for line in LINES if f"-m {module.__name__} " in line]
  assert commands
  for command in commands:
    assert set(re.findall(r" --([a-z_]+)", command.partition("#")[0])) <= flags_of(module), command


def test_files_and_modules_named_exist():
  root = Path(__file__).parents[1]
  for link in re.findall(r"\]\(([^)h#][^)]*)\)", README):
    assert (root / link).exists(), link
  for module in re.findall(r"python -m (benchmarks[.\w]*|export[.\w]*|tf_savae[.\w]*)", README):
    path = root / module.replace(".", "/")
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_headings_linked_to_exist():
  headings = re.findall(r"^#+ (.*)$", README, flags=re.MULTILINE)
  anchors = {heading.lower().replace(" ", "-") for heading in headings}
  linked = set(re.findall(r"\]\(#([^)]*)\)", README))
  assert linked and linked <= anchors
