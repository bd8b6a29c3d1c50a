"""The table of text: `python -m experiments.text`.

Trains the rows of the paper's table, with both encoders, for equally much processor time, together with what else is
known against collapse. With `--group=rivals` it trains what others do instead of refinement, or with it, beside the
VAE, SA-VAE and VAE+SVI. The same command goes on where a killed one stopped.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import Any

from experiments import comparison_command
from experiments.comparison import Before, Row, Settings, Table, select
from tf_savae.commands.flags import Flag, Given
from tf_savae.runs.options import one_of

ENCODERS = {"lstm": "LSTM encoder", "bow": "bag-of-words encoder"}

# Natural steps that fall linearly; with z in the softmax alone they cost little.
_STEPS = {
  "svi_rule": "natural",
  "svi_lr": 0.5,
  "svi_schedule": "linear",
  "svi_noise": "antithetic",
  "svi_samples": 4,
  "learn_svi_lr": "none",
}
_AT_TEST_TIME = {2: {**_STEPS, "svi_samples": 2}}


def _steps(model: str, k: int, **more: Any) -> Settings:
  return {"model": model, "k": k} | _STEPS | more


def _vae(**more: Any) -> Settings:
  return {"model": "vae", "k": 0, **more}


_SAVAE = {"learn_svi_lr": "block", "initial_loss_weight": 1.0}
_ONE_PAIR = {"svi_samples": 2}
_SAVAE_OF_TWO_STEPS = _steps("savae", 2, **_SAVAE, **_ONE_PAIR)

# Key, name, settings, what the paper reports (KL; perplexity bound), and whether steps at test time are tried.
_WITH_ENCODER = (
  ("vae", "VAE", _vae(), "0.01; 62.5", True),
  ("savae-k4", "SA-VAE K=4, natural steps", _steps("savae", 4, **_SAVAE), "–", False),
  ("vae_svi-k4", "VAE+SVI 1, K=4 natural steps", _steps("vae_svi", 4), "7.80; 62.7", False),
  ("savae-k2", "SA-VAE K=2, natural steps, one pair", _SAVAE_OF_TWO_STEPS, "–", False),
  (
    "savae-k2-first",
    "SA-VAE K=2, natural steps, one pair, first-order",
    {**_SAVAE_OF_TWO_STEPS, "adjoint": "first_order"},
    "–",
    False,
  ),
  (
    "savae-k2-both",
    "SA-VAE K=2, natural steps, one pair, L(λ_0) for both networks",
    {**_SAVAE_OF_TWO_STEPS, "initial_loss_trains": "both"},
    "–",
    False,
  ),
  (
    "savae-k2-both3",
    "SA-VAE K=2, natural steps, one pair, 3 L(λ_0) for both networks",
    {**_SAVAE_OF_TWO_STEPS, "initial_loss_weight": 3.0, "initial_loss_trains": "both"},
    "–",
    False,
  ),
  ("savae-k1", "SA-VAE K=1, natural step, one pair", _steps("savae", 1, **_SAVAE, **_ONE_PAIR), "–", False),
  (
    "savae-first",
    "SA-VAE K=4, natural steps, first-order",
    _steps("savae", 4, **_SAVAE, adjoint="first_order"),
    "–",
    False,
  ),
  ("vae_svi-k2", "VAE+SVI 1, K=2 natural steps, one pair", _steps("vae_svi", 2, **_ONE_PAIR), "–", False),
  ("vae-warmup", "VAE, β from 0 over 10 epochs", _vae(beta_start=0.0, beta_warmup_epochs=10.0), "–", False),
  ("vae-freebits", "VAE, 0.5 free nats per latent", _vae(free_bits=0.5), "–", False),
  ("vae_svi_kl-k4", "VAE+SVI 2, K=4 natural steps", _steps("vae_svi_kl", 4), "7.81; 62.3", False),
  ("savae-k20", "SA-VAE K=20, natural steps", _steps("savae", 20, **_SAVAE), "7.19; 60.4", False),
  ("vae-wd25", "VAE + word-drop 25 %", _vae(word_dropout=0.25), "1.44; 65.6", False),
  ("vae-wd50", "VAE + word-drop 50 %", _vae(word_dropout=0.5), "5.29; 75.2", False),
  ("vae-conv", "ConvNetVAE", _vae(decoder="dilated_conv"), "10.0; 63.9", False),
)
_WITHOUT_ENCODER = (
  Row("autoreg", "Language model", {"model": "autoreg", "k": 0}, paper="–; 61.6"),
  Row("svi-k20", "SVI K=20, natural steps", _steps("svi", 20), paper="0.41; 62.9"),
  Row("svi-k40", "SVI K=40, natural steps", _steps("svi", 40), paper="1.01; 62.2"),
)


_AFTER_WARM_UP = {"beta_start": 1.0, "beta_warmup_epochs": 0.0}


def _warm(encoder: str, key: str, after: str, before: Before) -> Row:
  """SA-VAE that begins with the networks of another method, whose training has been through the warm-up of β."""
  return Row(
    f"savae-k2-after-{key}-{encoder}",
    f"SA-VAE K=2, natural steps, one pair, after {after}, {ENCODERS[encoder]}",
    {**_SAVAE_OF_TWO_STEPS, **_AFTER_WARM_UP, "encoder": encoder},
    before=before,
    fixed=("beta_start", "beta_warmup_epochs"),
  )


_WARM_UP = {"beta_start": 0.1, "beta_warmup_epochs": 3.0}  # the preset's
_BEFORE = (
  (
    "vae_svi",
    "two thirds of the time of VAE+SVI 1",
    Before(_steps("vae_svi", 2, **_ONE_PAIR, initial_loss_weight=0.0, **_WARM_UP), "both", 2 / 3),
  ),
  (
    "vae",
    "a third of the time of the VAE",
    Before(_vae(learn_svi_lr="none", initial_loss_weight=0.0, **_WARM_UP), "both"),
  ),
)


def _row(encoder: str, key: str, name: str, settings: Settings, paper: str, refined: bool) -> Row:
  return Row(
    f"{key}-{encoder}",
    f"{name}, {ENCODERS[encoder]}",
    {**settings, "encoder": encoder},
    _AT_TEST_TIME if refined else {},
    paper if encoder == "lstm" else "–",
  )


def _rows() -> tuple[Row, ...]:
  """In the order of importance: the main question first, for both encoders."""
  language_model, *svi = _WITHOUT_ENCODER
  paired = [_row(encoder, *columns) for columns in _WITH_ENCODER for encoder in ENCODERS]
  warm = [_warm(encoder, *columns) for columns in _BEFORE for encoder in ENCODERS]
  return (language_model, *paired, *warm, *svi)


ROWS = _rows()

_IWAE = {"objective": "iwae", "iwae_samples": 5}
# The warm-up lets four cycles fit into the updates that a VAE makes in 90 seconds, six to seven epochs.
_CYCLES = {"beta_start": 0.0, "beta_warmup_epochs": 0.8, "beta_cycles": 4}

# What a search could change, and what these rows are about or do not go with.
_OF_BETA = ("beta_start", "beta_warmup_epochs", "free_bits")

# Key, name and settings of what others do, with the encoder whose VAE collapses.
_OF_OTHERS = (
  ("vae-lagging", "VAE, lagging inference", _vae(lagging_updates=100)),
  ("vae-bn", "BN-VAE, γ = 0.5", _vae(bn_gamma=0.5)),
  ("vae-iwae5", "VAE, importance-weighted with 5 draws", _vae(**_IWAE)),
  ("vae_svi-k4-buffered", "VAE+SVI 1, K=4, buffered bound", _steps("vae_svi", 4, objective="buffered")),
  ("vae-cyclical", "VAE, cyclical β", _vae(**_CYCLES)),
  ("savae-k4-buffered", "SA-VAE K=4, buffered bound", _steps("savae", 4, **_SAVAE, objective="buffered")),
  ("savae-k4-bn", "SA-VAE K=4 with BN-VAE's encoder", _steps("savae", 4, **_SAVAE, bn_gamma=0.5)),
  ("vae_svi-k4-iwae5", "VAE+SVI 1, K=4, importance-weighted", _steps("vae_svi", 4, **_IWAE)),
  ("savae-k4-iwae5", "SA-VAE K=4, importance-weighted", _steps("savae", 4, **_SAVAE, **_IWAE)),
)


def _of_others(key: str, name: str, settings: Settings) -> Row:
  fixed = _OF_BETA if "beta_cycles" in settings else ("free_bits",) if "objective" in settings else ()
  return dataclasses.replace(_row("lstm", key, name, settings, "–", False), fixed=fixed)


_AUTOENCODER = {"beta": 0.0, "beta_start": 0.0, "beta_warmup_epochs": 0.0, "free_bits": 0.0}
_PRETRAINED = Row(
  "vae-pretrained-lstm",
  "VAE, 0.5 free nats per latent, encoder pre-trained as an autoencoder for a third of the time",
  {**_vae(free_bits=0.5), "encoder": "lstm"},
  before=Before(_AUTOENCODER),
  fixed=("free_bits",),
)
_BESIDE = ("vae-lstm", "savae-k4-lstm", "vae_svi-k4-lstm", "vae-freebits-lstm")
RIVALS = (
  *select(ROWS, _BESIDE),
  _PRETRAINED,
  *(_of_others(*columns) for columns in _OF_OTHERS),
)
GROUPS = {"paper": ROWS, "rivals": RIVALS}

# Equally many for each row; what a row does not use changes nothing in it.
CANDIDATES: tuple[Settings, ...] = (
  {},
  {"dropout": 0.5},
  {"learning_rate": 5e-3},
  {"dropout": 0.5, "learning_rate": 5e-3},
  {"beta_start": 0.0, "beta_warmup_epochs": 6.0},
  {"free_bits": 0.25},
)


def _flags() -> list[Flag]:
  return [
    *comparison_command.flags("text", "vae-lstm", 600.0),
    Flag(
      "dataset", "yahoo", one_of("yahoo", "coco"), "documents of Yahoo Answers, or captions in DATA_DIR/coco"
    ),
    Flag(
      "group",
      "paper",
      one_of(*GROUPS),
      "the paper's rows with what is known against collapse; or what others do, beside the VAE, SA-VAE and VAE+SVI",
    ),
    Flag(
      "latent_to",
      "softmax",
      one_of("softmax", "state"),
      "where z enters: the softmax alone; or the state, as in the paper, where steps are dear",
    ),
  ]


def table(given: Given) -> Table:
  """The table that flags ask for. Raises UserError for an unknown row."""
  captions = given.dataset == "coco"
  settings = {
    "dataset": "text" if captions else "yahoo",
    "data_dir": os.path.join(given.data_dir, "coco") if captions else given.data_dir,
    "preset": given.preset,
    "latent_to": given.latent_to,
    "jit_compile": "false",
  }
  if given.preset == "small":
    settings |= {"max_length": 200, "checkpoint_every": 250, "eval_batch_size": 50}
  only = tuple(given.only.split(",")) if given.only else None
  rows = GROUPS[given.group]
  select(rows, only)
  of = "captions" if captions else "Yahoo Answers"
  where = "z in the softmax alone" if given.latent_to == "softmax" else "z in the LSTM's state"
  select(rows, [given.reference.partition("+")[0]])
  return Table(
    "text",
    f"Text: {of}, {where}, equal processor time"
    if given.budget_s
    else f"Text: {of}, {where}, at convergence",
    settings,
    rows,
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
  "text", "The paper's table of text, at equal processor time.", _flags, table
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
