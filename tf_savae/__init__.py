"""Semi-amortized variational autoencoders (Kim et al., ICML 2018) in TensorFlow and Keras.

Names are imported when they are first used: TensorFlow takes seconds to import, and the command line must answer
`--help` and a wrong flag at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_savae import lazy

if TYPE_CHECKING:
  from tf_savae.model import SAVAE
  from tf_savae.posterior import GaussianParams
  from tf_savae.svi.refine import Refinement, refine
  from tf_savae.svi.settings import SVISettings

__version__ = "0.2.0"
__license__ = "Apache-2.0"  # SPDX; pyproject.toml says the same

_HOMES = {
  "SAVAE": "tf_savae.model",
  "GaussianParams": "tf_savae.posterior",
  "Refinement": "tf_savae.svi.refine",
  "refine": "tf_savae.svi.refine",
  "SVISettings": "tf_savae.svi.settings",
}

__all__ = ["SAVAE", "GaussianParams", "Refinement", "SVISettings", "refine"]
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
