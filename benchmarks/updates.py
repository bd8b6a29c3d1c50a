"""The updates that `benchmarks.update_cost` compares, and their table."""

from __future__ import annotations

import statistics
from typing import Any, NamedTuple

_EARLY = {"decoder": "pixelcnn"}
_NATURAL = {**_EARLY, "svi_rule": "natural_multiplicative", "svi_lr": 0.8, "svi_lr_log_var": 0.3}
_SIGNS = {**_NATURAL, "svi_noise": "signs", "svi_samples": 2}
_MEAN = {**_NATURAL, "svi_noise": "mean"}
_QUADRATURE = {"decoder": "late_pixelcnn", "svi_rule": "natural", "svi_lr": 0.5, "svi_noise": "quadrature"}
_EXACT, _STORED = {"adjoint": "exact"}, {"adjoint": "stored"}
_ALONE = {"initial_loss_weight": 0.0, "initial_loss_trains": "encoder"}  # nothing but L(λ_K) in the loss
_PLAIN = {**_EARLY, "svi_rule": "gradient", "svi_lr": 0.02}
_PAIR = {"svi_rule": "natural", "svi_lr": 0.1, "svi_noise": "antithetic", "svi_samples": 2}
_SOFTMAX = {"latent_to": "softmax", **_PAIR}
_STATE = {"latent_to": "state", **_PAIR}


class Row(NamedTuple):
  """A method whose update is timed.

  Attributes:
    name: for the table.
    base: name of the row that its time is divided by.
    settings: of the run, besides the preset's.
  """

  name: str
  base: str
  settings: dict[str, Any]


ROWS = {
  "image": (
    Row("VAE", "VAE", {"model": "vae", **_EARLY}),
    Row("SA-VAE natural, mean, K=1", "VAE", {"model": "savae", "k": 1, **_MEAN, **_EXACT}),
    Row("SA-VAE natural, mean, K=1, stored", "VAE", {"model": "savae", "k": 1, **_MEAN, **_STORED}),
    Row(
      "SA-VAE natural, mean, K=1, stored, without L(λ_0)",
      "VAE",
      {"model": "savae", "k": 1, **_MEAN, **_STORED, **_ALONE},
    ),
    Row("SA-VAE natural, signs, K=1", "VAE", {"model": "savae", "k": 1, **_SIGNS, **_EXACT}),
    Row("SA-VAE natural, signs, K=1, stored", "VAE", {"model": "savae", "k": 1, **_SIGNS, **_STORED}),
    Row("SA-VAE natural, signs, K=2, stored", "VAE", {"model": "savae", "k": 2, **_SIGNS, **_STORED}),
    Row("VAE+SVI 1 natural, signs, K=1", "VAE", {"model": "vae_svi", "k": 1, **_SIGNS}),
    Row("SA-VAE plain, K=1", "VAE", {"model": "savae", "k": 1, **_PLAIN}),
    Row("VAE late", "VAE late", {"model": "vae", **_QUADRATURE}),
    Row("VAE+SVI 1 late, quadrature, K=4", "VAE late", {"model": "vae_svi", "k": 4, **_QUADRATURE}),
    Row("SA-VAE late, quadrature, K=4", "VAE late", {"model": "savae", "k": 4, **_QUADRATURE}),
    Row("SA-VAE late, quadrature, K=20", "VAE late", {"model": "savae", "k": 20, **_QUADRATURE}),
  ),
  "text": (
    Row("VAE", "VAE", {"model": "vae", **_SOFTMAX}),
    Row("VAE+SVI 1, K=4", "VAE", {"model": "vae_svi", "k": 4, **_SOFTMAX}),
    Row("SA-VAE, K=4", "VAE", {"model": "savae", "k": 4, **_SOFTMAX}),
    Row("SA-VAE, K=20", "VAE", {"model": "savae", "k": 20, **_SOFTMAX}),
    Row("VAE state", "VAE state", {"model": "vae", **_STATE}),
    Row("SA-VAE state, K=4", "VAE state", {"model": "savae", "k": 4, **_STATE}),
  ),
}


def table(rows: list[Row], seconds: dict[str, list[float]]) -> str:
  """Milliseconds and ratios as Markdown."""
  lines = ["| update | ms | VAE = 1 |", "|---|---|---|"]
  for row in rows:
    of_row, of_base = seconds[row.name], seconds[row.base]
    ratio = statistics.median(a / b for a, b in zip(of_row, of_base, strict=True))
    lines.append(f"| {row.name} | {1000 * statistics.median(of_row):.1f} | {ratio:.2f} |")
  return "\n".join(lines)
