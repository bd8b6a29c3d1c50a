"""Steps in training against steps at test time: `python -m experiments.train_test --dataset=omniglot`.

Trains a VAE and SA-VAE with 2, 4, 10 and 20 steps, VAE+SVI and SVI with 20, each for equally much processor time.
Then measures each model's bound after 0 to 100 steps, from the encoder's λ_0 and from a random one (paper, figure 3).
The same command goes on where a killed one stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from experiments import comparison_command
from experiments.comparison import Files, Row, Settings, Table, select
from experiments.images import STEPS
from tf_savae.atomic_files import read_json, write_json
from tf_savae.commands.flags import Flag, Given
from tf_savae.evaluation import tables
from tf_savae.runs.options import one_of, whole, whole_list

NAMES = {"omniglot": "Omniglot", "yahoo": "Yahoo Answers"}
TRAINED = (2, 4, 10, 20)

# Step sizes that fall with k but not with K: few steps are the beginning of many.
_STEPS: dict[str, Settings] = {
  "omniglot": {**STEPS["late_pixelcnn"], "svi_schedule": "harmonic"},
  "yahoo": {
    "svi_rule": "natural",
    "svi_lr": 0.5,
    "svi_schedule": "harmonic",
    "svi_noise": "antithetic",
    "svi_samples": 4,
    "learn_svi_lr": "none",
  },
}


def rows() -> tuple[Row, ...]:
  """The models: SA-VAE by its steps in training, and its rivals with 20."""
  of_start = {"initial_loss_weight": 1.0, "initial_loss_trains": "encoder"}
  refined = [Row(f"savae-k{k}", f"SA-VAE, K = {k}", {"model": "savae", "k": k, **of_start}) for k in TRAINED]
  return (
    Row("vae", "VAE, K = 0", {"model": "vae", "k": 0}),
    *refined,
    Row("vae_svi-k20", "VAE+SVI 1, K = 20", {"model": "vae_svi", "k": 20}),
    Row("svi-k20", "SVI, K = 20", {"model": "svi", "k": 20}),
  )


ROWS = rows()


def _flags() -> list[Flag]:
  own = [
    Flag("dataset", "omniglot", one_of(*NAMES), "what is modelled"),
    Flag("eval_k", (0, 1, 2, 4, 7, 10, 20, 40, 70, 100), whole_list(0), "SVI steps at test time"),
    Flag("sweep_examples", 200, whole(2), "test examples of the sweep, spread evenly"),
  ]
  return [*own, *comparison_command.flags("train-test", "vae", 120.0, seeds=1)]


def table(given: Given) -> Table:
  """The table that flags ask for. Raises UserError for an unknown row."""
  settings: dict[str, Any] = {
    "dataset": given.dataset,
    "data_dir": given.data_dir,
    "preset": given.preset,
    "jit_compile": "false",
    **_STEPS[given.dataset],
  }
  if given.dataset == "omniglot":
    settings["decoder"] = "late_pixelcnn"
  if given.preset == "small":
    text = {"max_length": 200, "eval_batch_size": 50}
    images = {"beta_warmup_epochs": 0.5}  # a pass over the whole release takes long
    settings |= {"checkpoint_every": 250, **(text if given.dataset == "yahoo" else images)}
  only = tuple(given.only.split(",")) if given.only else None
  select(ROWS, only)
  select(ROWS, [given.reference])
  return Table(
    f"train-test-{given.dataset}",
    f"Training and testing with other numbers of steps: {NAMES[given.dataset]}",
    settings,
    ROWS,
    ({},),
    given.reference,
    given.budget_s,
    given.seeds,
    only,
    False,
    given.test_examples,
    given.bound_samples,
    given.iw_samples,
    sweep=tuple(given.eval_k),
    sweep_examples=given.sweep_examples,
  )


def curves(table: Table, files: Files) -> dict[str, dict[str, list[dict[str, Any]]]]:
  """The sweeps that are done, of the first seed: starting point → key of a row → its points."""
  found: dict[str, dict[str, list[dict[str, Any]]]] = {"encoder": {}, "random": {}}
  for row in table.rows:
    result = read_json(files.result(row.key, 0))
    for start, points in ((result or {}).get("sweep") or {}).items():
      found[start][row.key] = points
  return found


def page(table: Table, found: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
  """A table for each starting point: a row per model, a column per number of steps."""
  parts = []
  for start, models in found.items():
    text = any("ppl" in points[0] for points in models.values())
    unit = "perplexity bound" if text else "−ELBO, nats"
    head = [f"{unit}; {start} start", *(f"K = {k}" for k in table.sweep)]
    lines = []
    for key, points in models.items():
      lines.append([table.row(key).name, *(f"{p['ppl' if text else 'bound']:.2f}" for p in points)])
    parts.append(tables.markdown(head, lines))
  return "\n\n".join(parts)


def _finish(given: Given, table: Table, files: Files) -> None:
  from experiments import train_test_figure
  from experiments.figures_walk import save_svg
  from tf_savae.evaluation.figures import save

  found = curves(table, files)
  if not any(found.values()):
    return
  out = Path(files.out)
  names = {row.key: row.name for row in table.rows}
  figure = train_test_figure.draw(found, names, NAMES[given.dataset])
  save(figure, out / "train_test.png")
  save_svg(figure, out / "train_test.svg")
  write_json(out / "train_test.json", found)
  print(f"\n{page(table, found)}", flush=True)


def _all_flags() -> list[Flag]:
  """Without a search: models differ in K alone."""
  return [flag for flag in _flags() if flag.name != "tune"]


COMMAND = comparison_command.command(
  "train_test",
  "Trains models with 0 to 20 SVI steps, and measures the bound of each after 0 to 100 steps at test time.",
  _all_flags,
  table,
  _finish,
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
