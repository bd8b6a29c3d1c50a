"""Rows of the synthetic table are settings that a run accepts, with searches of equal size."""

import dataclasses

import pytest

from experiments import rows
from experiments.plan import select
from tf_savae.errors import UserError
from tf_savae.runs import presets

ALL = [(row, column, name) for row in rows.ROWS for column in row.columns for name in rows.BUDGETS]


@pytest.mark.parametrize(("row", "column", "name"), ALL, ids=lambda value: getattr(value, "key", value))
def test_settings_of_every_row_are_those_of_a_run(row, column, name):
  budget = rows.BUDGETS[name]
  for candidate in range(len(row.candidates)):
    config = presets.make_config(**rows.run_settings(row, candidate, column, budget))
    assert config.generator == column and config.dataset == "synthetic" and config.latent_dim == 2
    at_test = dataclasses.replace(config, **rows.test_settings(row, budget))
    assert (at_test.svi_samples > config.svi_samples) == (bool(row.test_settings) and name != "tiny")
    if name == "tiny":
      assert config.k <= 2 and config.max_steps == 2


def test_searches_of_the_table_are_of_equal_size_and_other_rows_have_none():
  for row in rows.ROWS:
    assert len(row.candidates) == (3 if row.part == "table" else 1), row.key
    assert len({tuple(c) for c in row.candidates}) == 1  # of the same settings
    assert len({tuple(c.values()) for c in row.candidates}) == len(row.candidates)


def test_keys_are_unique_and_warm_starts_come_from_a_row_with_the_same_columns():
  keys = [row.key for row in rows.ROWS]
  assert len(set(keys)) == len(keys)
  for row in rows.ROWS:
    if row.after:
      assert set(row.columns) <= set(rows.get(row.after).columns)
      # Trained with all seeds, on all oracles or, for rows of the first oracle, on that.
      assert rows.get(row.after).part in (("table", "beyond") if row.part == "beyond" else ("table",))
      assert not row.second_reading or rows.get(row.after).second_reading


def test_nothing_is_trained_where_there_is_nothing_to_train():
  svi = rows.get("svi-paper")
  assert rows.run_settings(svi, 0, "oracle", rows.BUDGETS["full"])["max_steps"] == 1
  assert "max_steps" not in rows.run_settings(svi, 0, "learned", rows.BUDGETS["full"])


def test_selected_rows_bring_those_that_they_start_from():
  assert [row.key for row in select(["savae-repaired"])] == ["vae-adam", "savae-repaired"]
  assert select(None) == tuple(row for row in rows.ROWS if row.part != "data")
  assert [row.key for row in select(["data-vae-50000"])] == ["data-vae-50000"]
  with pytest.raises(UserError, match="unknown row savae; the rows are vae-sgd, "):
    select(["savae"])
