"""The commands that evaluate a run: gaps and the sweep over SVI steps, on tokens and images."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.training.runs import CompiledOnce, tiny_config
from tf_savae.commands import gaps, sweep
from tf_savae.evaluation import gaps as gaps_report
from tf_savae.evaluation import gaps_figure, per_example
from tf_savae.evaluation import steps_curve as test_time
from tf_savae.runs import restore, run_data
from tf_savae.runs.build import build_model
from tf_savae.runs.checkpoints import of_run
from tf_savae.runs.directory import open_run

FEW = ("--num=12", "--batch_size=8", "--bound_draws=20")
SEARCH = ("--steps=60", "--draws=4", "--iw_samples=50")


def save_as_if_trained(config):
  """A run whose best checkpoint holds the initial weights."""
  with open_run(config) as run:
    data = run_data.load(config, run)
    model = build_model(config, data)
    of_run(run.checkpoints, model).save_best(1, 1.0)
  return run.path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """Run directories by name."""
  place = tmp_path_factory.mktemp("commands")
  with pytest.MonkeyPatch.context() as patch:
    CompiledOnce(patch)
    given = {"k": 3, "svi_lr": 0.05, "hidden_dim": 8}
    configs = {
      "savae": tiny_config(place / "savae", oracle="output_layer", generator="oracle", **given),
      "svi": tiny_config(place / "svi", model="svi", **given),
      "autoreg": tiny_config(place / "autoreg", model="autoreg"),
      "image": tiny_config(place / "image", "omniglot", k=1),
      "learned": tiny_config(place / "learned", learn_svi_lr="step", k=2),
    }
    yield {name: save_as_if_trained(config) for name, config in configs.items()}


def output_of(command, run_dir, capsys, *flags):
  assert command.main(["x", f"--run_dir={run_dir}", *FEW, *flags]) == 0
  return capsys.readouterr().out


def test_gaps_of_a_run_with_two_latents_are_estimated_and_exact(runs, capsys):
  out = output_of(gaps, runs["savae"], capsys, *SEARCH, "--grid_size=21")
  result = json.loads((runs["savae"] / "gaps.json").read_text())
  assert (result["examples"], result["eval_k"], result["split"]) == (12, 3, "test")
  exact = result["grid"]
  assert exact["amortisation_gap"] > 0 and exact["approximation_gap"] > 0
  assert exact["inference_gap"] == pytest.approx(exact["amortisation_gap"] + exact["approximation_gap"])
  assert exact["nll"] == pytest.approx(result["true_nll"])  # the decoder is the oracle
  rows = per_example.load(runs["savae"] / "gaps_examples.npz")
  assert rows["grid_nll"].mean() == pytest.approx(exact["nll"])
  assert "| amortisation gap of λ_K |" in out and "by grid" in out and "gaps.json" in out


def test_gaps_of_images_are_estimated(runs, capsys):
  out = output_of(gaps, runs["image"], capsys, *SEARCH, "--num=3")
  result = json.loads((runs["image"] / "gaps.json").read_text())
  assert "grid" not in result and result["examples"] == 3
  assert np.isfinite(result["inference_gap"]) and result["amortisation_gap_se"] > 0
  assert "by grid" not in out


def test_gaps_are_compared_with_checks_of_convergence(runs, capsys, tmp_path):
  flags = ("--ais_steps=8", "--ais_chains=6", "--ais_leapfrogs=2", "--simulated=4", f"--out={tmp_path}")
  assert gaps.main(["x", str(runs["svi"]), *FEW, *SEARCH, "--grid_size=21", "--spread", *flags]) == 0
  out = capsys.readouterr().out
  (result,) = json.loads((tmp_path / "gaps_compared.json").read_text()).values()
  assert -0.3 < result["nll_ais"] - result["grid"]["nll"] < 1.5  # with so few distributions
  assert result["approximation_gap_ais"] == pytest.approx(result["bound_best"] - result["nll_ais"])
  assert abs(result["gradient_gain"]) < 0.1 and result["restart_gain"] >= 0
  assert 1 <= result["ais_effective_size"] <= 6 and 1 <= result["iw_effective_size"] <= 60
  assert result["sandwich"]["width"] > -0.5 and result["sandwich"]["examples"] == 4
  assert "| 12 examples, nats | svi, K = 3 |" in out
  assert "| search for λ*: gained by restarts, nats |" in out and "on 4 simulated examples, nats |" in out
  with Image.open(tmp_path / "gaps_compared.png") as picture:
    assert min(picture.size) > 150
  both = {"one": result, "two": result | {"amortisation_gap": 0.25, "eval_k": 7}}
  assert f"| amortisation gap of λ_K | {result['amortisation_gap']:.3f} ±" in gaps_report.compared(both)
  assert "| one, K = 3 | two, K = 7 |" in gaps_report.compared(both) and "| 0.250 ±" in gaps_report.compared(
    both
  )
  widths = [bar.get_width() for bar in gaps_figure.stacks(both).axes[0].patches]
  assert widths[:4] == pytest.approx(
    [result["approximation_gap_ais"], result["amortisation_gap"], result["approximation_gap_ais"], 0.25]
  )


def test_gaps_need_a_run_and_enough_distributions(capsys):
  assert gaps.main(["x"]) == 2 and "--run_dir is needed" in capsys.readouterr().err
  assert gaps.main(["x", "a", "--ais_steps=1"]) == 2
  assert "--ais_steps must be 0 or at least 2; received 1" in capsys.readouterr().err


def test_the_sweep_is_over_one_trajectory_with_one_noise(runs, capsys):
  out = output_of(sweep, runs["savae"], capsys, "--eval_k=0,1,3,5")
  path = runs["savae"]
  result = json.loads((path / "sweep.json").read_text())
  rows = {row["k"]: row for row in result["rows"]}
  assert list(rows) == [0, 1, 3, 5] and result["k"] == 3
  assert rows[0]["difference"] == 0
  assert rows[5]["difference"] == pytest.approx(rows[5]["bound"] - rows[0]["bound"])
  assert "3 (as in training)" in out
  with Image.open(path / "sweep.png") as picture:
    assert min(picture.size) > 300
  # Fewer steps are the beginning of more.
  output_of(sweep, path, capsys, "--eval_k=5,0")
  again = {row["k"]: row for row in json.loads((path / "sweep.json").read_text())["rows"]}
  assert again[0]["bound"] == pytest.approx(rows[0]["bound"], rel=1e-6)
  assert again[5]["kl"] == pytest.approx(rows[5]["kl"], rel=1e-6)


def test_differences_of_the_sweep_are_paired():
  bound = np.array([1.0, 50.0, 3.0])
  rows = {2: {"bound": bound, "kl": bound}, 7: {"bound": bound - [0.1, 0.2, 0.3], "kl": bound}}
  first, second = test_time.summary(rows)
  assert (first["k"], first["difference"], first["difference_se"]) == (2, 0, 0)
  assert (second["k"], second["bound"]) == (7, pytest.approx(17.8))
  assert second["difference"] == pytest.approx(-0.2)
  assert second["difference_se"] == pytest.approx(0.1 / np.sqrt(3)) and second["bound_se"] > 10


def test_the_sweep_goes_as_the_model_refines(runs):
  run, data = restore.load_with_data(runs["svi"])
  rows = test_time.bounds(run.model, data, "test", [3], 8, 8, bound_draws=2)
  x = data.examples("test", 8)
  params, _, _ = run.model.posterior(run.model.inference(x, 3))
  np.testing.assert_allclose(rows[3]["kl"], params.kl_to_prior(), rtol=1e-4)


@pytest.mark.parametrize("command", [gaps, sweep])
def test_a_run_without_posterior_is_refused_in_one_line(command, runs, capsys):
  assert command.main(["x", f"--run_dir={runs['autoreg']}"]) == 1
  assert capsys.readouterr().err.count("\n") == 1


def test_a_sweep_takes_the_steps_of_its_flags(runs, capsys):
  natural = ("--svi_rule=natural_multiplicative", "--svi_noise=signs", "--svi_samples=2", "--svi_lr=0.5")
  found = {}
  for name, flags in (("own", ()), ("natural", natural)):
    output_of(sweep, runs["svi"], capsys, "--eval_k=0,2", *flags)
    found[name] = json.loads((runs["svi"] / "sweep.json").read_text())
  assert (found["own"]["svi_rule"], found["own"]["svi_lr"]) == ("gradient", 0.05)
  assert (found["natural"]["svi_rule"], found["natural"]["svi_noise"]) == ("natural_multiplicative", "signs")
  (start, own), (same, natural) = (found[name]["rows"] for name in ("own", "natural"))
  assert start == same and own["bound"] != natural["bound"]


def test_a_step_size_beside_learned_ones_is_refused(runs, capsys):
  assert sweep.main(["sweep", f"--run_dir={runs['learned']}", "--svi_lr=0.1"]) == 1
  assert "has learned its steps" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ([], "--run_dir is needed: the directory of a trained run; received none"),
    (["--run_dir=x", "--num=0"], "--num must be a whole number, 1 or more; received 0"),
    (
      ["--run_dir=x", "--eval_k=1,b"],
      "--eval_k must be whole numbers of at least 0 separated by commas; received 1,b",
    ),
    (["--run_dir=x", "--nmu=3"], "unknown flag --nmu; did you mean --num? --help lists them all"),
  ],
)
def test_wrong_flags_are_answered_in_one_line(flags, message, capsys):
  assert sweep.main(["sweep", *flags]) == 2
  assert capsys.readouterr().err == f"error: {message}\n"


def test_a_directory_without_a_run_is_answered_in_one_line(tmp_path, capsys):
  for command in (gaps, sweep):
    assert command.main(["x", f"--run_dir={tmp_path}"]) == 1
    error = capsys.readouterr().err
    assert "holds no run" in error and error.count("\n") == 1


@pytest.mark.parametrize("module", ["gaps", "sweep"])
def test_flags_are_answered_before_tensorflow_is_imported(module):
  program = (
    f"import sys; from tf_savae.commands import {module} as m; code = m.main(['x', '--num=x']);"
    " sys.exit(10 * code + ('tensorflow' in sys.modules))"
  )
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
  assert done.returncode == 20, done.stderr
