"""README is a promise: its Python runs, and the flags it names exist."""

import re
from pathlib import Path

import pytest

from tf_savae.generate.settings import GenerateSettings
from tf_savae.training.config import RunConfig

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_there_are_examples_of_own_images_and_of_own_networks():
  assert len(EXAMPLES) == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_runs(number, capsys):
  exec(compile(EXAMPLES[number], f"README example {number}", "exec"), {"__name__": "__main__"})
  assert "nan" not in capsys.readouterr().out


def test_every_flag_named_exists():
  # Other programs have flags of their own.
  ours = "\n".join(line.partition("pytest")[0] for line in README.splitlines() if "benchmarks." not in line)
  named = set(re.findall(r"--(?:no)?([a-z_]+)", ours.replace("tensorboard --logdir", "")))
  assert len(named) > 10
  assert (
    named - {"help"} <= RunConfig.__dataclass_fields__.keys() | GenerateSettings.__dataclass_fields__.keys()
  )


def test_files_and_modules_named_exist():
  root = Path(__file__).parents[1]
  for link in re.findall(r"\]\(([^)h#][^)]*)\)", README):
    assert (root / link).exists(), link
  for module in re.findall(r"python -m (benchmarks[.\w]*|tf_savae[.\w]*)", README):
    path = root / module.replace(".", "/")
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_headings_linked_to_exist():
  headings = re.findall(r"^#+ (.*)$", README, flags=re.MULTILINE)
  anchors = {heading.lower().replace(" ", "-") for heading in headings}
  linked = set(re.findall(r"\]\(#([^)]*)\)", README))
  assert linked and linked <= anchors
