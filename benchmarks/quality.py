"""How good a model is after how much processor time: `python -m benchmarks.quality --workload=text`.

Trains methods for equally long, and measures bound and importance-sampled likelihood on test data meanwhile. All run on
one thread, in turn, with the same data and seeds; the processor time of updates counts. Writes curves, a page and, as
one number per method, how much sooner it reaches the best bound of the paper's algorithm, SA-VAE with 20 plain steps.
With --torch_python that is a training in PyTorch with finite differences, else ours with exact derivatives. The same
command goes on where a killed one stopped.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments import comparison_command, images, text
from experiments.comparison import Files, Row, Settings, Table, Task, select
from tf_savae.atomic_files import atomic_write_text, read_json, write_json
from tf_savae.commands.flags import Flag, Given
from tf_savae.errors import UserError
from tf_savae.evaluation.tables import markdown
from tf_savae.runs.options import one_of, optional, path

# The row, with 20 plain steps as in the paper, whose lowest bound is the one that times are compared at.
BASE = {"text": "savae-paper", "image": "savae-plain", "synthetic": "savae-plain"}

# The same row in PyTorch, with the paper's finite differences: what times are compared with, if it is there.
PEER = "paper-torch"

_PLAIN = {
  "model": "savae",
  "k": 20,
  "svi_rule": "gradient",
  "svi_schedule": "linear",
  "initial_loss_weight": 0.0,
}
_PLAIN |= {"svi_noise": "independent", "svi_samples": 1, "learn_svi_lr": "step"}
# Twenty plain steps make so few updates in a budget that the warm-up of others would take most of it.
_SHORT_WARM_UP = {"text": {"beta_warmup_epochs": 0.25}, "image": {"beta_warmup_epochs": 0.1}}
_SYNTHETIC_STEPS = images.STEPS["pixelcnn"]  # natural steps need no other sizes


def _refined(row: Row, steps: Settings) -> Row:
  """A VAE that is refined at test time; in training it is the same."""
  return Row(
    "vae-refined", "VAE, 2 natural steps at test time", {**row.settings, "k": 2, "eval_k": 2, **steps}
  )


def _of_text() -> tuple[Row, ...]:
  by_key = {row.key: row for row in text.ROWS}
  keys = (
    *("savae-k4-lstm", "savae-k2-lstm", "savae-k1-lstm", "vae-lstm", "autoreg"),
    *("vae_svi-k4-lstm", "vae_svi-k2-lstm", "savae-k20-lstm", "savae-k2-after-vae-lstm"),
  )
  vae = by_key["vae-lstm"]
  plain = Row(
    "savae-plain",
    "SA-VAE K=20, plain steps, LSTM encoder",
    {**_PLAIN, **_SHORT_WARM_UP["text"], "svi_lr": 0.05, "encoder": "lstm"},
  )
  # Constant sizes, as in the paper, and what was best of four settings after 40 seconds in PyTorch.
  paper = {"svi_lr": 0.01, "svi_schedule": "constant", "learn_svi_lr": "none", "learning_rate": 3e-3}
  state = {**plain.settings, **paper, "latent_to": "state"}
  return (
    Row("savae-paper", "SA-VAE K=20, plain steps, z in the state, LSTM encoder", state),
    *(by_key[key] for key in keys),
    _refined(vae, vae.refined[2]),
    plain,
  )


def _of_images() -> tuple[Row, ...]:
  by_key = {row.key: row for row in images.ROWS}
  vae = by_key["vae"]
  others = ("savae-k1", "vae", "autoreg", "vae_svi", "savae-k2")
  late = tuple(_late(row) for row in images.rows_of("late_pixelcnn") if row.key in ("vae", "savae-k2"))
  plain = by_key["savae-plain"]
  plain = Row(plain.key, plain.name, {**plain.settings, **_SHORT_WARM_UP["image"]})
  return (plain, *(by_key[key] for key in others), *late, _refined(vae, vae.refined[2]))


def _late(row: Row) -> Row:
  """A row with z after the decoder's convolutions."""
  settings = {**row.settings, "decoder": "late_pixelcnn"}
  return Row(f"{row.key}-late", f"{row.name}, late decoder", settings)


