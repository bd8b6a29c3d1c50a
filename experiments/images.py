"""The table of images: `python -m experiments.images`.

Trains the rows of the paper's table for equally much processor time, with an early or a late decoder. The same command
goes on where a killed one stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from experiments import comparison_command
from experiments.comparison import Row, Settings, Table, select
from tf_savae.commands.flags import Flag, Given
from tf_savae.runs.options import one_of

DECODERS = ("pixelcnn", "late_pixelcnn")

# A pair of random signs has the exact curvature of a quadratic, so one or two steps are enough. A decoder whose logits
# are linear in z needs no draws at all.
STEPS: Mapping[str, Settings] = {
  "pixelcnn": {
    "svi_rule": "natural_multiplicative",
    "svi_noise": "signs",
    "svi_samples": 2,
    "svi_lr": 0.8,
    "svi_lr_log_var": 0.3,
    "svi_schedule": "harmonic",
    "learn_svi_lr": "none",
  },
  "late_pixelcnn": {
    "svi_rule": "natural",
    "svi_noise": "quadrature",
    "svi_lr": 0.5,
    "svi_schedule": "linear",
    "learn_svi_lr": "none",
  },
}


# L(λ_K) + 3 L(λ_0) for encoder and decoder, as in preset small.
_WITH_INITIAL: Settings = {"initial_loss_weight": 3.0, "initial_loss_trains": "both"}


def rows_of(decoder: str) -> tuple[Row, ...]:
  """The rows for a decoder, in the order of importance."""
  steps = STEPS[decoder]
  plain = {
    "svi_noise": "quadrature" if decoder == "late_pixelcnn" else "independent"
  }  # and as in preset small

  def natural(model: str, k: int, **more: Any) -> Settings:
    return {"model": model, "k": k, **steps, **more}

  return (
    Row("autoreg", "PixelCNN without z", {"model": "autoreg", "k": 0}, paper="90.59"),
    Row("vae", "VAE", {"model": "vae", "k": 0}, {2: steps, 10: steps}, paper="90.43"),
    Row("savae-k1", "SA-VAE K=1, natural step", natural("savae", 1, **_WITH_INITIAL)),
    Row("vae_svi", "VAE+SVI 1, K=2 natural steps", natural("vae_svi", 2), paper="90.19"),
    Row("savae-k2", "SA-VAE K=2, natural steps", natural("savae", 2, **_WITH_INITIAL)),
    Row("svi", "SVI K=8, natural steps", natural("svi", 8), paper="90.51 (K=20)"),
    Row("vae_svi_kl", "VAE+SVI 2, K=2 natural steps", natural("vae_svi_kl", 2), paper="90.21"),
    Row(
      "savae-plain",
      "SA-VAE K=20, plain steps",
      {"model": "savae", "k": 20, "initial_loss_weight": 0.0, **plain},
      paper="90.05",
    ),
  )


ROWS = rows_of(DECODERS[0])

# Equally many for each row; what a row does not use changes nothing in it.
CANDIDATES: tuple[Settings, ...] = (
  {},
  {"learning_rate": 5e-3},
  {"dropout": 0.1},
  {"beta_warmup_epochs": 1.0},
  {"free_bits": 0.1},
)


def _flags() -> list[Flag]:
  return [
    *comparison_command.flags("images", "vae", 600.0),
    Flag(
      "decoder",
      "pixelcnn",
      one_of(*DECODERS),
      "late_pixelcnn: z meets the features after the convolutions, which makes steps cheap",
    ),
  ]


def table(given: Given) -> Table:
  """The table that flags ask for. Raises UserError for an unknown row."""
  settings = {
    "dataset": "omniglot",
    "data_dir": given.data_dir,
    "preset": given.preset,
    "decoder": given.decoder,
    "jit_compile": "false",
  }
  if given.preset == "small":
    # A pass over the whole release takes long: the warm-up of β would take the whole budget.
    settings |= {"beta_warmup_epochs": 0.5, "checkpoint_every": 250}
  only = tuple(given.only.split(",")) if given.only else None
  select(ROWS, only)
  select(ROWS, [given.reference.partition("+")[0]])
  where = "z's maps beside the image" if given.decoder == "pixelcnn" else "z after the convolutions"
  when = "equal processor time" if given.budget_s else "at convergence"
  return Table(
    "images",
    f"Images: Omniglot, {where}, {when}",
    settings,
    rows_of(given.decoder),
    CANDIDATES,
    given.reference,
    given.budget_s,
    given.seeds,
    only,
    given.tune,
    given.test_examples,
    given.bound_samples,
    given.iw_samples,
  )


COMMAND = comparison_command.command(
  "images", "The paper's table of images, at equal processor time.", _flags, table
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
