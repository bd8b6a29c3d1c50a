"""The refinement of λ and how it is differentiated (paper, section 3).

`rules` says what one step does, `noise` which draws it averages, `refine` takes K of them, `adjoint` differentiates
through them. Names are imported when they are first used; the two registries need no TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_savae import lazy
from tf_savae.svi.registries import ADJOINTS, DRAWS, RULES

if TYPE_CHECKING:
  from tf_savae.svi.adjoint import Adjoint
  from tf_savae.svi.rules import Rule
  from tf_savae.svi.settings import SVISettings

_HOMES = {
  "SVISettings": "tf_savae.svi.settings",
  "Rule": "tf_savae.svi.rules",
  "Adjoint": "tf_savae.svi.adjoint",
}

__all__ = ["ADJOINTS", "DRAWS", "RULES", "Adjoint", "Rule", "SVISettings"]
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
