"""Training runs: settings, run directory, checkpoints, and what is shown meanwhile.

    from tf_savae.training import make_config, run
    results = run(make_config(dataset="omniglot", preset="tiny", k=5, run_dir="runs/mine"))

Nothing here imports TensorFlow before `run` is called.
"""

from __future__ import annotations

from typing import Any

from tf_savae.runs.config import RunConfig
from tf_savae.runs.presets import make_config

__all__ = ["RunConfig", "make_config", "run"]


def run(config: RunConfig) -> dict[str, Any]:
  """Trains or evaluates as `config` says; see `tf_savae.training.loop.run`."""
  from tf_savae.training import loop

  return loop.run(config)
