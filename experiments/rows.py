"""The synthetic table as data: its rows, their settings, and the candidates of each row's search. No TensorFlow.

All rows have equally many candidates, from which one is chosen on validation data. Settings are those of `RunConfig`;
the others come from preset `small` of `--dataset=synthetic`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tf_savae.errors import UserError

COLUMNS = (
  "oracle",
  "learned",
)  # the oracle itself as decoder ("Oracle Gen"), or a trained one ("Learned Gen")
TRUE_NLL_OF_PAPER = 19.63

Settings = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Row:
  """A method with the settings it is run with.

  Attributes:
    key: its name in directories and flags.
    name: its name on the page.
    settings: settings of every run of the row.
    candidates: further settings that the search tries; with one candidate there is no search.
    after: key of the row whose chosen run, of the same column, data and seed, is the warm start.
    paper: column → −ELBO that the paper reports.
    part: "table"; "beyond", all seeds of the first oracle; "ablation", one seed each. Also "train_k", models for the
      figure of K in training against K at test, and "data", which are run only where they are asked for.
    columns: those that the row has.
    second_reading: whether Oracle Gen is also run on the oracle's second reading.
    test_settings: settings of the steps on test data that differ from training. Such a row is evaluated by quadrature,
      on the test points whose best Gaussian is known.
  """

  key: str
  name: str
  settings: Settings
  candidates: tuple[Settings, ...] = ({},)
  after: str | None = None
  paper: Settings = dataclasses.field(default_factory=dict)
  part: str = "table"
  columns: tuple[str, ...] = COLUMNS
  second_reading: bool = False
  test_settings: Settings = dataclasses.field(default_factory=dict)


def _each(name: str, *values: Any) -> tuple[Settings, ...]:
  """Candidates that differ in one setting."""
  return tuple({name: value} for value in values)


COMMON = {"eval_batch_size": 250, "checkpoint_every": 0}  # of all runs
OF_COLUMN = {
  # Nothing over-fits, and a learning rate that falls where validation stands still ends nearer to the optimum.
  "oracle": {"generator": "oracle", "epochs": 10, "lr_patience": 2, "early_stop_patience": 4},
  "learned": {"generator": "learned", "epochs": 8, "early_stop_patience": 2},
}

_ADAM = {"optimizer": "adam", "learning_rate": 3e-3}
_AS_IN_PAPER = {**_ADAM, "k": 20, "svi_schedule": "constant", "svi_samples": 1}
_PAPER_STEPS = _each("svi_lr", 0.005, 0.02, 0.05)  # 0.02: the paper's 1 on the mean over a batch of 50
_REPAIRED = {
  "model": "savae",
  "optimizer": "adam",
  "learning_rate": 1e-3,
  "k": 20,
  "svi_schedule": "linear",
  "learn_svi_lr": "latent",
  "svi_samples": 2,
  "svi_noise": "antithetic",
  "initial_loss_weight": 0.1,
}

_OF_VAE = {"model": "vae", "eval_k": 20, "learn_svi_lr": "none", "initial_loss_weight": 0.0}
_ANNEALED = {"beta_start": 0.1, "beta_warmup_epochs": 4.0}

_TABLE = (
  Row(
    "vae-sgd",
    "VAE (SGD)",
    {"model": "vae", "k": 0, "optimizer": "sgd", "epochs": 25},
    _each("learning_rate", 1.0, 0.3, 0.1),
    paper={"oracle": 21.77, "learned": 27.06},
  ),
  Row(
    "vae-adam",
    "VAE (Adam)",
    {"model": "vae", "k": 0, "optimizer": "adam", "epochs": 25},
    _each("learning_rate", 1e-3, 3e-3, 1e-2),
    second_reading=True,
  ),
  Row(
    "svi-paper",
    "SVI K=20, as in the paper",
    {"model": "svi", **_AS_IN_PAPER},
    _PAPER_STEPS,
    paper={"oracle": 22.33, "learned": 25.82},
  ),
  Row(
    "svi-tuned",
    "SVI K=20, tuned",
    {
      "model": "svi",
      **_ADAM,
      "k": 20,
      "svi_schedule": "linear",
      "svi_samples": 2,
      "svi_noise": "antithetic",
    },
    _each("svi_lr", 0.02, 0.05, 0.1),
  ),
  Row("vae-svi", "VAE+SVI 1", {"model": "vae_svi", **_AS_IN_PAPER}, _PAPER_STEPS),
  Row("vae-svi-kl", "VAE+SVI 2", {"model": "vae_svi_kl", **_AS_IN_PAPER}, _PAPER_STEPS),
  Row(
    "savae-paper",
    "SA-VAE K=20, as in the paper",
    {"model": "savae", **_AS_IN_PAPER},
    _PAPER_STEPS,
    paper={"oracle": 20.13, "learned": 25.21},
    second_reading=True,
  ),
  Row(
    "savae-repaired",
    "SA-VAE K=20, repaired",
    {**_REPAIRED, "epochs": 5},
    _each("svi_lr", 0.01, 0.03, 0.1),
    after="vae-adam",
    second_reading=True,
  ),
  # The same training and the same steps, but no gradient through them.
  Row(
    "vae-refined",
    "VAE (Adam), repaired SVI at test",
    {**_REPAIRED, **_OF_VAE, "epochs": 5},
    _each("svi_lr", 0.01, 0.03, 0.1),
    after="vae-adam",
    second_reading=True,
  ),
)


def _repair(key: str, name: str, after: str | None = None, **settings: Any) -> Row:
  """SA-VAE as in the paper, except for one setting."""
  base = {"model": "savae", **_AS_IN_PAPER, "svi_lr": 0.02}
  return Row(f"ablation-{key}", name, {**base, **settings}, after=after, part="ablation", columns=("oracle",))


_ABLATION = (
  _repair("paper", "SA-VAE K=20, as in the paper, α = 0.02"),
  _repair("linear", "+ steps that fall linearly", svi_schedule="linear"),
  _repair("step", "+ learned steps, one per step", learn_svi_lr="step"),
  _repair("latent", "+ learned steps, one per step and latent", learn_svi_lr="latent"),
  _repair("draws", "+ 4 draws per step", svi_samples=4),
  _repair("antithetic", "+ 2 draws per step, a pair ε, −ε", svi_samples=2, svi_noise="antithetic"),
  _repair("warm", "+ warm start from VAE (Adam)", after="vae-adam"),
  _repair("initial", "+ 0.1 L(λ_0) for the encoder", initial_loss_weight=0.1),
  _repair("tolerance", "+ an example stops where a step promises less than 0.001 nats", svi_tolerance=1e-3),
  _repair("warmup", "+ K rises from 1 over 3 epochs", k_warmup_epochs=3.0),
)

# What a posterior costs that a learned decoder would do without. A VAE that ignores z is no place to begin from.
_USING_Z = {"part": "ablation", "columns": ("learned",)}
_VAE_USING_Z = {"model": "vae", "k": 0, **_ADAM}
_SAVAE_USING_Z = {**_REPAIRED, "learning_rate": 3e-3, "svi_lr": 0.1}
_ABLATION += (
  Row("vae-annealed", "VAE (Adam), KL annealed", {**_VAE_USING_Z, **_ANNEALED}, **_USING_Z),
  Row(
    "savae-annealed",
    "SA-VAE K=20, repaired, KL annealed, no warm start",
    {**_SAVAE_USING_Z, **_ANNEALED},
    **_USING_Z,
  ),
  Row(
    "vae-free-bits", "VAE (Adam), 0.5 free nats per latent", {**_VAE_USING_Z, "free_bits": 0.5}, **_USING_Z
  ),
  Row(
    "savae-free-bits",
    "SA-VAE K=20, repaired, no warm start, 0.5 free nats per latent",
    {**_SAVAE_USING_Z, "free_bits": 0.5},
    **_USING_Z,
  ),
)


def _with_data(examples: int, epochs: int) -> tuple[Row, ...]:
  """The same with more than the paper's 5,000 sequences to learn from, and as many as before to test on."""
  data = {"train_examples": examples, "epochs": epochs, **_ANNEALED, "beta_warmup_epochs": epochs / 2}
  of = {"part": "data", "columns": ("learned",)}
  words = f"KL annealed, {examples:,} training sequences"
  return (
    Row(f"data-vae-{examples}", f"VAE (Adam), {words}", {**_VAE_USING_Z, **data}, **of),
    Row(f"data-savae-{examples}", f"SA-VAE K=20, repaired, {words}", {**_SAVAE_USING_Z, **data}, **of),
  )


