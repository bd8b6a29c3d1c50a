"""The names of rules, adjoints and noise draws. No TensorFlow."""

from __future__ import annotations

from tf_savae.registry import Registry

RULES: Registry[type] = Registry(
  "step rule",
  {
    "gradient": "tf_savae.svi.rules:GradientStep",
    "natural": "tf_savae.svi.rules:NaturalGradient",
    "natural_multiplicative": "tf_savae.svi.rules:MultiplicativeNaturalGradient",
    "adam": "tf_savae.svi.rules:Adam",
  },
)

ADJOINTS: Registry[type] = Registry(
  "adjoint",
  {
    "exact": "tf_savae.svi.adjoint:ExactAdjoint",
    "stored": "tf_savae.svi.adjoint:StoredAdjoint",
    "unrolled": "tf_savae.svi.adjoint:UnrolledAdjoint",
    "finite_difference": "tf_savae.svi.adjoint:FiniteDifferenceAdjoint",
    "truncated": "tf_savae.svi.adjoint:TruncatedAdjoint",
    "first_order": "tf_savae.svi.adjoint:FirstOrderAdjoint",
  },
)

DRAWS: Registry[type] = Registry(
  "kind of noise draws",
  {
    "independent": "tf_savae.svi.noise:Independent",
    "antithetic": "tf_savae.svi.noise:Antithetic",
    "signs": "tf_savae.svi.noise:Signs",
    "mean": "tf_savae.svi.noise:AtMean",
    "quadrature": "tf_savae.svi.noise:Quadrature",
  },
)
