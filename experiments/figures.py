"""The figures of the synthetic experiment, from the files in its directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import figures_curves as curves
from experiments import figures_landscape as scenery
from experiments import figures_style as style
from experiments import rows as table
from experiments.trials import FIRST_READING, truth_file
from tf_savae.atomic_files import read_json, write_json
from tf_savae.errors import UserError
from tf_savae.evaluation import estimates, per_example
from tf_savae.evaluation import steps_curve as test_time
from tf_savae.evaluation.figures import lambda_name, save
from tf_savae.posterior import GaussianParams
from tf_savae.runs import restore

TEST_POINTS = (0, 1, 2)  # of the landscapes: the first ones, not chosen ones
TEST_STEPS = (0, 5, 10, 20, 40)
_SWEEP_EXAMPLES = 1000
_WORDS = {
  "lstm_input": "z in the oracle's LSTM",
  "output_layer": "z in the oracle's output layer",
  "oracle": "oracle as decoder",
  "learned": "learned decoder",
}
# Figure → rows whose λ it shows.
_LANDSCAPES = {
  "landscape": ("vae-adam", "svi-tuned", "savae-repaired"),
  "landscape-paper": ("vae-sgd", "svi-paper", "savae-paper"),
}
# Row and column of each panel.
_STEP_PANELS = (("savae-repaired", "oracle"), ("savae-repaired", "learned"), ("ablation-step", "oracle"))

Final = Mapping[str, Any]  # of results.json: row, column, reading, data_seed, seed, name


def draw_all(out: Path, say: Callable[[str], None] = print) -> None:
  """Draws every figure for which there are data into `<out>/figures/`, and reports on each figure.

  Args:
    out: the experiment's directory, with `results.json`, `truth-*.npz` and `runs/`.
    say: receives one line per figure.

  Raises:
    UserError: results.json cannot be read.
    OSError: a figure cannot be written.
  """
  results = read_json(out / "results.json") or {}
  finals = [f for f in results.get("finals", []) if (out / "runs" / f["name"]).is_dir()]
  readings = sorted({f["reading"] for f in finals}, key=lambda reading: (reading != FIRST_READING, reading))
  work: dict[str, Callable[[], Figure]] = {
    "train_vs_test": lambda: train_vs_test(out, finals),
    "step_sizes": lambda: step_sizes(out, finals),
  }
  for reading in readings or [FIRST_READING]:
    suffix = "" if reading == FIRST_READING else f"-{reading}"
    of_reading = [f for f in finals if f["reading"] == reading and f["column"] == "oracle"]
    work[f"gap_stacks{suffix}"] = lambda of=of_reading: gap_stacks(out, of)
    for name, keys in _LANDSCAPES.items():
      work[f"{name}{suffix}"] = lambda of=of_reading, keys=keys: landscape(out, of, keys)
  (out / "figures").mkdir(exist_ok=True)
  for name, make in work.items():
    try:
      save(make(), out / "figures" / f"{name}.png")
      say(f"figures/{name}.png")
    except UserError as error:  # also of a run that cannot be read: the other figures need not wait for it
      say(f"figures/{name}.png: not drawn, {error}")


def landscape(out: Path, finals: Sequence[Final], keys: Sequence[str]) -> Figure:
  """A figure of the λ that the first runs of rows find for `TEST_POINTS`, under the oracle that they share.

  Raises:
    UserError: none of the rows has a run, or the optimum of these points is not known.
  """
  firsts = {key: f for key in keys if (f := _first(finals, key)) is not None}
  if not firsts:
    raise UserError(f"there is no run of {', '.join(keys)} with the oracle as decoder")
  data = min(map(_data_of, firsts.values()))
  firsts = {key: f for key, f in firsts.items() if _data_of(f) == data}
  truth = _truth(out, next(iter(firsts.values())))
  if truth is None or len(truth["best_mean"]) <= max(TEST_POINTS):
    raise UserError(f"the optimum of test points {TEST_POINTS} is not known")
  best = GaussianParams(*(truth[f"best_{name}"][list(TEST_POINTS)] for name in ("mean", "log_var")))
  paths, decoder, x = {}, None, None
  for key, final in firsts.items():
    run, data = restore.load_with_data(out / "runs" / final["name"])
    x = data.examples("test", 1 + max(TEST_POINTS))[list(TEST_POINTS)]
    decoder, method, points = run.model.decoder, style.method_of(key), scenery.path(run.model, x)
    first, last = lambda_name(0), lambda_name(len(points) - 1)
    if method == "svi":  # it begins anywhere
      points = points[-1:]
    name = {"vae": "VAE", "svi": "SVI", "savae": "SA-VAE"}[method]
    paths[f"{name}, {first} (hollow) → {last}" if len(points) > 1 else f"{name}, {last}"] = points
  squares = [scenery.landscape(decoder, x, best, *view) for view in scenery.views(paths, best)]
  title = f"−ELBO over the means (μ₁, μ₂), σ² being that of the optimum; {_WORDS[run.config.oracle]}"
  return scenery.draw(squares, paths, best, [f"test point {i}" for i in TEST_POINTS], title=title)


def train_vs_test(out: Path, finals: Sequence[Final]) -> Figure:
  """Bounds against K at test time for rows that differ in their K in training; also writes the numbers as JSON.

  Raises:
    UserError: there is no such run.
  """
  keys = [row.key for row in table.ROWS if row.part == "train_k"]
  firsts = [f for key in keys if (f := _first(finals, key)) is not None]
  if not firsts:
    raise UserError(f"there is no run of {', '.join(keys)}")
  firsts = [f for f in firsts if _data_of(f) == _data_of(firsts[0])]
  lines, truth = {}, _truth(out, firsts[0])
  nll = np.zeros(_SWEEP_EXAMPLES) if truth is None else truth["nll"][:_SWEEP_EXAMPLES]
  for final in firsts:
    run, data = restore.load_with_data(out / "runs" / final["name"])
    found = test_time.bounds(run.model, data, "test", TEST_STEPS, len(nll), batch_size=250)
    trained = run.config.k if run.model.method.refines else 0
    lines[trained] = [
      curves.SweepPoint(k, *estimates.mean(np.float64(values["bound"]) - nll[: len(values["bound"])]))
      for k, values in found.items()
    ]
  write_json(
    out / "figures" / "train_vs_test.json",
    {"test_points": len(nll), "lines": {k: [p._asdict() for p in points] for k, points in lines.items()}},
  )
  quantity = "−ELBO, nats" if truth is None else "−ELBO − true NLL, nats"
  title = f"{_WORDS['oracle']}, {_WORDS[run.config.oracle]}; first {len(nll):,} test points"
  return curves.train_vs_test(lines, quantity, title)


def gap_stacks(out: Path, finals: Sequence[Final]) -> Figure:
  """Approximation and amortisation gaps of the table's rows, over all runs of each.

  Raises:
    UserError: no run has both values and a truth.
  """
  gaps, counts = [], set()
  for row in table.ROWS:
    oracles: dict[int, tuple[Mapping[str, np.ndarray], list[np.ndarray]]] = {}
    for final in finals:
      if row.part != "table" or final["row"] != row.key:
        continue
      values = per_example.load(out / "runs" / final["name"] / "values-test.npz")
      truth = _truth(out, final)
      if values is not None and truth is not None:
        oracles.setdefault(final["data_seed"], (truth, []))[1].append(values["bound"])
        counts.add(min(len(values["bound"]), len(truth["best_bound"])))
    if oracles:
      gaps.append(gap(row.key, row.name, list(oracles.values())))
  if not gaps:
    raise UserError("there is no run with the oracle as decoder whose gaps are known")
  title = f"{_WORDS['oracle']}, {_WORDS[finals[0]['reading']]}; first {min(counts):,} test points"
  return curves.gap_stacks(gaps, title)


def gap(
  key: str, name: str, oracles: Sequence[tuple[Mapping[str, np.ndarray], Sequence[np.ndarray]]]
) -> curves.Gap:
  """A row's gap, with equal weights for all oracles: means over its runs and the test points whose λ* is known.

  Args:
    key, name: of the row.
    oracles: of each, what is exactly known, `nll` and `best_bound`, and −ELBO of the row's runs, `[points]` each.
  """
  parts, variance, runs = [], 0.0, []
  for truth, bounds in oracles:
    n = min(len(truth["best_bound"]), *map(len, bounds))
    best, nll = (np.asarray(truth[name][:n], np.float64) for name in ("best_bound", "nll"))
    total = np.stack([np.float64(bound[:n]) - nll for bound in bounds])  # [runs, n]
    value, se = estimates.mean(total.mean(axis=0))
    variance += np.nan if se is None else se**2
    runs += [float(one) for one in total.mean(axis=1)]
    parts.append((float(np.mean(best - nll)), value - float(np.mean(best - nll))))
  approximation, amortisation = np.mean(parts, axis=0)
  se = np.sqrt(variance) / len(oracles)
  return curves.Gap(
    key, name, float(approximation), float(amortisation), None if np.isnan(se) else float(se), runs
  )


def step_sizes(out: Path, finals: Sequence[Final]) -> Figure:
  """A figure of the step sizes of rows that learn them, on the first oracle.

  Raises:
    UserError: there is no such run.
  """
  panels = {}
  for key, column in _STEP_PANELS:
    first = _first([f for f in finals if f["column"] == column], key)
    learned = []
    for final in finals:
      if (
        first is None
        or (final["row"], final["column"]) != (key, column)
        or _data_of(final) != _data_of(first)
      ):
        continue
      model = restore.load_model(out / "runs" / final["name"]).model
      if model.step_sizes.log_sizes is not None:
        learned.append(np.asarray(model.step_sizes.sizes(model.svi.num_steps)))
        initial = np.broadcast_to(np.asarray(model.svi.step_size, np.float64), [model.svi.num_steps])
    if learned:
      name = table.get(key).name
      panels[f"{name if name.startswith('SA-VAE') else f'SA-VAE {name}'}\n{_WORDS[column]}"] = (
        curves.StepCurves(initial, learned)
      )
  if not panels:
    raise UserError("there is no run with learned step sizes")
  return curves.step_sizes(panels)


def _first(finals: Sequence[Final], key: str) -> Final | None:
  """The row's run of the first reading, oracle and seed."""

  def rank(final):
    return final["column"] != "oracle", final["reading"] != FIRST_READING, final["data_seed"], final["seed"]

  return min((f for f in finals if f["row"] == key), key=rank, default=None)


def _data_of(final: Final) -> tuple[str, int]:
  """What a run's data were drawn from."""
  return final["reading"], final["data_seed"]


def _truth(out: Path, final: Final) -> dict[str, np.ndarray] | None:
  """What is exactly known about a run's data; None: nothing."""
  return per_example.load(truth_file(out, *_data_of(final)))