# Posteriors and steps that the paper does not have. Nothing is searched: settings are those that were chosen for the
# VAE and the repaired SA-VAE.
_VAE_CHOSEN = {"model": "vae", "k": 0, "optimizer": "adam", "learning_rate": 1e-2, "epochs": 25}
_SAVAE_CHOSEN = {**_REPAIRED, "svi_lr": 0.01, "epochs": 5}
# Natural steps reach the optimum of a family in 20 steps, up to the noise of their draws. 8 draws are enough to train.
_SAVAE_NATURAL = {
  **_REPAIRED,
  "svi_rule": "natural",
  "svi_lr": 0.5,
  "svi_samples": 8,
  "learn_svi_lr": "none",
  "epochs": 1,
}
_MANY_DRAWS = {"svi_samples": 256}


def _beyond(
  key: str,
  name: str,
  base: Settings,
  after: str | None = None,
  test_settings: Settings | None = None,
  **settings: Any,
) -> Row:
  """A row of Oracle Gen, on the first oracle."""
  of = {"after": after, "part": "beyond", "columns": ("oracle",), "test_settings": test_settings or {}}
  return Row(key, name, {**base, **settings}, **of)


def _natural(key: str, name: str, after: str, **settings: Any) -> Row:
  """SA-VAE with natural steps, of many draws on test data."""
  return _beyond(key, f"SA-VAE K=20, natural steps, {name}", _SAVAE_NATURAL, after, _MANY_DRAWS, **settings)