def _of_synthetic() -> tuple[Row, ...]:
  def natural(model: str, k: int, **more: Any) -> Settings:
    return {"model": model, "k": k, **_SYNTHETIC_STEPS, **more}

  vae = Row("vae", "VAE", {"model": "vae", "k": 0})
  return (
    Row("savae-plain", "SA-VAE K=20, plain steps", {**_PLAIN, "svi_lr": 0.05}),
    *(
      Row(f"savae-k{k}", f"SA-VAE K={k}, natural steps", natural("savae", k, initial_loss_weight=1.0))
      for k in (1, 2, 4)
    ),
    vae,
    Row("vae_svi", "VAE+SVI 1, K=2 natural steps", natural("vae_svi", 2)),
    _refined(vae, _SYNTHETIC_STEPS),
  )


def _with_peer(rows: tuple[Row, ...], base: str) -> tuple[Row, ...]:
  settings = next(row.settings for row in rows if row.key == base)
  return (Row(PEER, "The paper's algorithm in PyTorch: K=20, finite differences", settings), *rows)


ROWS = {
  workload: _with_peer(rows, BASE[workload])
  for workload, rows in {"text": _of_text(), "image": _of_images(), "synthetic": _of_synthetic()}.items()
}
_TITLES = {"text": "Text: Yahoo Answers", "image": "Images: Omniglot", "synthetic": "Synthetic data"}
_SETTINGS: dict[str, dict[str, Any]] = {
  "text": {"dataset": "yahoo"},
  "image": {"dataset": "omniglot", "decoder": "pixelcnn"},
  "synthetic": {"dataset": "synthetic", "learning_rate": 3e-3},
}
_OF_SMALL: dict[str, dict[str, Any]] = {
  "text": {"max_length": 60, "latent_to": "softmax", "eval_batch_size": 50},
  "image": {"beta_warmup_epochs": 0.5},
  "synthetic": {"eval_batch_size": 250},
}


def _flags() -> list[Flag]:
  own = {"out", "reference", "test_examples", "bound_samples", "iw_samples", "tune"}
  shared = [flag for flag in comparison_command.flags("quality", "", 120.0) if flag.name not in own]
  return [
    Flag("workload", "text", one_of(*ROWS), "what to model"),
    Flag(
      "out",
      None,
      optional(path()),
      "directory; the same command goes on there",
      shown_default="runs/quality-WORKLOAD",
    ),
    Flag(
      "torch_python",
      None,
      optional(path()),
      f"interpreter that has PyTorch (benchmarks/peers/requirements.txt), for the row {PEER}",
      shown_default="none, without that row",
    ),
    *shared,
  ]


def table(given: Given) -> Table:
  """The table that flags ask for. Raises UserError for an unknown row."""
  given.out = given.out or f"runs/quality-{given.workload}"
  only = tuple(given.only.split(",")) if given.only else None
  select(ROWS[given.workload], only)
  if given.jobs and not given.torch_python:
    if only and PEER in only:
      raise UserError(
        f"the row {PEER} needs --torch_python; received none; give an interpreter that has PyTorch, or --jobs=0"
      )
    only = only or tuple(row.key for row in ROWS[given.workload] if row.key != PEER)
  rows = ROWS[given.workload]
  settings = {
    **_SETTINGS[given.workload],
    "data_dir": given.data_dir,
    "preset": given.preset,
    "jit_compile": "auto" if given.workload == "synthetic" else "false",  # XLA pays for short sequences alone
  }
  if given.preset == "small":
    settings |= {"checkpoint_every": 250, **_OF_SMALL[given.workload]}
  few = given.preset == "tiny"
  return Table(
    given.workload,
    f"{_TITLES[given.workload]}: quality against processor time",
    settings,
    rows,
    ({},),
    "vae-lstm" if given.workload == "text" else "vae",
    given.budget_s,
    given.seeds,
    only,
    test_examples=20 if few else 300,
    bound_samples=2 if few else 8,
    iw_samples=2 if few else 20,
    curve=times(given.budget_s),
    curve_examples=20 if few else 300,
  )


def times(budget: float) -> tuple[float, ...]:
  """When a model is measured: ten times from a 128th of the budget on, each about twice as late as the one before."""
  parts = (1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 10, 1 / 6, 1 / 4, 1 / 2, 3 / 4, 1.0)
  return tuple(round(budget * part, 3) for part in parts)


