"""Steps in training against steps at test time: settings, tables, the figure, and one sweep of a trained run."""

import pytest

from experiments import comparison, comparison_work, train_test, train_test_figure
from experiments.comparison import Files, Row, Task
from tests.experiments.test_comparison_work import table as tiny_table
from tests.training.runs import CompiledOnce
from tf_savae.atomic_files import read_json
from tf_savae.evaluation.figures import to_array
from tf_savae.runs import presets


@pytest.mark.parametrize("dataset", train_test.NAMES)
def test_settings_of_every_row_are_those_of_a_run_and_its_steps_do_not_depend_on_k(dataset):
  table = train_test.table(train_test.COMMAND.parse(["x", f"--dataset={dataset}"]))
  for row in table.rows:
    config = presets.make_config(**table.run_settings(Task(row.key, 0, 0)))
    assert (config.svi_schedule, config.learn_svi_lr) == ("harmonic", "none")
  assert [row.settings["k"] for row in table.rows if row.settings["model"] == "savae"] == [2, 4, 10, 20]
  assert table.sweep[0] == 0 and table.sweep[-1] == 100
  assert comparison.about(table, Task("vae", 0, 0))["sweep"] == list(table.sweep)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
  """The result of a tiny run that was trained with 2 steps and tested with 0 to 6."""
  place = tmp_path_factory.mktemp("train_test")
  steps = {"svi_rule": "natural", "svi_lr": 0.3, "svi_schedule": "harmonic", "learn_svi_lr": "none"}
  row = Row("savae-k2", "SA-VAE, K = 2", {"model": "savae", "k": 2, **steps})
  with pytest.MonkeyPatch.context() as patch:
    CompiledOnce(patch)
    table = tiny_table(row, reference="savae-k2", sweep=(0, 2, 6), sweep_examples=40)
    comparison_work.execute(place, table, Task(row.key, 0, 0))
  return read_json(Files(place).result(row.key, 0))


def test_a_sweep_is_of_both_starts_and_agrees_with_the_evaluation(swept):
  assert list(swept["sweep"]) == ["encoder", "random"]
  encoder, random = swept["sweep"].values()
  assert [point["k"] for point in encoder] == [point["k"] for point in random] == [0, 2, 6]
  assert encoder[0]["bound"] == pytest.approx(swept["nll_bound_initial"], abs=0.5)
  assert encoder[1]["bound"] == pytest.approx(swept["nll_bound"], abs=0.5)  # fewer examples, other noise
  assert encoder[0]["bound"] != random[0]["bound"] and random[2]["bound"] < random[0]["bound"]


def test_the_page_and_the_figure_show_all_curves():
  curve = [{"k": k, "bound": 95.0 - k, "ppl": 60.0 - k} for k in (0, 2, 20)]
  keys = [row.key for row in train_test.ROWS]
  found = {"encoder": dict.fromkeys(keys[:-1], curve), "random": dict.fromkeys(keys, curve)}
  table = train_test.table(train_test.COMMAND.parse(["x", "--eval_k=0,2,20"]))
  page = train_test.page(table, found)
  assert "| SA-VAE, K = 10 | 60.00 | 58.00 | 40.00 |" in page and page.count("SVI, K = 20 |") == 1
  figure = train_test_figure.draw(found, {row.key: row.name for row in train_test.ROWS}, "Yahoo")
  assert len(figure.axes) == 2 and to_array(figure).std() > 10
  (legend,) = figure.legends
  assert [text.get_text() for text in legend.get_texts()] == [row.name for row in train_test.ROWS]
