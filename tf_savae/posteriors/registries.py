"""The names of posterior families. No TensorFlow."""

from __future__ import annotations

from tf_savae.registry import Registry

#: Posterior families by name, as `--posterior` and `SAVAE(posterior=...)` take them.
POSTERIORS: Registry[type] = Registry(
  "posterior family",
  {
    "diagonal": "tf_savae.posteriors.family:Diagonal",
    "full": "tf_savae.posteriors.full_covariance:FullCovariance",
    "iaf": "tf_savae.posteriors.inverse_autoregressive:InverseAutoregressiveFlow",
  },
)
