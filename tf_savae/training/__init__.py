"""Training runs: settings, run directory, checkpoints, and what is shown meanwhile.

    from tf_savae.training import make_config, run
    results = run(make_config(dataset="omniglot", preset="tiny", k=5, run_dir="runs/mine"))

With data or a model of your own the same call keeps all promises of a run: it can be killed and resumed, it is logged
for TensorBoard, and its directory can be evaluated and exported.

    data = tf_savae.data.images_from_arrays(train, valid, test, source="photographs of leaves")
    run(make_config(dataset="omniglot", model="savae", k=5, run_dir="runs/leaves"), data=data, model=model)

Nothing here imports TensorFlow before `run` is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tf_savae.runs.config import RunConfig
from tf_savae.runs.presets import make_config

if TYPE_CHECKING:
  import keras

  from tf_savae.data.dataset import DataSet
  from tf_savae.model import SAVAE

__all__ = ["RunConfig", "make_config", "run"]


def run(
  config: RunConfig,
  data: DataSet | None = None,
  model: SAVAE | None = None,
  callbacks: Sequence[keras.callbacks.Callback] = (),
  *,
  splits: Sequence[str] = ("valid", "test"),
) -> dict[str, Any]:
  """Trains or evaluates as `config` says, on data and a model of your own where they are given.

  See `tf_savae.training.loop.run` for what they must be.
  """
  from tf_savae.training import loop

  return loop.run(config, data, model, callbacks, splits=splits)
