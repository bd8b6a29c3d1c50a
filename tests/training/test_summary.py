"""The table at the end of a run says what results.json holds, and whose data it is."""

import pytest

from tf_savae.commands import evaluate
from tf_savae.training.summary import next_steps, summary_table

SPLIT = {
  "nll_bound": 34.2,
  "nll_bound_se": 0.11,
  "kl": 3.4,
  "nll_bound_initial": 35.75,
  "nll_bound_initial_se": 0.125,
  "kl_initial": 3.25,
  "refinement_gain": 1.55,
  "refinement_gain_se": 0.02,
  "nll_iw": 33.5,
  "nll_iw_se": 0.1,
  "iw_samples": 200,
  "active_units": 17,
  "examples": 1345,
}
RESULTS = {
  "dataset": "omniglot",
  "dataset_source": "Omniglot, chardata.mat",
  "is_stand_in": False,
  "preset": "small",
  "model": "savae",
  "k": 20,
  "eval_k": 20,
  "steps": 6900,
  "epochs": 6,
  "seconds": 605.4,
  "valid": SPLIT | {"nll_bound": 34.5},
  "test": SPLIT,
}


TEXT_SPLIT = SPLIT | {
  "ppl_bound_initial": 70.25,
  "ppl_bound_initial_se": 0.5,
  "ppl_bound": 66.5,
  "ppl_bound_se": 0.45,
  "ppl_iw": 65.0,
  "ppl_iw_se": 0.4,
  "mutual_information_initial": 2.0,
  "mutual_information_initial_se": 0.03,
  "mutual_information": 2.75,
  "mutual_information_se": 0.02,
  "examples": 1000,
  "tokens": 80123,
}
TEXT = RESULTS | {"dataset": "yahoo", "valid": TEXT_SPLIT, "test": TEXT_SPLIT}


def cells(table):
  """Row name → its columns, split at two or more spaces."""
  rows = [line.split("  ") for line in table.splitlines()]
  rows = [[cell.strip() for cell in row if cell.strip()] for row in rows]
  return {row[0]: row[1:] for row in rows if row}


def test_every_number_stands_in_its_row_and_column():
  rows = cells(summary_table(RESULTS))
  assert rows["nats per example, lower is better"] == ["validation", "test"]
  assert rows["bound at λ_0"] == ["35.75 ± 0.12"] * 2
  assert rows["bound at λ_20"] == ["34.50 ± 0.11", "34.20 ± 0.11"]
  assert rows["gain of refinement"] == ["1.55 ± 0.02"] * 2
  assert rows["KL at λ_0"] == ["3.25"] * 2
  assert rows["KL at λ_20"] == ["3.40"] * 2
  assert rows["−log p(x), 200 importance samples"] == ["33.50 ± 0.10"] * 2
  assert rows["active latent units at λ_20"] == ["17"] * 2
  assert rows["examples"] == ["1345"] * 2


def test_head_and_foot_say_what_was_trained_on_what_for_how_long():
  lines = summary_table(RESULTS).splitlines()
  assert lines[0] == "savae on omniglot, K = 20, preset small"
  assert lines[1] == "data: Omniglot, chardata.mat"
  assert lines[-1] == "trained for 6900 updates, 6 epochs, 10 min 05 s"


def test_one_of_anything_is_singular():
  assert summary_table(RESULTS | {"steps": 1, "epochs": 1}).endswith(
    "trained for 1 update, 1 epoch, 10 min 05 s"
  )


def test_a_stand_in_is_called_one():
  text = summary_table(RESULTS | {"dataset_source": "drawn strokes", "is_stand_in": True})
  assert "A STAND-IN: these numbers say nothing about omniglot" in text
  assert "STAND-IN" not in summary_table(RESULTS)
  del (older := dict(RESULTS))["is_stand_in"]
  assert "A STAND-IN" in summary_table(older | {"dataset_source": "the small stand-in"})


def test_another_k_at_evaluation_is_named():
  text = summary_table(RESULTS | {"eval_k": 40})
  assert "K = 20 in training, 40 in this evaluation" in text
  assert "bound at λ_40" in text


def test_a_method_that_does_not_refine_has_no_k_in_its_name():
  assert summary_table(RESULTS | {"model": "vae", "eval_k": 0}).startswith("vae on omniglot, preset small\n")
  assert "vae on omniglot, K = 5 in this evaluation only" in summary_table(
    RESULTS | {"model": "vae", "eval_k": 5}
  )


def test_a_method_without_encoder_has_no_rows_for_the_initial_posterior():
  split = {key: value for key, value in SPLIT.items() if "initial" not in key and "gain" not in key}
  rows = cells(summary_table(RESULTS | {"model": "svi", "valid": split, "test": split}))
  assert "bound at λ_20" in rows
  assert not [name for name in rows if "λ_0" in name or "gain" in name]


def test_without_refinement_the_initial_posterior_is_not_told_twice():
  rows = cells(summary_table(RESULTS | {"model": "vae", "eval_k": 0}))
  assert rows["bound at λ_0"] == ["34.50 ± 0.11", "34.20 ± 0.11"]
  assert rows["KL at λ_0"] == ["3.40"] * 2
  assert "gain of refinement" not in rows


def test_a_model_without_latent_has_a_likelihood_only():
  split = {key: SPLIT[key] for key in ("nll_bound", "nll_bound_se", "nll_iw", "examples")} | {"kl": 0.0}
  rows = cells(
    summary_table(RESULTS | {"model": "autoreg", "k": 0, "eval_k": 0, "valid": split, "test": split})
  )
  assert rows["−log p(x)"] == ["34.20 ± 0.11"] * 2
  assert not [name for name in rows if "λ" in name or "KL" in name or "importance" in name]