_BEYOND = (
  _beyond("beyond-vae", "VAE (Adam)", _VAE_CHOSEN),
  _beyond("beyond-savae", "SA-VAE K=20, repaired", _SAVAE_CHOSEN, after="beyond-vae"),
  _beyond("vae-full", "VAE (Adam), full covariance", _VAE_CHOSEN, posterior="full"),
  _beyond("vae-iaf", "VAE (Adam), inverse autoregressive flow", _VAE_CHOSEN, posterior="iaf"),
  _natural("natural-diagonal", "diagonal", "beyond-vae"),
  _natural("natural-full", "full covariance", "vae-full", posterior="full"),
  _natural("natural-iaf", "inverse autoregressive flow", "vae-iaf", posterior="iaf"),
  _beyond(
    "savae-full", "SA-VAE K=20, repaired, full covariance", _SAVAE_CHOSEN, after="vae-full", posterior="full"
  ),
  _beyond(
    "savae-iaf",
    "SA-VAE K=20, repaired, inverse autoregressive flow",
    _SAVAE_CHOSEN,
    after="vae-iaf",
    posterior="iaf",
  ),
  _beyond(
    "savae-learned-rule",
    "SA-VAE K=20, repaired, learned rule",
    _SAVAE_CHOSEN,
    after="beyond-vae",
    svi_rule="learned",
    svi_lr=0.3,
    learn_svi_lr="step",
  ),
  _beyond(
    "savae-implicit",
    "SA-VAE K=20, repaired, implicit adjoint",
    _SAVAE_CHOSEN,
    after="beyond-vae",
    adjoint="implicit",
    learn_svi_lr="none",
  ),
)

_DATA = (*_with_data(50_000, epochs=4), *_with_data(500_000, epochs=1))