def curves(table: Table, files: Files) -> dict[str, dict[str, Any]]:
  """Row → name and, by measure, points (seconds, nats, standard error over seeds or, with one seed, examples)."""
  found: dict[str, dict[str, Any]] = {}
  for row in table.rows:
    results = [read_json(files.result(row.key, seed)) for seed in range(table.seeds)]
    each = [one["curve"] for one in results if one is not None and one.get("curve")]
    if each:
      shown = ("nll_bound", "nll_iw", "nll_bound_initial")
      before = table.budget - table.budget_of(row)  # of the run with whose networks it begins
      points = {name: _mean_curve(each, name, before) for name in shown if name in each[0][0]}
      found[row.key] = {"name": row.name, "seeds": len(each), **points}
  return found


def _mean_curve(
  each: list[list[Mapping[str, Any]]], name: str, before: float
) -> list[tuple[float, float, float]]:
  points = []
  for at in zip(*each, strict=False):
    values = [point[name] for point in at]
    mean = sum(values) / len(values)
    spread = (sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1)) ** 0.5 / len(values) ** 0.5
    error = spread if len(values) > 1 else at[0].get(f"{name}_se") or 0.0
    points.append((before + sum(point["seconds"] for point in at) / len(at), mean, error))
  return points


def seconds_to(points: list[tuple[float, float, float]], target: float) -> float | None:
  """The processor time at which a curve first reaches a bound, linear between its points; None: it does not."""
  before = None
  for seconds, value, _ in points:
    if value <= target:
      if before is None or before[1] == value:
        return seconds
      share = (before[1] - target) / (before[1] - value)
      return before[0] + share * (seconds - before[0])
    before = (seconds, value)
  return None


def page(table: Table, found: Mapping[str, Mapping[str, Any]], workload: str) -> str:
  """The page in Markdown: the last points of all curves, and times to the bound of the base."""
  base = found.get(PEER, found.get(BASE[workload]))
  # The lowest: while β rises, the bound of a method with informative codes can rise for a while.
  target = None if base is None else min(base["nll_bound"], key=lambda point: point[1])
  lines = []
  for one in found.values():
    reached = None if target is None else seconds_to(one["nll_bound"], target[1])
    # At its first point a curve may have been there for some time.
    early = reached is not None and reached == one["nll_bound"][0][0]
    ratio = "–" if reached is None else f"{'≥ ' * early}{target[0] / reached:.1f}"
    at_start = one.get("nll_bound_initial")
    lines.append(
      [
        one["name"],
        str(one["seeds"]),
        "–" if at_start is None else f"{at_start[-1][1]:.2f}",
        *(f"{one[name][-1][1]:.2f}" for name in ("nll_bound", "nll_iw")),
        "–" if reached is None else f"{'≤ ' * early}{reached:.1f}",
        ratio,
      ]
    )
  head = [
    "",
    "seeds",
    "−ELBO at λ_0, nats",
    "at λ_K",
    "−log p(x)",
    "seconds to the bound",
    "times faster",
  ]
  blocks = [f"# {table.title}", markdown(head, lines)]
  if target is not None:
    blocks.append(
      f"The bound to reach is {target[1]:.2f} nats, the lowest of {base['name']}, which has it after {target[0]:.0f}"
      f" seconds of processor time. Numbers are of {table.curve_examples} test examples, the model as it is at the end."
      f" Likelihoods have {table.iw_samples} importance samples."
    )
    if PEER not in found:
      blocks.append("The paper's algorithm in PyTorch was not trained here: --torch_python would add it.")
  return "\n\n".join(blocks)


def _finish(given: Given, table: Table, files: Files) -> None:
  """Writes curves.json, quality.md and quality.png beside the table."""
  found = curves(table, files)
  write_json(files.out / "curves.json", found)
  text_of_page = page(table, found, given.workload)
  atomic_write_text(files.out / "quality.md", text_of_page + "\n")
  if found:
    from benchmarks import quality_figure

    quality_figure.draw(files.out / "quality.png", found, table.title)
  print(f"\n{text_of_page}", flush=True)


def perform(torch_python: str | None, out: Path, table: Table, task: Task) -> None:
  """A task, in a worker."""
  from experiments import comparison_work

  do = None
  if task.row == PEER:
    from benchmarks import peer_training

    do = functools.partial(peer_training.work, torch_python=str(torch_python))
  comparison_work.execute(out, table, task, do)


def _perform(given: Given) -> Callable[[Path, Table, Task], None]:
  return functools.partial(perform, given.torch_python)


COMMAND = comparison_command.command(
  "quality",
  "Bound and likelihood against processor time of training.",
  _flags,
  table,
  finish=_finish,
  program="python -m benchmarks.quality",
  perform=_perform,
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