def test_text_has_perplexities_and_counts_documents_and_tokens():
  rows = cells(summary_table(TEXT))
  assert rows["nats per document, lower is better"] == ["validation", "test"]
  assert rows["perplexity bound at λ_0"] == ["70.25 ± 0.50"] * 2
  assert rows["perplexity bound at λ_20"] == ["66.50 ± 0.45"] * 2
  assert rows["perplexity, 200 importance samples"] == ["65.00 ± 0.40"] * 2
  assert rows["documents"] == ["1000"] * 2
  assert rows["tokens, ends included"] == ["80123"] * 2
  assert "examples" not in rows
  assert not [name for name in cells(summary_table(RESULTS)) if "perplexity" in name or "tokens" in name]


def test_the_use_of_the_latent_is_told_of_both_posteriors():
  rows = cells(summary_table(TEXT))
  assert rows["mutual information of x and z at λ_0"] == ["2.00 ± 0.03"] * 2
  assert rows["mutual information of x and z at λ_20"] == ["2.75 ± 0.02"] * 2
  rows = cells(summary_table(TEXT | {"model": "vae", "eval_k": 0}))
  assert rows["mutual information of x and z at λ_0"] == ["2.75 ± 0.02"] * 2
  assert rows["perplexity bound at λ_0"] == ["66.50 ± 0.45"] * 2


def test_bits_per_dimension_have_four_decimals():
  split = {"nll_bound": 11517.46, "nll_iw": 11421.0, "iw_samples": 10, "active_units": 3, "kl": 1.0}
  split |= {"bits_bound": 5.40891, "bits_iw": 5.36358}
  rows = cells(summary_table({"model": "savae", "dataset": "images", "k": 3, "eval_k": 3, "test": split}))
  assert rows["bits per dimension, bound at λ_3"] == ["5.4089"]
  assert rows["bits per dimension, 10 importance samples"] == ["5.3636"]


def test_a_language_model_has_one_perplexity():
  names = ("nll_bound", "nll_bound_se", "ppl_bound", "ppl_bound_se", "ppl_iw", "ppl_iw_se", "tokens")
  split = {name: TEXT_SPLIT[name] for name in names}
  rows = cells(summary_table(TEXT | {"model": "autoreg", "k": 0, "eval_k": 0, "valid": split, "test": split}))
  assert rows["perplexity"] == ["66.50 ± 0.45"] * 2
  assert rows["−log p(x)"] == ["34.20 ± 0.11"] * 2
  assert not [name for name in rows if "λ" in name or "importance" in name]


def test_one_split_and_missing_numbers_are_shown_as_they_are():
  rows = cells(summary_table({"model": "vae", "dataset": "d", "test": {"nll_bound": 1.0, "active_units": 2}}))
  assert rows["nats per example, lower is better"] == ["test"]
  assert rows["bound at λ_K"] == ["1.00"]


def test_columns_line_up():
  lines = summary_table(RESULTS).splitlines()
  table = lines[lines.index("") + 1 : -2]
  assert len({len(line) for line in table}) == 1


@pytest.mark.parametrize("run_dir", ["runs/a", "my runs/a b"])
def test_the_command_to_evaluate_is_one_that_the_command_line_understands(run_dir):
  import shlex

  text = next_steps(run_dir)
  line = next(line for line in text.splitlines() if "tf_savae evaluate" in line)
  argv = shlex.split(line[line.index("python") :])
  assert argv[:4] == ["python", "-m", "tf_savae", "evaluate"]
  assert evaluate.COMMAND.parse(argv[3:]).typed == {"run_dir": run_dir}


def test_tensorboard_is_pointed_at_the_run_and_at_all_runs_beside_it():
  text = next_steps("runs/a/")
  assert "tensorboard --logdir=runs/a/tensorboard" in text
  assert "tensorboard --logdir=runs\n" in text


def test_a_model_without_a_latent_is_not_exported(tmp_path):
  assert "tf_savae export --run_dir=runs/a --output=models/a" in next_steps("runs/a")
  assert "export" not in next_steps("runs/a", encodes=False)
  assert "overview.png" not in next_steps(tmp_path)
  (tmp_path / "overview.png").touch()
  assert f"{tmp_path}/overview.png" in next_steps(tmp_path)


def test_the_limit_that_ended_training_is_named():
  assert summary_table({**RESULTS, "stopped_by": "max_steps"}).endswith("(ended by --max_steps)")
  assert "ended by" not in summary_table({**RESULTS, "stopped_by": "epochs"})


def test_next_steps_of_a_model_of_text_name_the_command_that_writes():
  assert "python -m tf_savae generate --run_dir=runs/a" in next_steps("runs/a", writes=True)
  assert "generate" not in next_steps("runs/a")


@pytest.mark.parametrize(
  ("k", "rest", "line"),
  [
    (3, 0.04, "steps after step 3 gained 0.0 nats (64 examples)"),
    (20, 0.0, "all 20 steps gained something (64 examples)"),
    (0, -0.3, "the 20 steps gained 0.0 nats (64 examples)"),
  ],
)
def test_steps_that_gain_nothing_are_said(k, rest, line):
  found = {"k": k, "rest": rest, "rest_se": 0.01, "examples": 64}
  assert line in summary_table(RESULTS | {"enough_steps": found}).splitlines()
  assert "gained" not in summary_table(RESULTS)
