"""Posterior families: what q_λ is for given numbers λ. See `PosteriorFamily`."""

from __future__ import annotations

from tf_savae import lazy
from tf_savae.posteriors.registries import POSTERIORS

_HOMES = {
  "Diagonal": "tf_savae.posteriors.family",
  "FullCovariance": "tf_savae.posteriors.full_covariance",
  "InverseAutoregressiveFlow": "tf_savae.posteriors.inverse_autoregressive",
  "PosteriorFamily": "tf_savae.posteriors.family",
}
__all__ = ["POSTERIORS", *_HOMES]
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