def _train_k(k: int) -> Row:
  """The repaired SA-VAE with another K; K = 0 is a VAE, whose steps at test time are the same schedule's."""
  settings = {**_REPAIRED, "k": k, "svi_lr": 0.03, "epochs": 5}
  if k == 0:
    settings |= {**_OF_VAE, "k": 20, "eval_k": 0}
  name = f"K = {k}" if k else "K = 0 (VAE)"
  return Row(f"train-k{k}", name, settings, after="vae-adam", part="train_k", columns=("oracle",))


_TRAIN_K = tuple(_train_k(k) for k in (0, 5, 10, 20, 40))

ROWS = (*_TABLE, *_BEYOND, *_ABLATION, *_TRAIN_K, *_DATA)


def get(key: str) -> Row:
  """The row of a key.

  Raises:
    UserError: there is none.
  """
  for row in ROWS:
    if row.key == key:
      return row
  raise UserError(f"unknown row {key}; the rows are {', '.join(row.key for row in ROWS)}")


@dataclasses.dataclass(frozen=True)
class Budget:
  """Sizes of the experiment.

  Attributes:
    candidates: largest number of candidates per search.
    oracle_seeds, seeds: number of each, unless flags say otherwise; all training seeds are used with the first oracle.
    examples: largest number of examples evaluated per split.
    draws: noise draws per bound.
    truth: largest number of test points whose true likelihood, and so whose gap, is computed.
    grid_sizes: reading → points per axis of its grid. Compared with 61 on 250 points, 41 is 1e-4 nats too low on
      average if the LSTM sees z, which makes posteriors rough. If the output layer sees z, 31 is off by less than 1e-6.
      They take a tenth and a thirtieth of a second per point.
    best: number of test points whose best Gaussian is looked for.
    preset: preset of the runs.
    settings: settings of every run, which override those of its row.
    limits: largest values of settings.
  """

  candidates: int = 3
  oracle_seeds: int = 2
  seeds: int = 3
  examples: int = 2000
  draws: int = 20
  truth: int = 2000
  grid_sizes: Settings = dataclasses.field(default_factory=lambda: {"lstm_input": 41, "output_layer": 31})
  best: int = 500
  preset: str = "small"
  settings: Settings = dataclasses.field(default_factory=dict)
  limits: Settings = dataclasses.field(default_factory=dict)


BUDGETS = {
  "full": Budget(),
  "small": Budget(
    oracle_seeds=1, seeds=1, examples=1000, truth=500, limits={"epochs": 3}
  ),  # a look at all of it
  "tiny": Budget(  # for tests: its numbers mean nothing
    candidates=1,
    oracle_seeds=1,
    seeds=1,
    examples=40,
    draws=2,
    truth=20,
    grid_sizes={"lstm_input": 21, "output_layer": 21},
    best=20,
    preset="tiny",
    settings={"max_steps": 2, "batch_size": 20},
    limits={"epochs": 1, "k": 2, "svi_samples": 2},
  ),
}


def run_settings(row: Row, candidate: int, column: str, budget: Budget) -> dict[str, Any]:
  """Arguments of `presets.make_config` for a run of the row, without data, seeds and directories."""
  settings = {**COMMON, **OF_COLUMN[column], **row.settings, **row.candidates[candidate]}
  if settings["model"] == "svi" and column == "oracle":
    settings["max_steps"] = 1  # nothing is trained
  # Compiling takes longer than a whole training without refinement.
  trains_long = settings["k"] > 0 and settings["model"] != "vae" and settings.get("max_steps") != 1
  settings["jit_compile"] = "true" if trains_long and budget.preset != "tiny" else "false"
  settings |= budget.settings
  settings |= {name: min(settings[name], most) for name, most in budget.limits.items() if name in settings}
  return {"dataset": "synthetic", "preset": budget.preset, **settings}


def test_settings(row: Row, budget: Budget) -> Settings:
  """Settings of the steps on test data that differ from those of `run_settings`."""
  limits = budget.limits
  return {name: min(value, limits.get(name, value)) for name, value in row.test_settings.items()}


def candidates(row: Row, budget: Budget) -> range:
  """Indices of the candidates that are tried."""
  return range(min(len(row.candidates), budget.candidates))
