"""The settings that TensorBoard's HParams page shows of a run."""

from __future__ import annotations

import pytest

from tf_savae.runs.presets import make_config
from tf_savae.training import hparams


@pytest.mark.parametrize("dataset", ["omniglot", "text", "synthetic"])
def test_no_value_hides_a_run_among_numbers(dataset):
  shown = hparams.settings(make_config(dataset=dataset, preset="tiny"))
  assert "None" not in shown.values()
  assert {"model", "k", "svi_lr", "learning_rate", "preset"} <= shown.keys()
  assert not {"run_dir", "data_dir", "checkpoint_every"} & shown.keys()


def test_settings_without_effect_are_left_out():
  shown = hparams.settings(make_config(preset="tiny", model="vae"))
  assert not {"svi_lr", "svi_rule", "adjoint", "vocab_size", "conv_channels"} & shown.keys()
  assert "eval_k" in hparams.settings(make_config(preset="tiny", model="vae", eval_k=2, svi_lr=0.5))
  assert hparams.settings(make_config(preset="tiny", model="vae", eval_k=2, svi_lr=0.5))["svi_lr"] == 0.5


def test_the_settings_that_matter_most_come_first_in_the_order_of_names():
  names = sorted(map(hparams.column, hparams.settings(make_config(preset="tiny"))))
  first = ["model", "k", "svi_rule", "svi_lr", "learning_rate", "preset", "dataset", "decoder", "seed"]
  assert names[:9] == [f"{i} {name}" for i, name in enumerate(first, 1)]
  assert not any(name[0].isdigit() for name in names[9:])
