"""Settings that a run cannot use are named."""

from __future__ import annotations

import pytest

from tf_savae.runs.presets import make_config
from tf_savae.runs.unused import unused


@pytest.mark.parametrize(
  ("given", "expected"),
  [
    ({"dataset": "omniglot", "vocab_size": 50}, {"vocab_size": "--dataset=omniglot"}),
    ({"dataset": "omniglot", "image_size": 64}, {"image_size": "--dataset=omniglot"}),
    ({"dataset": "images", "image_size": 64}, {}),
    ({"dataset": "text", "conv_channels": 8}, {"conv_channels": "--model=savae --decoder=lstm"}),
    ({"dataset": "text", "decoder": "dilated_conv", "conv_channels": 8, "hidden_dim": 9}, {}),
    (
      {"dataset": "text", "decoder": "dilated_conv", "model": "autoreg", "hidden_dim": 9},
      {"hidden_dim": "--model=autoreg --decoder=dilated_conv"},
    ),
    ({"svi_rule": "natural", "svi_momentum": 0.3}, {"svi_momentum": "--svi_rule=natural"}),
    ({"svi_momentum": 0.3, "svi_clip_norm": 5.0, "dropout": 0.1}, {}),
    (
      {"adjoint": "exact", "adjoint_steps": 3, "fd_radius": 0.1},
      {"adjoint_steps": "--adjoint=exact", "fd_radius": "--adjoint=exact"},
    ),
    ({"adjoint": "truncated", "adjoint_steps": 3}, {}),
    ({"posterior": "full", "iaf_flows": 3}, {"iaf_flows": "--posterior=full"}),
    ({"posterior": "iaf", "iaf_flows": 3, "iaf_hidden": 8}, {}),
    ({"model": "vae_svi", "adjoint": "stored"}, {"adjoint": "--model=vae_svi"}),
    ({"model": "vae", "k": 20, "svi_lr": 0.1}, {"svi_lr": "--model=vae"}),
    ({"model": "vae", "eval_k": 2, "svi_lr": 0.1}, {}),
    ({"model": "autoreg", "svi_rule": "adam"}, {"svi_rule": "--model=autoreg"}),
    ({"model": "svi", "bn_gamma": 0.5}, {"bn_gamma": "--model=svi"}),
    (
      {"iwae_samples": 9, "init_networks": "encoder"},
      {"iwae_samples": "--objective=elbo", "init_networks": "no --init_from"},
    ),
    ({"iwae_samples": 9, "objective": "iwae"}, {}),
  ],
  ids=str,
)
def test_what_has_no_effect_is_named_with_what_makes_it_so(given, expected):
  assert unused(make_config(preset="tiny", **given), given) == expected
