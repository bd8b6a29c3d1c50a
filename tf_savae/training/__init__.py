"""Training runs: settings, run directory, checkpoints, and what is shown meanwhile.

    from tf_savae.training import make_config, run
    results = run(make_config(dataset="omniglot", preset="tiny", k=5, run_dir="runs/mine"))

With your own data or model the same call still makes a full run. It can be killed and resumed, it is logged for
TensorBoard, and it is evaluated at the end. `tf_savae.runs.restore.load_model` then returns its best model.

    data = tf_savae.data.images_from_arrays(train, valid, test, source="photographs of leaves")
    run(make_config(dataset="omniglot", model="savae", k=5, run_dir="runs/leaves"), data=data, model=model)

`run` is `tf_savae.training.loop.run`. Nothing here imports TensorFlow before `run` is asked for.
"""

from __future__ import annotations

from tf_savae import lazy
from tf_savae.runs.config import RunConfig
from tf_savae.runs.presets import make_config

__all__ = ["RunConfig", "make_config", "run"]
__getattr__, __dir__ = lazy.attach(__name__, {"run": "tf_savae.training.loop"})
