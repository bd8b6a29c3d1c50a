"""The tables of several runs."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tf_savae.commands import compare
from tf_savae.evaluation import estimates, per_example, tables

TEST = {
  "nll_bound": 97.126,
  "kl": 3.25,
  "nll_iw": 96.0,
  "nll_iw_se": 1.234,
  "iw_samples": 100,
  "mutual_information": 2.5,
  "active_units": 4,
}
RUN = {
  "model": "savae",
  "k": 20,
  "eval_k": 20,
  "steps": 624,
  "seconds": 90.0,
  "dataset_source": "somewhere",
  "preset": "small",
  "seed": 0,
  "test": TEST | {"nll_bound_initial": 110.5, "kl_initial": 2.0},
}
WITHOUT_LATENT = {"nll_bound": 98.0, "kl": 0.0, "nll_iw": 98.0, "nll_iw_se": 1.0}
PLAIN = RUN | {"model": "autoreg", "k": 0, "eval_k": 0, "test": WITHOUT_LATENT}
PERPLEXITIES = {"ppl_bound_initial": 70.0, "ppl_bound": 66.5, "ppl_iw": 65.25, "ppl_iw_se": 0.456}
TEXT = RUN | {
  "decoder": "lstm",
  "word_dropout": 0.0,
  "stopped_by": "max_minutes",
  "test": RUN["test"] | PERPLEXITIES,
}
LANGUAGE_MODEL = PLAIN | {
  "decoder": "lstm",
  "test": WITHOUT_LATENT | {"ppl_bound": 61.0, "ppl_iw": 61.0, "ppl_iw_se": 0.4},
}


def test_a_row_shows_both_bounds_the_likelihood_with_its_error_and_the_use_of_the_latent():
  row = tables.table([RUN]).splitlines()[2]
  assert row == "| `savae` | 20 | 110.50 | 97.13 | 2.00 | 3.25 | 96.00 ± 1.23 | 2.50 | 4 | 624 | 1.5 |"


def test_a_model_without_latent_shows_its_likelihood_only():
  row = tables.table([PLAIN]).splitlines()[2]
  assert row == "| `autoreg` | – | – | – | – | – | 98.00 ± 1.00 | – | – | 624 | 1.5 |"


def test_a_row_of_text_shows_perplexities():
  lines = tables.table([TEXT, LANGUAGE_MODEL]).splitlines()
  assert lines[2] == "| SA-VAE K=20 | 3.25 | 70.00 | 66.50 | 65.25 ± 0.46 | 2.50 | 4 | 1.5 | time |"
  assert lines[3] == "| Language model | – | – | – | 61.00 ± 0.40 | – | – | 1.5 | – |"


def test_text_and_images_have_a_table_each():
  heads = [line for line in tables.table([RUN, TEXT]).splitlines() if "minutes" in line]
  assert len(heads) == 2 and "perplexity" not in heads[0] and "perplexity" in heads[1]


@pytest.mark.parametrize(
  ("name", "settings"),
  [
    ("VAE", {"model": "vae", "eval_k": 0}),
    ("VAE + word-drop 25 %", {"model": "vae", "eval_k": 0, "word_dropout": 0.25}),
    ("ConvNetVAE", {"model": "vae", "eval_k": 0, "decoder": "dilated_conv"}),
    ("VAE, K=20 in evaluation", {"model": "vae"}),
    ("SVI K=40", {"model": "svi", "k": 40, "eval_k": 40}),
    ("VAE+SVI 1", {"model": "vae_svi"}),
    ("VAE+SVI 2", {"model": "vae_svi_kl"}),
    ("SA-VAE K=20, K=40 in evaluation", {"eval_k": 40}),
    ("SA-VAE K=20, dilated convolutions", {"decoder": "dilated_conv"}),
    ("SA-VAE K=20, from a trained model", {"init_from": "runs/vae"}),
  ],
)
def test_systems_are_named_as_in_the_paper(name, settings):
  assert tables.systems([TEXT | settings]) == [name]


def test_systems_of_one_name_are_told_apart_by_their_runs():
  runs = [TEXT | {"run": "a"}, TEXT | {"run": "b"}, LANGUAGE_MODEL | {"run": "c"}]
  assert tables.systems(runs) == ["SA-VAE K=20 (a)", "SA-VAE K=20 (b)", "Language model"]


def test_a_run_that_is_not_over_says_so():
  assert tables.table([TEXT | {"stopped_by": None}]).splitlines()[2].endswith("| not over |")


def test_the_source_is_named_once_and_a_stand_in_is_called_one():
  lines = tables.table([PLAIN, RUN, RUN]).splitlines()
  assert [line for line in lines if "somewhere" in line] == [
    "somewhere; preset small, seed 0, 100 importance samples."
  ]
  assert "A STAND-IN" in tables.table([RUN | {"is_stand_in": True}])


def write(directory, results, values=None):
  directory.mkdir(parents=True)
  (directory / "results.json").write_text(json.dumps(results))
  if values is not None:
    per_example.save(directory / per_example.TEST_FILE, values)
  return str(directory)


def examples(shift=0.0, seed=0, tokens=True):
  rng = np.random.default_rng(seed)
  length = rng.integers(3, 30, 50)
  nats = 4.0 * length + rng.normal(size=50) + shift
  values = {"nll_bound": nats.astype(np.float32), "nll_iw": (nats - 0.5).astype(np.float32)}
  return values | {"digest": length.astype(np.uint32)} | ({"tokens": length} if tokens else {})


def test_runs_are_paired_with_the_first_by_their_examples(tmp_path, capsys):
  first, other = examples(), examples(shift=-2.0)
  other["nll_iw"] = other["nll_iw"] + np.linspace(0, 1, 50, dtype=np.float32)
  runs = [write(tmp_path / "a", LANGUAGE_MODEL, first), write(tmp_path / "b", TEXT, other)]
  assert compare.main(["compare", *runs]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert "Difference to Language model, paired over 50 test examples" in "\n".join(lines)
  _, name, bound, likelihood, ppl_bound, ppl, _ = (cell.strip() for cell in lines[-1].split("|"))
  assert name == "SA-VAE K=20"
  assert bound == "-2.00 ± 0.00"  # every document is exactly 2 nats better
  difference = np.float64(other["nll_iw"]) - first["nll_iw"]
  assert likelihood == f"{difference.mean():+.2f} ± {difference.std(ddof=1) / 50**0.5:.2f}"
  for cell, key in ((ppl_bound, "nll_bound"), (ppl, "nll_iw")):
    value, se = estimates.perplexity_difference(other[key], first[key], first["tokens"])
    assert cell == f"{value:+.2f} ± {se:.2f}"
  assert float(bound.split()[0]) < 0 and float(ppl.split()[0]) < 0


def test_images_are_paired_in_nats(tmp_path, capsys):
  values = examples(tokens=False)
  runs = [write(tmp_path / name, run, values) for name, run in (("a", RUN), ("b", PLAIN))]
  assert compare.main(["compare", *runs]) == 0
  assert capsys.readouterr().out.splitlines()[-1] == "| `autoreg` | +0.00 ± 0.00 | +0.00 ± 0.00 |"


def test_images_of_one_method_are_told_apart_by_their_runs(tmp_path, capsys):
  places = (tmp_path / "x" / "run", tmp_path / "y" / "run", tmp_path / "other")
  runs = [write(place, RUN, examples(tokens=False)) for place in places]
  assert compare.main(["compare", *runs[1:]]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert [line.split("|")[1].strip() for line in lines[2:4]] == ["`savae` (run)", "`savae` (other)"]
  assert lines[-1].startswith("| `savae` (other) |") and any(
    "Difference to `savae` (run)," in x for x in lines
  )
  assert compare.main(["compare", *runs[:2]]) == 0  # whose directories have one name
  lines = capsys.readouterr().out.splitlines()
  assert [line.split("|")[1].strip() for line in lines[2:4]] == [f"`savae` ({run})" for run in runs[:2]]


def test_runs_that_cannot_be_paired_are_named(tmp_path, capsys):
  runs = [
    write(tmp_path / "first", TEXT, examples()),
    write(tmp_path / "old", TEXT),
    write(tmp_path / "elsewhere", TEXT, examples(seed=1)),
  ]
  assert compare.main(["compare", *runs]) == 0
  out = capsys.readouterr().out
  assert "old has no test_examples.npz; --eval_only writes it." in out
  assert f"{runs[2]} was evaluated on other examples than {runs[0]}." in out
  assert "Difference to" not in out
  assert compare.main(["compare", *runs[::-1][1:]]) == 0
  assert "No paired differences" in capsys.readouterr().out
  assert compare.main(["compare", *runs[:1]]) == 0
  assert "paired" not in capsys.readouterr().out


def test_main_reads_run_directories_and_refuses_others_in_one_line(tmp_path, capsys):
  write(tmp_path / "a", RUN)
  assert compare.main(["compare", str(tmp_path / "a")]) == 0
  assert "97.13" in capsys.readouterr().out
  for bad, words in (("b", "no finished run"), ("a", "damaged")):
    (tmp_path / "a" / "results.json").write_text("{")
    assert compare.main(["compare", str(tmp_path / bad)]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
  assert compare.main(["compare"]) == 2
  assert capsys.readouterr().err.startswith("error: RUN_DIR is needed")


def test_comparing_needs_no_tensorflow():
  code = "import sys, tf_savae.commands.compare; sys.exit('tensorflow' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
