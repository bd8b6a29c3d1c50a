"""The table of several runs."""

import json

from tf_savae.evaluation import compare

TEST = {
  "nll_bound": 97.126,
  "kl": 3.25,
  "nll_iw": 96.0,
  "nll_iw_se": 1.234,
  "iw_samples": 100,
  "active_units": 4,
}
RUN = {
  "model": "savae",
  "eval_k": 20,
  "steps": 624,
  "seconds": 90.0,
  "dataset_source": "somewhere",
  "preset": "small",
  "seed": 0,
  "test": TEST | {"nll_bound_initial": 110.5, "kl_initial": 2.0},
}
PLAIN = RUN | {"model": "autoreg", "test": {"nll_bound": 98.0, "kl": 0.0, "nll_iw": 98.0, "nll_iw_se": 1.0}}


def test_a_row_shows_both_bounds_and_the_likelihood_with_its_error():
  row = compare.table([RUN]).splitlines()[2]
  assert row == "| `savae` | 20 | 110.50 | 97.13 | 2.00 | 3.25 | 96.00 ± 1.23 | 624 | 1.5 |"


def test_a_model_without_latent_shows_its_likelihood_only():
  row = compare.table([PLAIN]).splitlines()[2]
  assert row == "| `autoreg` | – | – | – | – | – | 98.00 ± 1.00 | 624 | 1.5 |"


def test_the_source_is_named_and_a_stand_in_is_called_one():
  assert "somewhere; preset small" in compare.table([RUN])
  assert "A STAND-IN" in compare.table([RUN | {"is_stand_in": True}])


def test_main_reads_run_directories_and_refuses_others_in_one_line(tmp_path, capsys):
  (tmp_path / "a").mkdir()
  (tmp_path / "a" / "results.json").write_text(json.dumps(RUN))
  assert compare.main([str(tmp_path / "a")]) == 0
  assert "97.13" in capsys.readouterr().out
  for bad, words in (("b", "no finished run"), ("a", "damaged")):
    (tmp_path / "a" / "results.json").write_text("{")
    assert compare.main([str(tmp_path / bad)]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
  assert compare.main([]) == 2
