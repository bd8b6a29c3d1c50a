"""Semi-amortized variational autoencoders (Kim et al., ICML 2018) in TensorFlow and Keras.

Names are imported when they are first used: TensorFlow takes seconds to import, and the command line must answer
`--help` and a wrong flag at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from tf_savae.model import SAVAE
  from tf_savae.posterior import GaussianParams
  from tf_savae.svi.refine import Refinement, refine
  from tf_savae.svi.settings import SVISettings

__version__ = "0.1.0"

_HOMES = {
  "SAVAE": "tf_savae.model",
  "GaussianParams": "tf_savae.posterior",
  "Refinement": "tf_savae.svi.refine",
  "refine": "tf_savae.svi.refine",
  "SVISettings": "tf_savae.svi.settings",
}

__all__ = ["SAVAE", "GaussianParams", "Refinement", "SVISettings", "refine"]


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
  return sorted([*globals(), *_HOMES])
