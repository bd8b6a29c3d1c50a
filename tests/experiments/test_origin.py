"""Results of another program: the page says what made them, and no command mixes its own trainings with them."""

import dataclasses

import numpy as np
import pytest

from experiments import comparison_report, images, origin
from experiments.comparison import Files
from tests.experiments import fabricated
from tests.experiments.test_comparison import table_of
from tf_savae.atomic_files import write_json
from tf_savae.errors import UserError

ORIGIN = origin.Origin(
  "Elsewhere", "Made on a GPU.", "Each had a minute.", {"share of an hour": "processor_seconds"}
)


@pytest.fixture
def out(tmp_path):
  """A VAE that a command with a budget of its own would not accept, with a file that says where it is from."""
  fabricated.write_evaluation(
    Files(tmp_path), table_of("images", "--budget_s=7"), "vae", 0, np.ones(3, np.float32)
  )
  write_json(tmp_path / origin.FILE, dataclasses.asdict(ORIGIN))
  return tmp_path


def test_the_page_names_what_made_the_results_and_not_the_command(out):
  page = comparison_report.page(comparison_report.collect(table_of("images"), Files(out)))
  assert page.startswith("# Elsewhere\n\nMade on a GPU.\n\nData: fabricated;")
  assert "Each had a minute. The best epoch" in page
  assert "| updates | share of an hour | ended by | paper |" in page and "| 1,800 | 90 | time |" in page
  for words in ("ms per update", "processor time", "Made by"):
    assert words not in page


def test_a_command_writes_the_page_anew_but_adds_no_training(out, capsys):
  assert images.main(["images", f"--out={out}", "--jobs=0"]) == 0
  assert "# Elsewhere" in (out / "table.md").read_text(encoding="utf-8")
  assert images.main(["images", f"--out={out}"]) != 0
  assert "--jobs=0 writes their page anew" in capsys.readouterr().err
  assert not (out / "runs").exists()


def test_a_file_with_other_names_is_an_error_of_one_line(tmp_path):
  write_json(tmp_path / origin.FILE, {"heading": "Elsewhere"})
  with pytest.raises(UserError, match="does not say how its results were made"):
    origin.read(tmp_path)
