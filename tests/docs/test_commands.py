"""Commands on the pages are accepted with the values that they have, and a newcomer's chain of them runs.

Each line of a `bash` block that calls a command of ours goes through that command's own checks, in this process:
names, values, and what does not fit together. The chain trains on a folder of pictures, reads the result, exports,
writes a server's files, and asks a server.
"""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tf_savae.__main__ import command

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "experiments/SYNTHETIC.md"]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
NEEDS_A_SHELL = re.compile(
  r"[|<>$]|\bfor\b|\brun\b"
)  # loops and pipes of a shell, whose words are not the command's


def lines():
  """(page, words of a command of ours) for each such line."""
  for page in PAGES:
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
      for line in block.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|;", line.partition(" #")[0]):
          is_ours = re.search(r"python (train\.py|-m)|tf-savae ", part) and not NEEDS_A_SHELL.search(part)
          # A line within quotation marks that began before it is an argument of a shell.
          within = part.count("'") % 2 or part.count('"') % 2
          words = ours(shlex.split(part)) if is_ours and not within else None
          if words:
            yield pytest.param(words, id=f"{page.name}: {' '.join(words)[:70]}")


def ours(words):
  """A command's words, beginning with its name: `train …` or the module that has it; None: not one of ours."""
  if not words:
    return None
  if words[0] == "tf-savae":
    return words[1:]
  if not words[0].endswith("python"):
    return None
  if words[1] == "train.py":
    return ["train", *words[2:]]
  if words[1:3] == ["-m", "tf_savae"]:
    return words[3:]
  is_experiment = words[1] == "-m" and words[2].startswith("experiments.")
  return words[2:] if is_experiment else None


LINES = list(lines())


def test_commands_are_found():
  found = {param.values[0][0] for param in LINES}
  assert {"train", "sweep", "gaps", "compare", "export", "generate", "client", "experiments.walk"} <= found
  assert len(LINES) > 30


@pytest.mark.parametrize("words", LINES)
def test_command_accepts_its_words(words, tmp_path, monkeypatch):
  name, *given = words
  monkeypatch.chdir(tmp_path)
  for file in [word.partition("=")[2] for word in given if word.startswith("--flagfile=")]:
    (tmp_path / file).write_text("", encoding="utf-8")
  if given in (["--help"], ["--version"]) or name.startswith("-"):
    return
  if any(word.startswith("--plugin=") for word in given):
    pytest.skip("the guide's own plug-in, which test_readme.py trains with")
  found = importlib.import_module(name).COMMAND if "." in name else command(name)
  # As `main` does, up to the work itself.
  found.prepare(found.parse([found.name, *given]))


def run(*words):
  assert command(words[0]).main(list(words)) == 0


@pytest.mark.slow
def test_a_newcomer_trains_on_pictures_reads_the_result_and_asks_a_server(tmp_path, monkeypatch, capfd):
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(str(ROOT / "tests/export"))
  import server

  from tf_savae.serving import c_loader

  folder, rng = tmp_path / "pictures", np.random.default_rng(0)
  folder.mkdir()
  for i in range(30):
    grey = np.full([12, 12], 255, np.uint8)
    top, left = rng.integers(0, 8, 2)
    grey[top : top + 4, left : left + 4] = 0
    Image.fromarray(grey).save(folder / f"{i:02}.png")
  small = ["--preset=tiny", "--k=2", "--max_steps=2"]
  run("train", "--dataset=images", f"--data_dir={folder}", *small, "--run_dir=runs/pictures")
  assert "bound at λ_2" in capfd.readouterr().out
  assert (tmp_path / "runs/pictures/overview.png").is_file()
  run("sweep", "--run_dir=runs/pictures", "--eval_k=0,2", "--num=3")
  run("export", "--run_dir=runs/pictures", "--output=models/savae", "--k=2")
  run("serving_config", "--model_dir=models/savae", "--output=serving")
  assert (tmp_path / "serving/docker-compose.yml").is_file()
  path = tmp_path / "models/savae/1"
  with server.running(path, c_loader.Session(path)) as (_, urls):
    capfd.readouterr()
    run(
      "client", f"--url={urls['http']}", "--signature=encode_refined", "--format=csv", str(folder / "00.png")
    )
  header, row = capfd.readouterr().out.strip().splitlines()
  assert header.startswith("elbo_initial,elbo_refined") and np.isfinite(float(row.split(",")[1]))
